"""Opening ``runtime/journal.db``: locked, checked, migrated, and put aside when it is damaged."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kagent_sdk.errors import StorageError, StorageLockedError
from kagent_sdk.storage.faults import is_damage
from kagent_sdk.storage.quarantine import put_aside
from kagent_sdk.storage.schema import AGENT_SCHEMA, Schema, migrate
from kagent_sdk.storage.space import fold_log

Durability = Literal["process", "power", "none"]

SIDE_FILES = ("-wal", "-shm", "-journal")
"""The last one is there when a file was not yet, or never, in WAL mode."""

CACHED_STATEMENTS = 256
BUSY_TIMEOUT_S = 5.0
"""Other processes only read (the command line), and that does not block a writer in WAL mode."""

WAL_LIMIT_BYTES = 16 * 1024 * 1024
"""What is left of the write-ahead log after a checkpoint; it grows beyond while it must."""

SMALLEST_DATABASE_BYTES = 512
"""One page of the smallest size (https://www.sqlite.org/fileformat2.html)."""

CHECK_AFTER_CRASH_BYTES = 16 * 1024 * 1024
"""A file up to this size is checked whole after a crash (40 ms for 16 MiB where this was written):
a disk that lies about what it wrote shows then, and so does a log that belongs to another file."""

_SYNCHRONOUS = {"process": "NORMAL", "power": "FULL", "none": "OFF"}


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
        """Fold the log into the file, close the database and give the lock back."""
        try:
            if self.lock is not None:
                fold_log(self.connection)
            self.connection.close()
        finally:
            if self.lock is not None:
                os.close(self.lock)


def open_database(
    path: Path | None, durability: Durability, *, now_s: float, schema: Schema = AGENT_SCHEMA
) -> Opened:
    """Open the database, or make it; it blocks, so call it in a thread.

    A file that is damaged or no database of ours is put aside with its side files, and a new one is
    made: what to do about that is the caller's business.

    Args:
        path: None for one in memory.
        durability: whether a commit survives the death of the process, or of the machine too.
        now_s: seconds since the epoch, for the name of a file that is put aside.
        schema: the tables that it has, or gets.

    Raises:
        StorageLockedError: another process has it open.
        StorageVersionError: it was written by a newer release; it is left as it is.
        StorageError: it cannot be opened, for a reason that trying again may not meet.
    """
    if path is None:
        connection = _connect(":memory:")
        migrate(connection, schema=schema)
        return Opened(connection, is_new=True, quarantined=None, lock=None)
    lock = lock_database(path)
    try:
        return _open_locked(path, durability, lock, now_s, schema)
    except sqlite3.Error as exc:
        os.close(lock)
        raise StorageError(f"cannot open {path.name}: {exc}") from exc
    except OSError as exc:
        os.close(lock)
        raise StorageError(f"cannot open {path.name}: {exc.strerror}") from exc
    except BaseException:
        os.close(lock)
        raise


def _open_locked(
    path: Path, durability: Durability, lock: int, now_s: float, schema: Schema
) -> Opened:
    suspect = suspect_mark(path)
    _refuse_all_but_files(path)
    quarantined = _put_orphan_aside(path, now_s)
    _create_private(path)
    is_suspect = suspect.exists() or _is_small_and_crashed(path)
    try:
        connection, is_new = _open_checked(path, durability, schema, is_suspect=is_suspect)
    except sqlite3.Error as exc:
        if not is_damage(exc):
            raise
        quarantined = put_aside(path, now_s, side_files=SIDE_FILES)
        _create_private(path)
        connection, is_new = _open_checked(path, durability, schema, is_suspect=False)
    try:
        suspect.unlink(missing_ok=True)
    except BaseException:
        connection.close()
        raise
    return Opened(connection, is_new, quarantined, lock)


def suspect_mark(path: Path) -> Path:
    """Return the file that tells the next start to check every page of the database."""
    return path.with_name(path.name + ".suspect")


def log_of(path: Path) -> Path:
    """Return the write-ahead log of a database."""
    return path.with_name(path.name + "-wal")


def log_bytes(path: Path) -> int:
    """Return how long the write-ahead log of a database is; 0 when that cannot be told."""
    with suppress(OSError):
        return log_of(path).stat().st_size
    return 0


def _refuse_all_but_files(path: Path) -> None:
    """Refuse links, folders and devices: SQLite would follow the first and fail on the others.

    Raises:
        StorageError: one of the database's files is none.
    """
    for name in (path.name, *(path.name + ending for ending in SIDE_FILES)):
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(path.with_name(name).lstat().st_mode):
                raise StorageError(
                    f"cannot open {path.name}: {name} is not a plain file (a link or a folder, "
                    "say); remove it, or link its whole folder instead"
                )


def _put_orphan_aside(path: Path, now_s: float) -> Path | None:
    """Save a log whose database is gone or empty: SQLite deletes it (sqlite.org/tempfiles.html)."""
    log = log_of(path)
    if _size_bytes(path) or not _size_bytes(log):
        return None
    return put_aside(log, now_s)


def _is_small_and_crashed(path: Path) -> bool:
    """Tell whether the last host left its log behind, and little enough to read it all."""
    left_bytes = _size_bytes(log_of(path))
    return left_bytes > 0 and left_bytes + _size_bytes(path) <= CHECK_AFTER_CRASH_BYTES


def _size_bytes(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _create_private(path: Path) -> None:
    """Make an empty file that only its owner reads: it will hold inputs and outputs of tasks.

    SQLite gives its side files the same permissions (sqlite.org/wal.html).
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _open_checked(
    path: Path, durability: Durability, schema: Schema, *, is_suspect: bool
) -> tuple[sqlite3.Connection, bool]:
    """Open a file, and tell whether there was nothing in it.

    Raises:
        sqlite3.Error: `is_damage` tells whether the file is to blame.
    """
    if 0 < _size_bytes(path) < SMALLEST_DATABASE_BYTES:
        raise _damage("it is too short")  # SQLite takes it for an empty one, and overwrites it
    connection = _connect(str(path))
    try:
        # Nothing is written before it is clear that the file is ours.
        is_empty = _check(connection, schema, is_suspect=is_suspect)
        _configure(connection, durability, is_empty=is_empty)
        before = migrate(connection, schema=schema)
        _check_tables(connection, schema)
    except BaseException:
        connection.close()
        raise
    return connection, before == 0


def _check(connection: sqlite3.Connection, schema: Schema, *, is_suspect: bool) -> bool:
    """Tell whether there is nothing in a database yet.

    Raises:
        sqlite3.Error: it is damaged, or none of ours.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    is_ours = application == schema.application_id and version > 0
    is_empty = (application, version, tables) == (0, 0, 0)
    if not (is_ours or is_empty):
        raise _damage(f"it is a database, but none of {schema.owner}")
    if is_suspect:
        (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise _damage(str(verdict))
    return is_empty


def _check_tables(connection: sqlite3.Connection, schema: Schema) -> None:
    """Refuse a database that lacks a table, or that would run statements of its own.

    What is there besides (an index that someone added by hand) does no harm.
    """
    known = sqlite3.connect(":memory:", isolation_level=None)
    try:
        migrate(known, schema=schema)
        missing = _entries(known) - _entries(connection)
    finally:
        known.close()
    if missing:
        raise _damage(f"the {' '.join(min(missing))} is missing")
    foreign = [entry for entry in _entries(connection) if entry[0] in {"trigger", "view"}]
    if foreign:
        raise _damage(f"there is a {foreign[0][0]} in it")


def _entries(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    rows = connection.execute("SELECT type, name FROM sqlite_schema")
    return {(kind, name) for kind, name in rows if not name.startswith("sqlite_")}


def _damage(message: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(message)
    error.sqlite_errorcode = sqlite3.SQLITE_NOTADB
    return error


def _pass_on(value: Any) -> Any:
    return value


# For every value of these types sqlite3 looks for an adapter, and for other ways when there is none:
# that takes longer than to bind it.
sqlite3.register_adapter(bytes, _pass_on)
sqlite3.register_adapter(type(None), _pass_on)


def _connect(name: str) -> sqlite3.Connection:
    """Open a connection that has not looked at the file yet."""
    connection = sqlite3.connect(
        name,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=CACHED_STATEMENTS,
    )
    try:
        # A damaged or hostile file must not make SQLite run anything (sqlite.org/security.html).
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def connect(name: str, durability: Durability) -> sqlite3.Connection:
    """Make an empty database as all of ours are, and nothing more.

    Raises:
        sqlite3.Error: it cannot be made.
    """
    connection = _connect(name)
    try:
        _configure(connection, durability, is_empty=True)
    except BaseException:
        connection.close()
        raise
    return connection


def _configure(connection: sqlite3.Connection, durability: Durability, *, is_empty: bool) -> None:
    if is_empty:
        # Lets the file shrink again, page by page; without effect once there are tables.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[durability]}")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")


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
    except OSError as exc:  # a file system that has no locks, say
        os.close(lock)
        raise StorageError(f"cannot lock {name.name}: {exc.strerror}") from exc
    return lock
