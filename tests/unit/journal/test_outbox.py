"""The outbox: what is in it is offered in order, until it has arrived, and only once after that."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from kagent_sdk.journal import outbox
from kagent_sdk.journal.outbox import Message, message_id
from kagent_sdk.storage.database import open_database

FIRST = Message(
    "msg_1", "webhook", "https://a:443", "task-1", "result", "https://a/hook", b"{}", 100.0
)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Return a connection to a database on disk."""
    opened = open_database(tmp_path / "journal.db", "process", now_s=0.0)
    yield opened.connection
    opened.close()


def make(number: int, *, task: str = "task-1", lane: str = "https://a:443") -> Message:
    """Return the n-th message; it was added in the n-th second."""
    return replace(FIRST, id=f"msg_{number}", task=task, lane=lane, created_at=float(number))


def offered(connection: sqlite3.Connection, now_s: float = 1000.0, limit: int = 100) -> list[str]:
    """Return the ids of what is to be sent now."""
    return [message.id for message in outbox.due(connection, "webhook", now_s, limit).messages]


def test_a_message_comes_out_as_it_went_in(connection: sqlite3.Connection) -> None:
    """A receiver must get what was true when the task ended, byte by byte."""
    outbox.add(connection, FIRST)

    assert outbox.due(connection, "webhook", 100.0, 10).messages == [FIRST]


def test_a_message_is_added_once(connection: sqlite3.Connection) -> None:
    """The end of a task may be written again after a crash; its receiver is told once."""
    assert outbox.add(connection, FIRST)
    assert not outbox.add(connection, replace(FIRST, payload=b"other"))

    assert outbox.due(connection, "webhook", 100.0, 10).messages == [FIRST]


def test_a_message_is_acknowledged_once(connection: sqlite3.Connection) -> None:
    """Whoever counts what has arrived must count it once."""
    outbox.add(connection, FIRST)

    assert outbox.acknowledge(connection, FIRST.id)
    assert not outbox.acknowledge(connection, FIRST.id)
    assert not outbox.drop(connection, FIRST.id, "late")
    assert not outbox.postpone(connection, FIRST.id, 5.0)
    assert offered(connection) == []


def test_only_the_first_message_of_a_task_is_offered(connection: sqlite3.Connection) -> None:
    """`completed` before `working` would tell a receiver that the task had come back to life."""
    for number in (1, 2, 3):
        outbox.add(connection, make(number))

    assert offered(connection) == ["msg_1"]
    outbox.postpone(connection, "msg_1", 2000.0)
    assert offered(connection) == []
    assert offered(connection, 2000.0) == ["msg_1"]
    outbox.acknowledge(connection, "msg_1")
    assert offered(connection) == ["msg_2"]
    outbox.drop(connection, "msg_2", "gone")
    assert offered(connection) == ["msg_3"]


def test_a_message_behind_another_is_not_postponed(connection: sqlite3.Connection) -> None:
    """It was never offered; a due time of its own would let it overtake."""
    outbox.add(connection, make(1))
    outbox.add(connection, make(2))

    assert not outbox.postpone(connection, "msg_2", 5.0)
    assert offered(connection) == ["msg_1"]


def test_channels_do_not_know_each_other(connection: sqlite3.Connection) -> None:
    """A webhook that is down must not hold up what goes to the orchestrator."""
    outbox.add(connection, make(1))
    outbox.add(connection, replace(make(2), channel="link", kind="event"))

    assert offered(connection) == ["msg_1"]
    assert [one.id for one in outbox.due(connection, "link", 1000.0, 10).messages] == ["msg_2"]


def test_the_attempts_are_counted(connection: sqlite3.Connection) -> None:
    """How long to wait next depends on it, across restarts."""
    outbox.add(connection, FIRST)
    outbox.postpone(connection, FIRST.id, 200.0)
    outbox.postpone(connection, FIRST.id, 300.0)

    assert outbox.due(connection, "webhook", 250.0, 10) == outbox.Due([], 300.0)
    assert outbox.due(connection, "webhook", 300.0, 10).messages == [replace(FIRST, attempts=2)]


