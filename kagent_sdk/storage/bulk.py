"""Rows that are written by one statement, however many there are.

Each statement lets go of the interpreter's lock and waits for it again, which costs more than the
row when the event loop is busy.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any

MAX_ROWS = 64
"""Of one statement: far below the limit of variables (32,766, sqlite.org/limits.html)."""


class Bulk:
    """A kind of rows.

    Args:
        head: the statement up to its rows.
        width: how many values a row has.
        tail: the statement after its rows.
        is_last: the rows of a group are written after all else that it writes, not before.
    """

    def __init__(self, head: str, width: int, tail: str = "", *, is_last: bool = False) -> None:
        self._head = head
        self._marks = f"({','.join('?' * width)})"
        self._tail = tail
        self._statements: dict[int, str] = {}
        self.is_last = is_last

    def row(self, values: Sequence[Any]) -> BulkRow:
        """Return the operation that writes a row."""
        return BulkRow(self, values)

    def write(self, connection: sqlite3.Connection, rows: Sequence[Sequence[Any]]) -> None:
        """Write rows, up to `MAX_ROWS`.

        Raises:
            sqlite3.Error: none of them was written.
        """
        count = len(rows)
        statement = self._statements.get(count)
        if statement is None:
            marks = ",".join([self._marks] * count)
            statement = self._statements[count] = f"{self._head}{marks}{self._tail}"
        connection.execute(statement, rows[0] if count == 1 else list(chain.from_iterable(rows)))


class BulkRow:
    """The operation that writes one row, alone or with others of its kind."""

    __slots__ = ("bulk", "values")

    def __init__(self, bulk: Bulk, values: Sequence[Any]) -> None:
        self.bulk = bulk
        self.values = values

    def __call__(self, connection: sqlite3.Connection) -> None:
        """Write it."""
        self.bulk.write(connection, (self.values,))
