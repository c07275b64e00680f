"""Many rows in one statement: as each by itself, for a fraction of the cost."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator

import pytest

from kagent_sdk.storage.bulk import MAX_ROWS, Bulk
from kagent_sdk.storage.groups import GroupError, Work, arrange, transact

PUT = Bulk("INSERT INTO numbers VALUES ", 2)
RAISE = Bulk(
    "WITH new(value, key) AS (VALUES ",
    2,
    ") UPDATE numbers SET value = new.value FROM new WHERE numbers.key = new.key",
    is_last=True,
)


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """Return a database with one table."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE numbers (key INTEGER PRIMARY KEY, value)")
    yield connection
    connection.close()


def write(operation: object) -> Work:
    """Return the work that does something."""
    return Work(operation, asyncio.get_running_loop().create_future())  # type: ignore[arg-type] # any


def contents(connection: sqlite3.Connection) -> dict[int, object]:
    """Return what is in the table."""
    return dict(connection.execute("SELECT key, value FROM numbers"))


async def test_rows_of_a_group_are_written_whatever_their_number(
    connection: sqlite3.Connection,
) -> None:
    """A group is as large as the load happens to make it."""
    group = [write(PUT.row((key, None))) for key in range(2 * MAX_ROWS + 1)]
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    transact(connection, group)
    connection.set_trace_callback(None)

    assert len(contents(connection)) == 2 * MAX_ROWS + 1
    assert sum(statement.startswith("INSERT") for statement in statements) == 3


async def test_rows_that_come_last_follow_what_was_asked_for_before(
    connection: sqlite3.Connection,
) -> None:
    """A task that was put back and then ended has ended."""
    read = write(contents)
    read.is_read = True
    group = [
        write(RAISE.row(("ended", 1))),
        read,
        write(lambda database: database.execute("UPDATE numbers SET value = 'waits'").rowcount),
        write(PUT.row((1, "new"))),
        write(PUT.row((2, "new"))),
        write(RAISE.row(("ended", 3))),
    ]
    transact(connection, group)

    assert contents(connection) == {1: "ended", 2: "waits"}
    assert read.outcome == {1: "ended", 2: "waits"}


async def test_one_bad_row_undoes_the_group_which_is_then_tried_one_by_one(
    connection: sqlite3.Connection,
) -> None:
    """An id that is there twice must not refuse the tasks of others."""
    group = [write(PUT.row((key, None))) for key in (1, 2, 1)]
    with pytest.raises(GroupError) as caught:
        transact(connection, group)

    assert contents(connection) == {}
    assert caught.value.cause is None
    assert not caught.value.is_shared


async def test_a_group_of_one_kind_is_arranged_in_chunks() -> None:
    """A statement has a limit of variables."""
    group = [write(PUT.row((key, None))) for key in range(MAX_ROWS + 2)]

    assert [len(works) for works in arrange(group)] == [MAX_ROWS, 2]