def test_lanes_take_turns(connection: sqlite3.Connection) -> None:
    """A receiver with a thousand messages must not make another one wait for its only one."""
    for number in range(1, 6):
        outbox.add(connection, make(number, task=f"a-{number}"))
    outbox.add(connection, make(6, task="b-6", lane="https://b:443"))
    outbox.add(connection, make(7, task="c-7", lane="https://c:443"))

    assert offered(connection, limit=4) == ["msg_1", "msg_6", "msg_7", "msg_2"]


def test_a_lane_gets_no_more_than_it_has_room_for(connection: sqlite3.Connection) -> None:
    """A receiver that is down costs one attempt, not one for each of its messages."""
    for number in range(1, 4):
        outbox.add(connection, make(number, task=f"a-{number}"))
        outbox.add(connection, make(number + 10, task=f"b-{number}", lane="https://b:443"))
    rooms = {"https://a:443": 1, "https://b:443": -1}

    found = outbox.due(connection, "webhook", 1000.0, 10, room=rooms.__getitem__)

    assert [message.id for message in found.messages] == ["msg_1"]


def test_what_is_under_way_is_not_offered_again(connection: sqlite3.Connection) -> None:
    """It would be sent twice for no reason."""
    for number in range(1, 4):
        outbox.add(connection, make(number, task=f"a-{number}"))

    found = outbox.due(connection, "webhook", 1000.0, 1, skip={"msg_1"})

    assert [message.id for message in found.messages] == ["msg_2"]


def test_the_next_due_time_is_told(connection: sqlite3.Connection) -> None:
    """The job sleeps until then, and not a moment less."""
    outbox.add(connection, make(1, task="a"))
    outbox.add(connection, make(2, task="b"))
    outbox.add(connection, make(3, task="c", lane="https://b:443"))
    outbox.postpone(connection, "msg_1", 500.0)
    outbox.postpone(connection, "msg_2", 400.0)
    outbox.postpone(connection, "msg_3", 450.0)

    assert outbox.due(connection, "webhook", 10.0, 10).next_at == 400.0
    assert outbox.due(connection, "webhook", 420.0, 10).next_at == 450.0
    assert outbox.due(connection, "webhook", 500.0, 10).next_at is None


def test_due_times_can_be_moved_forward(connection: sqlite3.Connection) -> None:
    """A clock that was a year ahead must not hold a message up for a year."""
    outbox.add(connection, make(1, task="a"))
    outbox.add(connection, make(2, task="b"))
    outbox.add(connection, make(3, task="b"))
    outbox.postpone(connection, "msg_1", 1e12)

    assert outbox.advance(connection, "webhook", 50.0) == 1
    assert outbox.due(connection, "webhook", 49.0, 10).next_at == 50.0
    assert offered(connection, 50.0) == ["msg_2", "msg_1"]


def test_what_was_given_up_stays_on_record(connection: sqlite3.Connection) -> None:
    """Nothing that was accepted goes without a trace."""
    before = outbox.stats(connection, "webhook")
    for number in (1, 2, 3):
        outbox.add(connection, make(number))
    outbox.drop(connection, "msg_1", "the receiver is gone")
    outbox.drop(connection, "msg_2", "x" * 5000)

    assert before == outbox.Stats(0, 0, None, 0, None)
    assert outbox.stats(connection, "webhook") == outbox.Stats(1, 2, 3.0, 2, "x" * 300)
    assert outbox.stats(connection, "link") == before


def test_an_id_is_the_same_whenever_it_is_asked_for() -> None:
    """Receivers tell repetitions by it, and a task that comes back under its old id is another."""
    ids = {
        message_id("a", 1.5, "result"),
        message_id("a", 2.5, "result"),
        message_id("b", 1.5, "result"),
        message_id("a", 1.5, "event"),
        message_id("a", 1.5, "event", 1),
    }

    assert len(ids) == 5
    assert message_id("a", 1.5, "result") in ids
    assert all(len(one) == 36 and "." not in one for one in ids)


