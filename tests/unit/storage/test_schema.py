"""The tables of a new database, and what the version in a file means."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from kagent_sdk.errors import StorageVersionError
from kagent_sdk.storage.schema import (
    AGENT_SCHEMA,
    APPLICATION_ID,
    MIGRATIONS,
    SCHEMA_VERSION,
    migrate,
)


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """Return an empty database in memory."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        yield made


def test_an_empty_database_gets_all_tables(connection: sqlite3.Connection) -> None:
    """What the other rooms count on."""
    assert migrate(connection) == 0
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()

    assert {name for (name,) in tables} >= {"tasks", "events", "state", "outbox", "meta"}
    assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)


def test_a_present_database_is_left_as_it_is(connection: sqlite3.Connection) -> None:
    """Every start but the first."""
    migrate(connection)
    before = connection.total_changes

    assert migrate(connection) == SCHEMA_VERSION
    assert connection.total_changes == before


def test_a_newer_one_is_refused(connection: sqlite3.Connection) -> None:
    """What its tables mean is not known here."""
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")

    with pytest.raises(StorageVersionError) as caught:
        migrate(connection)
    assert (caught.value.found, caught.value.known) == (SCHEMA_VERSION + 1, SCHEMA_VERSION)


@pytest.mark.parametrize("statement", ["NONSENSE", "ROLLBACK"])
def test_a_migration_that_fails_leaves_nothing(
    connection: sqlite3.Connection, statement: str
) -> None:
    """Half a migration would be a version that nobody knows; SQLite ends some by itself."""
    steps = ("CREATE TABLE more (x)", statement, "NONSENSE")
    broken = replace(AGENT_SCHEMA, migrations=(*MIGRATIONS, steps))

    with pytest.raises(sqlite3.OperationalError, match="syntax error"):
        migrate(connection, schema=broken)
    assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
    assert connection.execute("PRAGMA user_version").fetchone() == (0,)
