"""The orchestrator is told everything of its tasks in order, and nothing fills the disk."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator

import pytest

from kagent_sdk.journal import outbox, reports
from kagent_sdk.journal.events import Event
from kagent_sdk.journal.outbox import Message
from kagent_sdk.journal.record import Ending, TaskRecord
from kagent_sdk.protocol.manifest import CapabilityManifest
from kagent_sdk.protocol.tasks import TaskState
from kagent_sdk.storage.schema import migrate

DIGEST = CapabilityManifest(name="digest", input_schema={}, output_schema={})
DONE = Ending(TaskState.COMPLETED, 20.0, b'{"words":2}')
OLD, NEW = "lease-old-0123456789", "lease-new-0123456789"


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """Give a database in memory."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    yield connection
    connection.close()


def make(task_id: str = "t1", lease: str | None = OLD) -> TaskRecord:
    """Return a task that an orchestrator has sent."""
    record = TaskRecord(task_id, DIGEST, b"{}", created_at=10.0)
    record.lease = lease
    return record


def result_of(record: TaskRecord) -> Message:
    """Return what tells of its end."""
    message = reports.report_result(record, DONE)
    assert message is not None
    return message


def event_of(record: TaskRecord, number: int, data: bytes = b"1") -> Message:
    """Return what tells of an event."""
    message = reports.report_event(record, Event(number, "event", data), 15.0)
    assert message is not None
    return message


def ids(messages: list[Message]) -> list[str]:
    """Return the ids in order."""
    return [message.id for message in messages]


def store(connection: sqlite3.Connection, task_id: str, *, has_ended: bool) -> None:
    """Put a row of a task into the database."""
    connection.execute(
        "INSERT INTO tasks (id, manifest, capability, state, attempt, conflicts, created_at, "
        "finished_at, size_bytes, traceparent, lease, metadata, input) "
        "VALUES (?, 'm', 'digest', 'working', 1, 0, 10.0, ?, 1, '', ?, x'7b7d', x'7b7d')",
        (task_id, 20.0 if has_ended else None, OLD),
    )


def test_a_result_is_the_task_as_a_caller_of_the_agent_would_see_it() -> None:
    """The orchestrator passes it on without a second request."""
    record = make()
    message = result_of(record)

    assert json.loads(message.payload) == json.loads(record.document(ending=DONE))
    assert (message.channel, message.kind, message.destination) == ("link", "result", OLD)


def test_an_event_has_the_fields_of_an_event_stream() -> None:
    """Whoever follows the task at the orchestrator sees what a caller of the agent would see."""
    message = event_of(make(), 3, b'{"a": [1]}')

    assert json.loads(message.payload) == {"id": 3, "event": "event", "data": {"a": [1]}}


def test_nobody_is_told_of_a_task_without_a_lease() -> None:
    """It is somebody else's."""
    record = make(lease=None)

    assert reports.report_result(record, DONE) is None
    assert reports.report_event(record, Event(1, "event", b"1"), 1.0) is None


def test_an_id_is_the_same_each_time_and_another_under_another_lease() -> None:
    """Repetitions are told apart from a result that is told again to another leaseholder."""
    record = make()
    first = result_of(record).id
    again = result_of(record).id
    record.lease = NEW

    assert first == again != result_of(record).id
    assert event_of(record, 1).id != event_of(record, 2).id


def test_the_oldest_come_first_whatever_their_task(connection: sqlite3.Connection) -> None:
    """A webhook that waits, or a result far behind, holds nothing up."""
    outbox.add(connection, Message("w", "webhook", "h", "t1", "result", "u", b"{}", 1.0))
    one, two = make("t1"), make("t2")
    sent = [event_of(one, 1), event_of(two, 1), event_of(one, 2), result_of(two), result_of(one)]
    for message in sent:
        assert reports.add(connection, message)
    assert not reports.add(connection, sent[0])

    assert ids(reports.first(connection, 3, 10**6)) == ids(sent[:3])
    assert ids(reports.first(connection, 10, 10**6)) == ids(sent)
    assert outbox.stats(connection, "link").pending == 5
    assert outbox.stats(connection, "webhook").pending == 1


