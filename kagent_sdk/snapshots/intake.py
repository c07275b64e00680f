"""Taking everything out of a snapshot, each row and file checked, to wherever it is to go."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Protocol

from kagent_sdk.snapshots.checks import TABLES, StateCheck, TasksCheck
from kagent_sdk.snapshots.manifest import CACHE, STATE, TASKS, Member
from kagent_sdk.snapshots.reading import Archive, MemberError, iter_lines
from kagent_sdk.snapshots.rows import TABLE, Column, RowError, Value, decode, read_columns, split
from kagent_sdk.storage.schema import SCHEMA_VERSION, migrate


class Sink(Protocol):
    """Where rows and files go. What it has taken means nothing until all was taken."""

    def take_row(self, table: str, values: Sequence[Value]) -> None:
        """Take a row that was checked."""
        ...

    def take_file(self, name: str, chunks: Iterable[bytes]) -> None:
        """Take a file of the cache; ``chunks`` must be read to their end."""
        ...


class Nowhere:
    """A sink for those who only want to know whether all is right."""

    def take_row(self, table: str, values: Sequence[Value]) -> None:
        """Let it go."""

    def take_file(self, name: str, chunks: Iterable[bytes]) -> None:
        """Let it go, once it was read."""
        for _ in chunks:
            pass


class Intake:
    """Reads all members of an archive.

    Args:
        archive: at its first member.
        sink: takes what was checked.
    """

    def __init__(self, archive: Archive, sink: Sink) -> None:
        self._archive = archive
        self._manifest = archive.manifest
        self._sink = sink
        version = archive.manifest.schema_version
        self._columns = columns_of(version) if version <= SCHEMA_VERSION else {}

    def run(self) -> tuple[str, ...]:
        """Take everything and return what is wrong: a line for each damaged member.

        What the sink raises goes through.
        """
        problems: list[str] = []
        for member in self._manifest.members:
            chunks = self._archive.chunks(member)
            try:
                self._take(member, chunks)
            except MemberError as exc:
                problems.append(f"{member.name}: {exc}")
                if exc.is_end:
                    return (*problems, *self._not_read(member))
            except RowError as exc:
                problems.append(f"{member.name}: {exc}")
                ending = _drain(member, chunks)
                if ending is not None:
                    return (*problems, ending, *self._not_read(member))
        try:
            self._archive.check_end()
        except MemberError as exc:
            problems.append(f"the end: {exc}")
        return tuple(problems)

    def _not_read(self, last: Member) -> tuple[str, ...]:
        left = len(self._manifest.members) - 1 - self._manifest.members.index(last)
        return (f"what follows cannot be read: {left} more members",) if left else ()

    def _take(self, member: Member, chunks: Iterator[bytes]) -> None:
        if member.name.startswith(CACHE):
            self._sink.take_file(member.name.removeprefix(CACHE), chunks)
        elif not self._columns:
            Nowhere().take_file(member.name, chunks)
        elif member.name == STATE:
            self._take_state(chunks)
        else:
            assert member.name == TASKS, "the manifest has no other members"
            self._take_tasks(chunks)

    def _take_state(self, chunks: Iterator[bytes]) -> None:
        columns = self._columns["state"]
        check = StateCheck(columns)
        for number, line in enumerate(iter_lines(chunks), 1):
            with _numbered(number):
                values = decode(columns, split(line))
                check.take(values)
            self._sink.take_row("state", values)
        said = self._manifest
        if (check.count, check.size_bytes) != (said.state_keys, said.state_bytes):
            raise MemberError("it has not as many keys or bytes as the manifest says")
        if check.max_version > said.state_version:
            raise MemberError("it has a key that is newer than the manifest says")

    def _take_tasks(self, chunks: Iterator[bytes]) -> None:
        check = TasksCheck(self._columns)
        tables = {json.dumps(table).encode(): table for table in TABLES}
        for number, line in enumerate(iter_lines(chunks), 1):
            with _numbered(number):
                members = split(line)
                table = tables.get(members.pop(TABLE, b""))
                if table is None:
                    raise RowError("belongs to no table")
                values = decode(self._columns[table], members)
                check.take(table, values)
            self._sink.take_row(table, values)
        if check.count != self._manifest.open_tasks:
            raise MemberError("it has not as many tasks as the manifest says")


class _numbered:  # noqa: N801 - used as a function
    """Say in which line a row is wrong."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, RowError):
            raise RowError(f"line {self._number} {error}") from None


def _drain(member: Member, chunks: Iterator[bytes]) -> str | None:
    """Read a member to its end; return what is wrong with the rest if that ends the archive."""
    try:
        Nowhere().take_file(member.name, chunks)
    except MemberError as exc:
        return f"{member.name}: {exc}" if exc.is_end else None
    return None


def columns_of(version: int) -> Mapping[str, tuple[Column, ...]]:
    """Return the columns of the tables of a version of the schema."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, to=version)
        return {table: read_columns(connection, table) for table in ("state", *TABLES)}
