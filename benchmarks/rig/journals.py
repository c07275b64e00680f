"""Journals that are full before their agent starts: made with SQL, for none would fill one so fast.

``python -m rig.journals FILE TASKS KEYS``, with the interpreter that has kagent_sdk.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

from rig.contenders import INPUT, OUTPUT

if TYPE_CHECKING:
    from collections.abc import Iterator

MANIFEST = "benchmark"
VALUE_BYTES = 1000
PAGE_ROWS = 5000
KEY = "filled/{:07d}"

TASK_COLUMNS = (
    "seq, id, manifest, capability, state, attempt, conflicts, created_at, started_at, "
    "finished_at, size_bytes, traceparent, metadata, output, input"
)


def task_rows(count: int, now_s: float) -> Iterator[tuple[object, ...]]:
    """Yield finished tasks, the last of which has just ended."""
    given, answer = json.dumps(INPUT).encode(), json.dumps(OUTPUT).encode()
    size = 1024 + len(given) + len(answer)
    for number in range(1, count + 1):
        at = now_s - (count - number) * 0.01
        ends = (at, at, at, size, "", b"{}", answer, given)
        yield (number, f"filled-{number}", MANIFEST, "digest", "completed", 1, 0, *ends)


def state_rows(count: int) -> Iterator[tuple[str, int, bytes]]:
    """Yield keys, each with a value of `VALUE_BYTES`."""
    for number in range(count):
        # No two values are alike, and none can be packed: as far from a best case as text can be.
        text = os.urandom(VALUE_BYTES // 2).hex()[: VALUE_BYTES - 2]
        yield KEY.format(number), 1, json.dumps(text).encode()


def fill(path: str, tasks: int, keys: int) -> None:
    """Make a journal of so many finished tasks and so many keys of the state."""
    from kagent_sdk.protocol.manifest import CapabilityManifest  # noqa: PLC0415 - not in every
    from kagent_sdk.storage.schema import migrate  # noqa: PLC0415 - interpreter that imports this

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        migrate(connection)
        manifest = CapabilityManifest(name="digest", input_schema={}, output_schema={})
        connection.execute("BEGIN")
        connection.execute(
            "INSERT INTO manifests VALUES (?, ?)", (MANIFEST, manifest.model_dump_json())
        )
        marks = ",".join("?" * len(TASK_COLUMNS.split(",")))
        connection.executemany(
            f"INSERT INTO tasks ({TASK_COLUMNS}) VALUES ({marks})",  # noqa: S608 - columns of ours
            task_rows(tasks, time.time()),
        )
        connection.executemany(
            "INSERT INTO state (key, version, value) VALUES (?, ?, ?)", state_rows(keys)
        )
        used = keys * (len(KEY.format(0)) + VALUE_BYTES)
        totals = {"state_version": int(keys > 0), "state_keys": keys, "state_bytes": used}
        for name, value in totals.items():
            connection.execute("UPDATE meta SET value = ? WHERE name = ?", (value, name))
        connection.execute("COMMIT")


if __name__ == "__main__":
    fill(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
