"""A process that writes to a storage for as long as its stdin is open, and notes what it was told.

::

    python -m tests.integration.steady_writer runtime/journal.db process notes RUN

Each line of the notes: ``kept ID``, ``refused ID``, ``trouble TEXT``, ``well``, ``open``, ``closed``
or ``failed TEXT``. Every id in the database is also counted there, in the same transaction.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

from kagent_sdk.errors import StorageError
from kagent_sdk.storage.database import Durability
from kagent_sdk.storage.thread import Storage

WRITERS = 6
MUST_WRITERS = 2
LARGEST_BYTES = 12_000
"""Some need pages of their own, so that the log and the file both grow."""


def keep(key: str, value: bytes) -> Callable[[sqlite3.Connection], None]:
    """Return an operation that writes a key and counts it."""

    def operation(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO state VALUES (?, 1, NULL, ?)", (key, value))
        connection.execute("UPDATE meta SET value = value + 1 WHERE name = 'state_keys'")

    return operation


class Writer:
    """Writes one key after the other, and notes what became of each."""

    def __init__(self, storage: Storage, notes: int, run: str) -> None:
        self._storage = storage
        self._notes = notes
        self._numbers = count()
        self._run = run
        self._random = random.Random(run)  # noqa: S311 -- the same run writes the same

    def note(self, text: str) -> None:
        """Add a line that survives this process."""
        os.write(self._notes, f"{text}\n".encode())

    async def write(self, *, must: bool) -> None:
        """Write until the storage is closed."""
        while self._storage.is_open:
            key = f"{self._run}/{'must' if must else 'may'}/{next(self._numbers)}"
            value = self._random.randbytes(self._random.randrange(LARGEST_BYTES))
            try:
                await self._storage.write(keep(key, value), must=must)
            except StorageError:
                self.note(f"refused {key}")
                await asyncio.sleep(0.005)  # no more load than a caller who tries again makes
            else:
                self.note(f"kept {key}")


async def main(path: Path, durability: Durability, notes: int, run: str) -> None:
    """Write until stdin ends."""

    def hear(trouble: str | None) -> None:
        writer.note("well" if trouble is None else f"trouble {trouble}")

    storage = Storage(path, durability, on_trouble=hear)
    writer = Writer(storage, notes, run)
    try:
        await storage.open()
    except StorageError as error:
        writer.note(f"failed {error}")
        return
    writer.note("open")
    async with asyncio.TaskGroup() as jobs:
        for number in range(WRITERS + MUST_WRITERS):
            jobs.create_task(writer.write(must=number < MUST_WRITERS))
        await asyncio.to_thread(sys.stdin.read)
        await storage.aclose()
    writer.note("closed")


if __name__ == "__main__":
    _, file, chosen, log, name = sys.argv
    durabilities: dict[str, Durability] = {"process": "process", "power": "power"}
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    asyncio.run(main(Path(file), durabilities[chosen], descriptor, name))