def test_looking_does_not_read_what_waits_behind(connection: sqlite3.Connection) -> None:
    """A day's backlog of a receiver that is down must not slow down the whole journal."""
    for number in range(5):
        outbox.add(connection, make(number, task="same"))
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    outbox.due(connection, "webhook", 5.0, 10)
    outbox.acknowledge(connection, "msg_0")
    outbox.stats(connection, "webhook")
    connection.set_trace_callback(None)
    plans = [
        row[3]
        for statement in statements
        for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")
    ]

    assert len(statements) > 6
    allowed = ("SEARCH outbox USING", "SEARCH meta USING", "SCALAR SUBQUERY")
    assert all(plan.startswith(allowed) for plan in plans), plans


class Deliveries(RuleBasedStateMachine):
    """Adding, sending, failing and giving up in any order, beside a model of lists."""

    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.opened = open_database(None, "none", now_s=0.0)
        self.connection = self.opened.connection
        self.now = 0.0
        self.tasks: defaultdict[str, list[str]] = defaultdict(list)
        self.due_at: dict[str, float] = {}
        self.acknowledged: set[str] = set()

    def teardown(self) -> None:
        """Close the database."""
        self.opened.close()

    @rule(target=ids, task=st.sampled_from("abc"), lane=st.sampled_from("xyz"))
    def add(self, task: str, lane: str) -> str:
        """Add a message of a task."""
        self.now += 1
        message = make(int(self.now), task=task, lane=lane)
        assert outbox.add(self.connection, message)
        self.tasks[task].append(message.id)
        self.due_at[message.id] = self.now
        return message.id

    @rule(identity=ids, how=st.sampled_from(["acknowledge", "drop"]))
    def remove(self, identity: str, how: str) -> None:
        """Let go of a message, whether it is there or not."""
        if how == "acknowledge":
            was_there = outbox.acknowledge(self.connection, identity)
        else:
            was_there = outbox.drop(self.connection, identity, "why")
        assert was_there == (identity not in self.acknowledged)
        self.acknowledged.add(identity)
        for queue in self.tasks.values():
            if identity in queue:
                queue.remove(identity)

    @rule(identity=ids, later=st.integers(0, 20))
    def postpone(self, identity: str, later: int) -> None:
        """Fail to send a message."""
        is_first = any(queue[:1] == [identity] for queue in self.tasks.values())
        assert outbox.postpone(self.connection, identity, self.now + later) == is_first
        if is_first:
            self.due_at[identity] = self.now + later

    @precondition(lambda self: self.now > 0)
    @rule(seconds=st.integers(1, 10))
    def pass_time(self, seconds: int) -> None:
        """Wait."""
        self.now += seconds

    @invariant()
    def offers_the_first_of_each_task(self) -> None:
        """Nothing else is offered, nothing that is due is withheld, and nothing is lost."""
        heads = [queue[0] for queue in self.tasks.values() if queue]
        expected = {head for head in heads if self.due_at[head] <= self.now}
        found = outbox.due(self.connection, "webhook", self.now, 100)
        ids = [message.id for message in found.messages]
        assert len(ids) == len(set(ids))
        assert set(ids) == expected
        later = [self.due_at[head] for head in heads if self.due_at[head] > self.now]
        assert found.next_at == min(later, default=None)
        for lane in "xyz":
            times = [self.due_at[one.id] for one in found.messages if one.lane == lane]
            assert times == sorted(times)
        stats = outbox.stats(self.connection, "webhook")
        ids = [identity for queue in self.tasks.values() for identity in queue]
        assert (stats.pending, stats.pending_bytes) == (len(ids), 2 * len(ids))
        ages = [float(identity.removeprefix("msg_")) for identity in ids]
        assert stats.oldest_at == min(ages, default=None)


TestDeliveries = Deliveries.TestCase
TestDeliveries.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
