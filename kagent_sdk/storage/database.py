"""Opening ``runtime/journal.db``: locked, checked, migrated, and put aside when it is damaged."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kagent_sdk.errors import StorageError, StorageLockedError
from kagent_sdk.storage.quarantine import put_aside
from kagent_sdk.storage.schema import APPLICATION_ID, migrate

Durability = Literal["process", "power", "none"]

SIDE_FILES = ("-wal", "-shm")
CACHED_STATEMENTS = 256
BUSY_TIMEOUT_S = 5.0
"""Other processes only read (the command line), and that does not block a writer in WAL mode."""

WAL_LIMIT_BYTES = 16 * 1024 * 1024
"""What is left of the write-ahead log after a checkpoint; it grows beyond while it must."""

_SYNCHRONOUS = {"process": "NORMAL", "power": "FULL", "none": "OFF"}

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@dataclass(frozen=True, slots=True)
class Opened:
    """An open database.

    Attributes:
        connection: in autocommit mode; for one thread at a time.
        is_new: there was no database, or none that could be used.
        quarantined: where a damaged one was put; None when there was none.
        lock: the descriptor that holds the lock; None in memory.
    """

    connection: sqlite3.Connection
    is_new: bool
    quarantined: Path | None
    lock: int | None

    def close(self) -> None:
        """Close the database and give the lock back."""
        self.connection.close()
        if self.lock is not None:
            os.close(self.lock)


def open_database(path: Path | None, durability: Durability, *, now_s: float) -> Opened:
    """Open the database, or make it; it blocks, so call it in a thread.

    A file that is damaged or no database of ours is put aside with its side files, and a new one is
    made: what to do about that is the caller's business.

    Args:
        path: None for one in memory.
        durability: whether a commit survives the death of the process, or of the machine too.
        now_s: seconds since the epoch, for the name of a file that is put aside.

    Raises:
        StorageLockedError: another process has it open.
        StorageVersionError: it was written by a newer release.
        StorageError: it cannot be opened, for a reason that trying again may not meet.
    """
    if path is None:
        connection = connect(":memory:", durability)
        migrate(connection)
        return Opened(connection, is_new=True, quarantined=None, lock=None)
    lock = lock_database(path)
    try:
        return _open_locked(path, durability, lock, now_s)
    except BaseException:
        os.close(lock)
        raise


def _open_locked(path: Path, durability: Durability, lock: int, now_s: float) -> Opened:
    quarantined: Path | None = None
    suspect = suspect_mark(path)
    is_new = not path.exists()
    try:
        connection = _open_checked(path, durability, is_suspect=suspect.exists())
    except sqlite3.Error as exc:
        if not is_damage(exc):
            raise StorageError(f"cannot open {path.name}: {exc}") from exc
        quarantined = put_aside(path, now_s, side_files=SIDE_FILES)
        is_new = True
        connection = _open_checked(path, durability, is_suspect=False)
    suspect.unlink(missing_ok=True)
    return Opened(connection, is_new, quarantined, lock)


def suspect_mark(path: Path) -> Path:
    """Return the file that tells the next start to check every page of the database."""
    return path.with_name(path.name + ".suspect")


def is_damage(error: sqlite3.Error) -> bool:
    """Tell whether an error means that the file itself is damaged, or no database."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _DAMAGED  # the low byte is the primary code


def _open_checked(path: Path, durability: Durability, *, is_suspect: bool) -> sqlite3.Connection:
    connection = connect(str(path), durability)
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if tables and application != APPLICATION_ID:
            raise _damage("it is a database, but none of an agent")
        if is_suspect:
            (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != "ok":
                raise _damage(str(verdict))
        migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _damage(message: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(message)
    error.sqlite_errorcode = sqlite3.SQLITE_NOTADB
    return error


def connect(name: str, durability: Durability) -> sqlite3.Connection:
    """Open or make a database file as all of ours are, and nothing more.

    Raises:
        sqlite3.Error: it cannot be opened.
    """
    connection = sqlite3.connect(
        name,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=CACHED_STATEMENTS,
    )
    try:
        # Takes effect before the first table alone: lets the file shrink again, page by page.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[durability]}")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
        # A damaged or hostile file must not make SQLite run anything (sqlite.org/security.html).
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
    except BaseException:
        connection.close()
        raise
    return connection


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


def lock_database(path: Path) -> int:
    """Take the lock that keeps two hosts from running the same tasks; closing it gives it back.

    Args:
        path: of the database; the lock is a file beside it, which stays.

    Raises:
        StorageLockedError: another process has it.
        StorageError: it cannot be made.
    """
    name = path.with_name(path.name + ".lock")
    try:
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise StorageError(f"cannot open {name.name}: {exc.strerror}") from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise StorageLockedError(path.name) from None
    return lock