def test_a_batch_is_bounded_and_never_empty(connection: sqlite3.Connection) -> None:
    """One report that is larger than a batch would else be in the way for ever."""
    record = make()
    for number in range(3):
        reports.add(connection, event_of(record, number + 1, b'"%b"' % (b"x" * 1000)))

    assert len(reports.first(connection, 10, 10)) == 1
    assert len(reports.first(connection, 10, 2500)) == 2
    assert reports.first(connection, 0, 10) == []


def test_what_was_answered_is_gone(connection: sqlite3.Connection) -> None:
    """In one write, however many; those that are not there make no difference."""
    record = make()
    sent = [event_of(record, number) for number in range(1200)]
    for message in sent:
        reports.add(connection, message)
    reports.settle(connection, [*ids(sent[:1100]), "nobody"])

    assert ids(reports.first(connection, 1000, 10**6)) == ids(sent[1100:])
    stats = outbox.stats(connection, "link")
    assert (stats.pending, stats.pending_bytes) == (100, sum(len(m.payload) for m in sent[1100:]))


def test_a_new_lease_gets_the_result_and_the_old_one_nothing(
    connection: sqlite3.Connection,
) -> None:
    """What is told under a lost lease is refused: there is no use in sending it."""
    store(connection, "t1", has_ended=True)
    record = make()
    reports.add(connection, event_of(record, 1))
    reports.add(connection, result_of(record))
    other = make("t2")
    reports.add(connection, result_of(other))
    record.lease = NEW
    reports.set_lease(connection, "t1", NEW, result_of(record))

    assert ids(reports.first(connection, 10, 10**6)) == [result_of(other).id, result_of(record).id]
    assert connection.execute("SELECT lease FROM tasks").fetchone() == (NEW,)
    assert [one[1:] for one in reports.read_results(connection, 10)] == [("t2", OLD), ("t1", NEW)]


def test_an_end_that_was_undone_is_not_told(connection: sqlite3.Connection) -> None:
    """The task runs again, and its real end is told."""
    store(connection, "t1", has_ended=False)
    record = make(lease=NEW)
    reports.set_lease(connection, "t1", NEW, result_of(record))

    assert reports.first(connection, 10, 10**6) == []


def test_a_lost_lease_leaves_a_newer_one_alone(connection: sqlite3.Connection) -> None:
    """The word of the loss may come late."""
    store(connection, "t1", has_ended=True)
    record = make(lease=NEW)
    reports.set_lease(connection, "t1", NEW, result_of(record))
    reports.forget_lease(connection, "t1", OLD)
    assert ids(reports.first(connection, 10, 10**6)) == [result_of(record).id]
    reports.forget_lease(connection, "t1", NEW)

    assert reports.first(connection, 10, 10**6) == []
    assert connection.execute("SELECT lease FROM tasks").fetchone() == (None,)


def test_events_give_way_before_results_do(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An orchestrator that is away for a week must not fill the disk, and gets its results."""
    monkeypatch.setattr(reports, "MAX_EVENT_BYTES", 1000)
    monkeypatch.setattr(reports, "MAX_RESULT_BYTES", 3000)
    record = make()
    large = b'"%b"' % (b"x" * 800)
    taken = [reports.add(connection, event_of(record, number, large)) for number in range(3)]
    results = [reports.add(connection, result_of(make(f"t{n}"))) for n in range(20)]

    assert taken == [True, False, False]
    assert (results[0], results[-1]) == (True, False)
    stats = outbox.stats(connection, "link")
    assert stats.pending_bytes <= 3000
    assert stats.dropped == taken.count(False) + results.count(False)
