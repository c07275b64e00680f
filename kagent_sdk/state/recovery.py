"""Where the state comes from when an agent starts: its database, or else a file beside it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from kagent_sdk.errors import StateFileError
from kagent_sdk.state.file_record import (
    ExportRecord,
    Problem,
    read_export,
    read_origin,
    read_problems,
    write_export,
    write_origin,
    write_problems,
)
from kagent_sdk.state.memory_file import FileLimits, open_memory_file
from kagent_sdk.state.memory_store import MemoryStore
from kagent_sdk.state.store import Usage, recount, usage
from kagent_sdk.storage.quarantine import put_aside

DATABASE = "database"
NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Recovery:
    """How the state came to be.

    Attributes:
        origin: `DATABASE`, the name of the file that was imported, or `NOTHING`: it begins empty.
        exported_at: when the imported file was written, as it says; None: by hand.
        usage: what there is.
        record: what is known of the file.
        problems: all files that were put aside, the newest last.
        found: how many of these now.
    """

    origin: str
    exported_at: str | None
    usage: Usage
    record: ExportRecord
    problems: tuple[Problem, ...]
    found: int


@dataclass(frozen=True, slots=True)
class Imported:
    """What was taken from a file.

    Attributes:
        keys: how many.
        sha256: of the file.
        exported_at: when it was written, as it says; None: by hand.
    """

    keys: int
    sha256: str
    exported_at: str | None


def recover(
    connection: sqlite3.Connection,
    store: MemoryStore,
    *,
    now_s: float,
    quarantined_database: str | None,
) -> Recovery:
    """Fill the state of a new database from ``memory_store.json``, or the version before it.

    A file that is not what it should be is put aside, never used in part and never deleted.

    Args:
        connection: in a transaction of the caller's.
        store: the files.
        now_s: seconds since the epoch.
        quarantined_database: name of a damaged database that this one replaces.

    Raises:
        OSError: a file cannot be put aside.
        sqlite3.Error: the database does not take it.
    """
    problems = read_problems(connection, store.folder)
    present = usage(connection)
    if read_origin(connection) is not None or present.version:
        return Recovery(DATABASE, None, present, read_export(connection), problems, found=0)
    origin, imported, found = _import_first(connection, store, now_s)
    if quarantined_database is not None:
        found = (_database_problem(quarantined_database, origin, imported, now_s), *found)
    record = ExportRecord(sha256=None if imported is None else imported.sha256)
    write_origin(connection, origin)
    write_export(connection, record)
    if found:
        write_problems(connection, (*problems, *found))
    exported_at = None if imported is None else imported.exported_at
    everything = (*problems, *found)
    return Recovery(origin, exported_at, usage(connection), record, everything, len(found))


def import_file(
    connection: sqlite3.Connection, path: Path, limits: FileLimits, *, now_s: float
) -> Imported:
    """Take all keys of a file into an empty state, or none; what has expired is left out.

    Raises:
        StateFileError: something is wrong with the file. Nothing was written.
        sqlite3.Error: the database does not take it, or holds one of the keys.
    """
    connection.execute("SAVEPOINT memory_store")
    try:
        with open_memory_file(path, limits) as file:
            version = usage(connection).version + 1
            connection.executemany(
                "INSERT INTO state (key, version, value) VALUES (?, ?, ?)",
                ((key, version, value) for key, value in file.items()),
            )
            connection.executemany(
                "UPDATE state SET expires_at = ? WHERE key = ?",
                ((expires_at, key) for key, expires_at in file.expires.items()),
            )
        connection.execute("DELETE FROM state WHERE expires_at <= ?", (now_s,))
        keys = recount(connection).keys
    except BaseException:
        connection.execute("ROLLBACK TO memory_store")
        raise
    finally:
        connection.execute("RELEASE memory_store")
    return Imported(keys, file.sha256, file.exported_at)


def _import_first(
    connection: sqlite3.Connection, store: MemoryStore, now_s: float
) -> tuple[str, Imported | None, tuple[Problem, ...]]:
    """Import the first file that can be; return its name, and what was wrong with those before."""
    problems: list[Problem] = []
    for path in (store.path, store.previous):
        if not (path.exists() or path.is_symlink()):
            continue
        try:
            imported = import_file(connection, path, store.limits, now_s=now_s)
        except StateFileError as exc:
            problems.append(Problem(put_aside(path, now_s).name, now_s, str(exc)))
        else:
            return path.name, imported, tuple(problems)
    return NOTHING, None, tuple(problems)


def _database_problem(name: str, origin: str, imported: Imported | None, now_s: float) -> Problem:
    if imported is None:
        what = "the state begins empty"
    else:
        when = imported.exported_at or "when a person wrote it"
        what = f"the state is that of {origin} as of {when}"
    return Problem(
        name, now_s, f"journal.db was damaged: its tasks are not known any more, and {what}"
    )
