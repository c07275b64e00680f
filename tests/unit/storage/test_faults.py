"""Whose fault an error is decides between trying again, refusing, and putting the file aside."""

from __future__ import annotations

import sqlite3

import pytest

from kagent_sdk.storage.faults import is_damage, is_fault, primary_code


def error(code: int | None) -> sqlite3.Error:
    """Return an error as the module raises it."""
    made = sqlite3.OperationalError("something")
    if code is not None:
        made.sqlite_errorcode = code
    return made


@pytest.mark.parametrize(
    ("code", "fault", "damage"),
    [
        (sqlite3.SQLITE_FULL, True, False),
        (sqlite3.SQLITE_IOERR_FSYNC, True, False),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, True, False),
        (sqlite3.SQLITE_CORRUPT, True, True),
        (sqlite3.SQLITE_CORRUPT_INDEX, True, True),
        (sqlite3.SQLITE_NOTADB, True, True),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, False, False),
        (sqlite3.SQLITE_ERROR, False, False),
        (sqlite3.SQLITE_TOOBIG, False, False),
        (None, False, False),
    ],
)
def test_an_error_is_told_by_its_code(code: int | None, *, fault: bool, damage: bool) -> None:
    """A constraint must not stop the journal, and a full disk must not lose a result."""
    assert is_fault(error(code)) is fault
    assert is_damage(error(code)) is damage


def test_the_extended_code_names_the_same_fault() -> None:
    """https://www.sqlite.org/rescode.html: the low byte is the primary code."""
    assert primary_code(error(sqlite3.SQLITE_IOERR_READ)) == sqlite3.SQLITE_IOERR
