"""Finished tasks stay readable within bounds; open ones always."""

from __future__ import annotations

import json

from kagent_sdk.journal.memory import MemoryJournal
from kagent_sdk.journal.port import Query
from kagent_sdk.journal.record import RECORD_OVERHEAD_BYTES, TaskRecord
from kagent_sdk.protocol.manifest import CapabilityManifest
from kagent_sdk.protocol.tasks import TaskFailure, TaskState

MANIFEST = CapabilityManifest(name="digest", input_schema={}, output_schema={})


def make_record(task_id: str, *, finished_at: float | None = None) -> TaskRecord:
    """Return an open record, or one that completed."""
    record = TaskRecord(task_id, MANIFEST, b'{"a":1}', created_at=1.0)
    record.metadata = b'{"m":1}'
    if finished_at is not None:
        record.state = TaskState.COMPLETED
        record.finished_at = finished_at
        record.output = b"[1]"
    return record


def keep(journal: MemoryJournal, *records: TaskRecord) -> None:
    """Let the journal know of records."""
    for record in records:
        journal.accepted(record)
        if record.is_finished:
            journal.ended(record)


def make_journal(**bounds: float) -> MemoryJournal:
    """Return a journal with wide bounds but for those given."""
    settings = {"retention_s": 60, "retention_count": 100, "retention_bytes": 10**6} | bounds
    return MemoryJournal(**settings)  # type: ignore[arg-type] # floats stand for counts here


def test_the_oldest_finished_task_goes_first_by_number() -> None:
    """A busy agent forgets old results, not new ones, and never an open task."""
    journal = make_journal(retention_count=2)
    keep(journal, make_record("open"), *(make_record(f"t{n}", finished_at=n) for n in range(4)))

    assert [record.id for record in journal.newest_first()] == ["t3", "t2", "open"]
    assert journal.find("t0") is None
    assert journal.kept == 3


def test_a_finished_task_can_be_let_go_of_before_its_time() -> None:
    """One whose end counts for nothing makes room for another of its id."""
    journal = make_journal()
    records = [make_record(f"t{n}", finished_at=n) for n in range(2)]
    keep(journal, *records)
    journal.forget(records[0])
    journal.forget(records[0])

    assert journal.find("t0") is None
    assert (journal.kept, journal.kept_bytes) == (1, records[1].size_bytes)


def test_bytes_of_finished_tasks_are_bounded() -> None:
    """Large results cannot grow the host."""
    size = make_record("x", finished_at=1).size_bytes
    journal = make_journal(retention_bytes=2 * size)
    keep(journal, *(make_record(f"t{n}", finished_at=n) for n in range(4)))

    assert journal.kept_bytes == 2 * size
    assert size == RECORD_OVERHEAD_BYTES + len(b'{"a":1}') + len(b'{"m":1}') + len(b"[1]")


def test_results_expire_with_age() -> None:
    """`tasks.retention_s` is how long a caller may come back."""
    journal = make_journal(retention_s=10)
    keep(journal, make_record("old", finished_at=100.0), make_record("new", finished_at=105.0))

    journal.expire(now_s=110.0)
    assert journal.find("old") is None
    assert journal.find("new") is not None
    journal.expire(now_s=120.0)
    assert journal.kept_bytes == 0


def test_new_bounds_take_effect_with_the_next_end() -> None:
    """A reload may change what is kept, and loses nothing that is open."""
    journal = MemoryJournal(retention_s=100, retention_count=10, retention_bytes=10**6)
    for number in range(4):
        record = make_record(f"t{number}", finished_at=float(number))
        journal.accepted(record)
        journal.ended(record)
    journal.configure(retention_s=1, retention_count=2, retention_bytes=10**6)
    last = make_record("t9", finished_at=9.0)
    journal.accepted(last)
    journal.ended(last)

    assert [record.id for record in journal.newest_first()] == ["t9", "t3"]
    journal.expire(now_s=9.5)


def test_an_end_is_noted_once_and_only_for_what_was_accepted() -> None:
    """A second end must not count twice against the bounds."""
    journal = make_journal()
    record = make_record("t", finished_at=1.0)
    journal.ended(record)
    assert journal.kept_bytes == 0
    keep(journal, record)
    journal.ended(record)

    assert journal.kept_bytes == record.size_bytes


def test_the_document_has_the_contracts_members() -> None:
    """Callers in every language read these names."""
    record = make_record("t", finished_at=2.5)
    record.progress = (0.5, "half")
    record.failure = TaskFailure("quota", "no more", details={"n": 1}, status=429)

    document = json.loads(record.document())

    assert document == {
        "id": "t",
        "capability": "digest",
        "state": "completed",
        "output": [1],
        "error": {"code": "quota", "message": "no more", "retryable": False, "details": {"n": 1}},
        "progress": {"fraction": 0.5, "message": "half"},
        "attempt": 0,
        "created_at": "1970-01-01T00:00:01.000000Z",
        "started_at": None,
        "finished_at": "1970-01-01T00:00:02.500000Z",
        "trace_id": None,
        "metadata": {"m": 1},
    }
    assert "output" not in json.loads(record.document(with_output=False))


async def test_pages_show_the_newest_first() -> None:
    """A person who pages through the tasks sees each of them once."""
    journal = make_journal()
    keep(journal, *(make_record(f"t{number}", finished_at=1.0) for number in range(5)))
    journal.accepted(make_record("open"))

    first = await journal.page(Query(limit=2))
    assert [record.id for record in first.records] == ["open", "t4"]
    assert first.following == "t4"
    rest = await journal.page(Query(limit=10, after="t4"))
    assert [record.id for record in rest.records] == ["t3", "t2", "t1", "t0"]
    assert rest.following is None
    waiting = await journal.page(Query(state=TaskState.SUBMITTED))
    assert [record.id for record in waiting.records] == ["open"]
    assert (await journal.page(Query(capability="other"))).records == []
    assert (await journal.page(Query(after="nobody"))).records == []


async def test_a_task_is_recalled_from_memory() -> None:
    """There is no other place to look at."""
    journal = make_journal()
    record = make_record("t1")
    journal.accepted(record)

    assert await journal.recall("t1") is record
    assert await journal.recall("t2") is None
