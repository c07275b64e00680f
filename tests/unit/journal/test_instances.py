"""A journal knows who had it: an orchestrator waits no more for those."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from kagent_sdk.journal.instances import succeed
from kagent_sdk.protocol.link import MAX_BEFORE
from kagent_sdk.storage.schema import migrate


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """Give a database of an agent."""
    made = sqlite3.connect(":memory:", isolation_level=None)
    migrate(made)
    yield made
    made.close()


def test_each_start_knows_those_before_it_and_a_bounded_number(
    connection: sqlite3.Connection,
) -> None:
    """An agent that crashes at each start for a year must not grow its registration."""
    one, two, three = (name.ljust(16, "-") for name in ("one", "two", "three"))
    assert succeed(connection, one) == ()
    assert succeed(connection, two) == (one,)
    assert succeed(connection, two) == (one,)
    assert succeed(connection, three) == (two, one)
    names = [f"{number:016}" for number in range(2 * MAX_BEFORE)]
    last = [succeed(connection, name) for name in names][-1]

    assert len(last) == MAX_BEFORE
    assert last[0] == names[-2]


@pytest.mark.parametrize("value", ["no json", "{}", "[1]", "null", '["a word"]'])
def test_what_cannot_be_read_names_nobody(connection: sqlite3.Connection, value: str) -> None:
    """Naming somebody who lives would cost it its tasks."""
    connection.execute("INSERT INTO meta VALUES ('link_instances', ?)", (value,))

    assert succeed(connection, "one") == ()
