"""Real database files for the tests of the storage room, and operations to use them with."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

from kagent_sdk.storage.database import Durability, Opened, open_database
from kagent_sdk.storage.thread import Storage

_OWN_NAMES = frozenset({"state_version", "state_bytes", "state_keys", "recovered_at"})
NOW_S = 1_750_000_000.0


@contextmanager
def opened(path: Path | None, durability: Durability = "process") -> Iterator[Opened]:
    """Open a database for the time of the block."""
    database = open_database(path, durability, now_s=NOW_S)
    try:
        yield database
    finally:
        database.close()


@asynccontextmanager
async def opened_storage(
    path: Path | None,
    *,
    durability: Durability = "process",
    troubles: list[str | None] | None = None,
) -> AsyncIterator[Storage]:
    """Open a storage for the time of the block."""
    heard: list[str | None] = [] if troubles is None else troubles
    storage = Storage(path, durability, on_trouble=heard.append, clock=lambda: NOW_S)
    await storage.open()
    try:
        yield storage
    finally:
        await storage.aclose()


def put(name: str, value: object = 1) -> Callable[[sqlite3.Connection], None]:
    """Return an operation that writes a name that nobody has yet."""

    def operation(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO meta VALUES (?, ?)", (name, value))

    return operation


def put_and_raise(name: str, error: BaseException) -> Callable[[sqlite3.Connection], None]:
    """Return an operation that fails after it has written."""

    def operation(connection: sqlite3.Connection) -> None:
        put(name)(connection)
        raise error

    return operation


def fail(error: BaseException) -> Callable[[sqlite3.Connection], None]:
    """Return an operation that fails before it has written."""

    def operation(_connection: sqlite3.Connection) -> None:
        raise error

    return operation


def disk_fault(code: int, message: str) -> sqlite3.OperationalError:
    """Return the error that SQLite raises for a fault of the machine."""
    error = sqlite3.OperationalError(message)
    error.sqlite_errorcode = code
    return error


def names(connection: sqlite3.Connection) -> list[str]:
    """Return what `put` has written, in its order."""
    rows = connection.execute("SELECT name FROM meta ORDER BY name")
    return [name for (name,) in rows if name not in _OWN_NAMES]


def read_names(path: Path) -> list[str]:
    """Return what `put` has written to a file that nobody has open; it must be whole."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return names(connection)


def copy_as_crashed(path: Path, target: Path) -> Path:
    """Copy the files of an open database as a power cut would leave them; return the copy."""
    for ending in ("", "-wal"):
        shutil.copy(path.with_name(path.name + ending), target.with_name(target.name + ending))
    return target


def files_in(folder: Path) -> list[str]:
    """Return the names of what is in a folder, in order."""
    return sorted(file.name for file in folder.iterdir())


class Gate:
    """An operation that holds the thread, so that what comes after it becomes one group."""

    def __init__(self, storage: Storage) -> None:
        self._entered = threading.Event()
        self._go_on = threading.Event()
        self._done = storage.read(self._wait)

    async def __aenter__(self) -> None:
        await asyncio.to_thread(self._entered.wait)

    async def __aexit__(self, *_exc: object) -> None:
        self.open()
        await self._done

    def open(self) -> None:
        """Let the thread go on."""
        self._go_on.set()

    def _wait(self, _connection: sqlite3.Connection) -> None:
        self._entered.set()
        self._go_on.wait()
