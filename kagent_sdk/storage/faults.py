"""Telling apart what an SQLite error says: of the file, of the machine below it, of an operation."""

from __future__ import annotations

import sqlite3

# Primary result codes, https://www.sqlite.org/rescode.html.
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_FAULTS = _DAMAGED | {
    sqlite3.SQLITE_INTERNAL,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOLFS,
}


def is_damage(error: sqlite3.Error) -> bool:
    """Tell whether an error means that the file itself is damaged, or no database."""
    return primary_code(error) in _DAMAGED


def is_fault(error: sqlite3.Error) -> bool:
    """Tell whether the database is to blame, so that the same operation may succeed later.

    All other errors (a constraint, a wrong statement) are the operation's own: trying it again ends
    the same way.
    """
    return primary_code(error) in _FAULTS


def primary_code(error: sqlite3.Error) -> int | None:
    """Return the result code without what extends it; None when SQLite was not even asked."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
