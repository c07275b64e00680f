"""Reading one moment of the database while others write: a connection that only reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kagent_sdk.errors import StorageError
from kagent_sdk.storage.database import BUSY_TIMEOUT_S, log_bytes

VIEW_GROWTH_BYTES = 512 * 1024 * 1024
"""What the write-ahead log may grow by while someone looks at an older moment: it cannot be
reused before that ends, and would fill the disk (sqlite.org/wal.html, "Avoiding Excessively
Large WAL Files")."""

CHECK_EVERY_STEPS = 1000
"""Steps of SQLite's machine, some tens of microseconds, between two looks at the log."""


def open_reader(path: Path) -> sqlite3.Connection:
    """Open another connection that can only read, and begin to: what it sees stands still.

    Raises:
        sqlite3.Error: there is no database, or it cannot be read.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("BEGIN")
        # The snapshot is taken by the first read, not by BEGIN (sqlite.org/lang_transaction.html).
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def bounded_reader(path: Path) -> Iterator[sqlite3.Connection]:
    """Give a reader whose statements fail once too much was written since it was opened.

    Raises:
        sqlite3.Error: the database cannot be read.
        StorageError: too much was written meanwhile.
    """
    connection = open_reader(path)
    try:
        grew_too_far = _growth_check(path)
        connection.set_progress_handler(grew_too_far, CHECK_EVERY_STEPS)
        yield connection
    except sqlite3.OperationalError as exc:
        if getattr(exc, "sqlite_errorcode", None) != sqlite3.SQLITE_INTERRUPT:
            raise
        raise StorageError(
            f"reading {path.name} was given up: over {VIEW_GROWTH_BYTES // 2**20} MiB were written "
            "meanwhile; try again when the agent is less busy"
        ) from exc
    finally:
        connection.close()


def _growth_check(path: Path) -> Callable[[], bool]:
    limit_bytes = log_bytes(path) + VIEW_GROWTH_BYTES
    return lambda: log_bytes(path) > limit_bytes
