"""What goes into a snapshot out of the database: the state, and the tasks that are open."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence

from kagent_sdk.errors import SnapshotError
from kagent_sdk.snapshots.checks import TABLES, StateCheck, TasksCheck
from kagent_sdk.snapshots.manifest import show
from kagent_sdk.snapshots.rows import Column, Line, RowError, Value, encode, read_columns

FindsSecret = Callable[[bytes], bool]
"""Whether a known secret stands in some bytes, in clear or in an encoding."""


class Contents:
    """Reads the database at one moment.

    Args:
        connection: sees one moment while others write.
        finds_secret: what holds a secret is not put into a snapshot.

    Attributes:
        state: what was read of the state so far.
        tasks: what was read of the tasks so far.
    """

    def __init__(self, connection: sqlite3.Connection, finds_secret: FindsSecret) -> None:
        self._connection = connection
        self._finds_secret = finds_secret
        self._state_columns = read_columns(connection, "state")
        self._columns = {table: read_columns(connection, table) for table in TABLES}
        self.state = StateCheck(self._state_columns)
        self.tasks = TasksCheck(self._columns)

    @property
    def state_version(self) -> int:
        """The version of the state's last change."""
        row = self._connection.execute(
            "SELECT value FROM meta WHERE name = 'state_version'"
        ).fetchone()
        return max(self.state.max_version, 0 if row is None else int(row[0]))

    def state_lines(self) -> Iterator[bytes]:
        """Give the state, one key to a line, by key.

        Raises:
            SnapshotError: a key or value holds a secret, or cannot be in a snapshot.
            sqlite3.Error: the database cannot be read.
        """
        columns = self._state_columns
        for row in self._select("state", columns, "ORDER BY key"):
            key = str(row[0])
            try:
                self.state.take(row)
                line = encode(columns, row)
            except RowError as exc:
                raise SnapshotError(f"the state's key {self._name(key)} {exc}") from None
            yield self._checked(line, "the state's key", key)

    def task_lines(self) -> Iterator[bytes]:
        """Give the open tasks, the oldest first, each with its capability and its events.

        Raises:
            SnapshotError: a task holds a secret, or cannot be in a snapshot.
            sqlite3.Error: the database cannot be read.
        """
        names = [column.name for column in self._columns["tasks"]]
        sequence, task_id, manifest = map(names.index, ("seq", "id", "manifest"))
        known: set[Value] = set()
        open_tasks = self._select(
            "tasks", self._columns["tasks"], "WHERE finished_at IS NULL ORDER BY seq"
        )
        for row in open_tasks:
            name = str(row[task_id])
            if row[manifest] not in known:
                known.add(row[manifest])
                yield from self._rows("manifests", "WHERE id = ?", row[manifest], name)
            yield self._task_line("tasks", row, name)
            yield from self._rows("events", "WHERE task = ? ORDER BY id", row[sequence], name)

    def _rows(self, table: str, rest: str, value: Value, task: str) -> Iterator[bytes]:
        for row in self._select(table, self._columns[table], rest, value):
            yield self._task_line(table, row, task)

    def _task_line(self, table: str, row: Sequence[Value], task: str) -> bytes:
        try:
            self.tasks.take(table, row)
            line = encode(self._columns[table], row, table=table)
        except RowError as exc:
            what = "" if table == "tasks" else f": one of its {table}"
            raise SnapshotError(f"the task {self._name(task)}{what} {exc}") from None
        return self._checked(line, "the task", task)

    def _select(
        self, table: str, columns: Sequence[Column], rest: str, *values: Value
    ) -> Iterator[Sequence[Value]]:
        # SQLite keeps what it is given: a text in a column of bytes is one, and reads as str.
        names = ", ".join(
            f"CAST({column.name} AS BLOB)" if column.kind == "BLOB" else column.name
            for column in columns
        )
        rows = self._connection.execute(f"SELECT {names} FROM {table} {rest}", values)  # noqa: S608 - names of the schema
        # Not `yield from`: that would close the cursor of a connection that may be closed already.
        for row in rows:  # noqa: UP028
            yield row

    def _checked(self, line: Line, what: str, name: str) -> bytes:
        if any(map(self._finds_secret, (line.text, *line.hidden))):
            raise SnapshotError(
                f"{what} {self._name(name)} holds a secret of the vault; a snapshot must not: "
                "take it out, or wait for the task to end"
            )
        return line.text

    def _name(self, name: str) -> str:
        """Return a key or id for a message, unless it gives a secret away itself."""
        return "(its name holds one)" if self._finds_secret(name.encode()) else f"'{show(name)}'"
