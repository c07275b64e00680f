"""What the journal acknowledges is on disk, and a new journal on the same disk knows it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from kagent_sdk.errors import StateConflictError, StorageError
from kagent_sdk.journal import durable, rows
from kagent_sdk.journal.durable import DurableJournal, EventBounds
from kagent_sdk.journal.events import EventLog
from kagent_sdk.journal.memory import MemoryJournal
from kagent_sdk.journal.port import Query
from kagent_sdk.journal.record import Ending, TaskRecord
from kagent_sdk.journal.retention import Retention
from kagent_sdk.journal.rows import StoredTask
from kagent_sdk.protocol.manifest import CapabilityManifest
from kagent_sdk.protocol.state import Transaction, Write
from kagent_sdk.protocol.tasks import TaskFailure, TaskState
from kagent_sdk.storage.thread import Storage

DIGEST = CapabilityManifest(
    name="digest", input_schema={}, output_schema={}, idempotent=True, max_attempts=7
)
DONE = Ending(TaskState.COMPLETED, 20.0, b'{"words":2}')


@dataclass
class Bench:
    """A journal on a disk."""

    storage: Storage
    journal: DurableJournal
    open_tasks: list[TaskRecord]
    last_sequence: int


@asynccontextmanager
async def opened(
    folder: Path, *, count: int = 100, size_bytes: int = 10**6, age_s: float = 100.0
) -> AsyncIterator[Bench]:
    """Open a journal in a folder, and close it."""
    storage = Storage(folder / "journal.db", "process")
    memory = MemoryJournal(retention_s=100, retention_count=10, retention_bytes=10**6)
    journal = DurableJournal(
        storage,
        memory,
        Retention(age_s, count, size_bytes),
        EventBounds(max_events=3, max_bytes=1000),
        build=build,
        apply_state=apply_state,
    )
    await storage.open()
    open_tasks, last_sequence = await journal.open()
    journal.declare([DIGEST])
    try:
        yield Bench(storage, journal, open_tasks, last_sequence)
    finally:
        await storage.aclose()


def build(row: StoredTask, capability: CapabilityManifest) -> TaskRecord:
    """Make a record as the host does."""
    return TaskRecord(row.id, capability, row.input, created_at=row.created_at, sequence=row.seq)


def apply_state(connection: sqlite3.Connection, transaction: Transaction) -> int:
    """Take every write but that of the key ``taken``."""
    for write in transaction.writes:
        if write.key == "taken":
            raise StateConflictError((write.key,))
        connection.execute("INSERT INTO state VALUES (?, 1, NULL, ?)", (write.key, write.value))
    return 1


def make(
    number: int, *, is_durable: bool = True, capability: CapabilityManifest = DIGEST
) -> TaskRecord:
    """Return a new task."""
    record = TaskRecord(
        f"t{number}", capability, b'{"text":"a b"}', created_at=10.0 + number, sequence=number
    )
    record.kept = True
    record.is_durable = is_durable
    record.metadata = b'{"from":"test"}'
    record.trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    return record


async def accept(journal: DurableJournal, record: TaskRecord) -> None:
    """Keep a task and wait until that is safe."""
    accepted = journal.accepted(record)
    if accepted is not None:
        await accepted


async def finish(journal: DurableJournal, record: TaskRecord, ending: Ending = DONE) -> None:
    """End a task as the engine does."""
    pending = journal.end(record, ending, None)
    if pending is not None:
        await pending
    record.close(ending)
    journal.ended(record)


async def test_a_finished_task_answers_the_same_after_a_restart(tmp_path: Path) -> None:
    """A caller that asks again with its id must get the very same answer."""
    record = make(1)
    record.progress = (0.5, "half")
    record.attempt, record.started_at = 2, 11.5
    failure = TaskFailure("quota", "no more", retryable=True, details={"left": 0}, status=429)
    async with opened(tmp_path) as bench:
        await accept(bench.journal, record)
        await finish(bench.journal, record, Ending(TaskState.FAILED, 20.25, failure=failure))

    async with opened(tmp_path) as bench:
        again = await bench.journal.recall("t1")
        assert bench.open_tasks == []
        assert bench.last_sequence == 1
        assert again is not None
        assert again.document() == record.document()
        assert again.failure == failure
        assert (again.is_durable, again.is_finished) == (True, True)
        assert again.capability == DIGEST
        assert bench.journal.find("t1") is again
        assert await bench.journal.recall("t2") is None


async def test_open_tasks_come_back_as_far_as_they_were(tmp_path: Path) -> None:
    """What waited runs, and what ran is judged by its attempts."""
    waiting, running, again = make(1), make(2), make(3)
    waiting.timeout_s, waiting.expires_at = 30.0, 41.0
    async with opened(tmp_path) as bench:
        for record in (waiting, running, again):
            await accept(bench.journal, record)
        for record in (running, again):
            record.attempt, record.started_at = 1, 12.0
            started = bench.journal.started(record)
            assert started is not None
            await started
        again.conflicts = 1
        bench.journal.requeued(again)

    async with opened(tmp_path) as bench:
        first, second, third = bench.open_tasks
        assert (first.id, first.state, first.attempt) == ("t1", TaskState.SUBMITTED, 0)
        assert (first.timeout_s, first.expires_at) == (30.0, 41.0)
        assert (second.id, second.state, second.attempt) == ("t2", TaskState.WORKING, 1)
        assert (third.state, third.attempt, third.conflicts) == (TaskState.SUBMITTED, 1, 1)
        assert second.capability.max_attempts == 7
        assert second.input == b'{"text":"a b"}'
        assert bench.journal.find("t2") is second
        assert bench.journal.kept == 3


async def test_events_come_back_with_their_numbers(tmp_path: Path) -> None:
    """A reader that goes on after its last event must neither miss nor repeat one."""
    record = make(1)
    record.events = log = EventLog(max_events=3, max_bytes=1000)
    async with opened(tmp_path) as bench:
        await accept(bench.journal, record)
        for number in range(5):
            kept = bench.journal.event(record, log.append("event", b"%d" % number))
            assert kept is not None
            await kept
        await finish(bench.journal, record)
        assert bench.journal.event(record, log.append("task", b"{}")) is None

    async with opened(tmp_path) as bench:
        again = await bench.journal.recall("t1")
        assert again is not None
        assert again.events is not None
        assert [(event.id, event.kind) for event in again.events.after(2)] == [
            (4, "event"),
            (5, "event"),
            (6, "task"),
        ]
        assert again.events.is_closed


async def test_old_events_leave_the_disk_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream of a week must not fill the disk."""
    monkeypatch.setattr(durable, "TRIM_EVERY", 4)
    record = make(1)
    record.events = log = EventLog(max_events=3, max_bytes=1000)
    async with opened(tmp_path) as bench:
        await accept(bench.journal, record)
        for number in range(9):
            bench.journal.event(record, log.append("event", b"%d" % number))
        events = await bench.storage.read(partial(rows.read_events, seq=1))

    assert [event.id for event in events] == [6, 7, 8, 9]


async def test_the_state_changes_with_the_end_of_the_task_or_not_at_all(tmp_path: Path) -> None:
    """A counter that is raised in a task must count the tasks that are done, exactly."""
    good, bad, plain = make(1), make(2), make(3)
    plain.kept = plain.is_durable = False
    async with opened(tmp_path) as bench:
        for record in (good, bad):
            await accept(bench.journal, record)
        conflicting = Transaction(writes=(Write("other", b"1"), Write("taken", b"1")))
        done = bench.journal.end(good, DONE, Transaction(writes=(Write("a", b"1"),)))
        refused = bench.journal.end(bad, DONE, conflicting)
        unkept = bench.journal.end(plain, DONE, Transaction(writes=(Write("b", b"2"),)))
        assert done is not None
        assert refused is not None
        assert unkept is not None
        await done
        await unkept
        with pytest.raises(StateConflictError):
            await refused

    async with opened(tmp_path) as bench:
        keys = await bench.storage.read(
            lambda connection: connection.execute("SELECT key FROM state ORDER BY key").fetchall()
        )
        assert keys == [("a",), ("b",)]
        assert [record.id for record in bench.open_tasks] == ["t2"]


async def test_a_task_that_the_disk_does_not_take_is_forgotten(tmp_path: Path) -> None:
    """It was never acknowledged: the caller may send it again."""
    async with opened(tmp_path) as bench:
        await accept(bench.journal, make(1))
        double = make(2)
        double.sequence = 1
        with pytest.raises(StorageError):
            await accept(bench.journal, double)

        assert bench.journal.find("t2") is None
        assert bench.journal.find("t1") is not None


async def test_tasks_that_are_not_durable_stay_in_memory(tmp_path: Path) -> None:
    """``durable=False`` costs no disk, and gives nothing back after a restart."""
    record = make(1, is_durable=False)
    async with opened(tmp_path) as bench:
        assert bench.journal.accepted(record) is None
        assert bench.journal.started(record) is None
        bench.journal.requeued(record)
        await finish(bench.journal, record)
        assert await bench.journal.recall("t1") is record
        assert bench.journal.kept == 1
        assert bench.journal.kept_bytes == record.size_bytes

    async with opened(tmp_path) as bench:
        assert await bench.journal.recall("t1") is None


async def test_pages_show_both_kinds_in_the_order_of_arrival(tmp_path: Path) -> None:
    """A person who pages through the tasks sees each of them once."""
    async with opened(tmp_path) as bench:
        for number in range(1, 8):
            record = make(number, is_durable=number % 3 != 0)
            await accept(bench.journal, record)
            if number != 2:
                await finish(bench.journal, record)
            record.input = b"gone"  # what is shown of the open ones comes from memory

        seen: list[str] = []
        query = Query(limit=3)
        while True:
            page = await bench.journal.page(query)
            seen += [record.id for record in page.records]
            if page.following is None:
                break
            query = Query(limit=3, after=page.following)
        assert seen == [f"t{number}" for number in range(7, 0, -1)]
        working = await bench.journal.page(Query(state=TaskState.SUBMITTED))
        assert [record.id for record in working.records] == ["t2"]
        assert (await bench.journal.page(Query(capability="other"))).records == []
        assert (await bench.journal.page(Query(after="nobody"))).records == []

    async with opened(tmp_path) as bench:
        page = await bench.journal.page(Query(limit=2, after="t5"))
        assert [record.id for record in page.records] == ["t4", "t2"]
        assert page.following == "t2"


async def test_retention_bounds_number_bytes_and_age(tmp_path: Path) -> None:
    """A disk of 1 GB must last for ever."""
    async with opened(tmp_path, count=5, age_s=7.0) as bench:
        for number in range(1, 11):
            record = make(number)
            await accept(bench.journal, record)
            await finish(bench.journal, record, Ending(TaskState.COMPLETED, float(number), b"1"))
        await settle(bench)
        assert bench.journal.kept == 5
        assert await bench.journal.recall("t5") is None
        assert bench.journal.find("t5") is None
        assert await bench.journal.recall("t6") is not None

        bench.journal.expire(now_s=15.5)
        await settle(bench)
        assert bench.journal.kept == 2
        assert await bench.journal.recall("t9") is not None

        bench.journal.configure(retention_s=100, retention_count=10, retention_bytes=0)
        bench.journal.expire(now_s=0.0)
        await settle(bench)
        assert (bench.journal.kept, bench.journal.kept_bytes) == (0, 0)


async def settle(bench: Bench) -> None:
    """Wait for what the journal has asked of the disk, and for what it makes of the answer."""
    for _ in range(3):
        await bench.storage.read(lambda _: None)
        await asyncio.sleep(0)


async def test_the_file_shrinks_when_tasks_have_gone(tmp_path: Path) -> None:
    """A burst of large tasks must not hold the disk for ever."""
    async with opened(tmp_path, size_bytes=10**9) as bench:
        for number in range(1, 21):
            record = make(number)
            record.input = b'"' + b"x" * 100_000 + b'"'
            await accept(bench.journal, record)
            await finish(bench.journal, record)
        pages = await bench.storage.read(count_pages)
        bench.journal.configure(retention_s=100, retention_count=1, retention_bytes=10**9)
        bench.journal.expire(now_s=0.0)
        await settle(bench)
        bench.journal.expire(now_s=0.0)
        await settle(bench)

        assert pages > 480
        assert await bench.storage.read(count_pages) < pages / 4
        # The file too, though nobody writes any more.
        assert bench.storage.path is not None
        while bench.storage.path.stat().st_size > pages * 4096 / 4:
            bench.journal.expire(now_s=0.0)
            await settle(bench)


def count_pages(connection: sqlite3.Connection) -> int:
    """Return how large the database is."""
    return int(connection.execute("PRAGMA page_count").fetchone()[0])


async def test_few_finished_tasks_stay_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred thousand finished tasks must not cost memory, and be found all the same."""
    monkeypatch.setattr(durable, "MAX_RECENT", 2)
    async with opened(tmp_path) as bench:
        for number in range(1, 6):
            record = make(number)
            await accept(bench.journal, record)
            await finish(bench.journal, record)

        assert [bench.journal.find(f"t{number}") is not None for number in range(1, 6)] == [
            False,
            False,
            False,
            True,
            True,
        ]
        assert await bench.journal.recall("t1") is not None


async def test_a_task_that_ends_while_somebody_looks_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between memory and disk there must be no gap in which an id looks new."""
    monkeypatch.setattr(durable, "MAX_RECENT", 0)
    record = make(1)
    async with opened(tmp_path) as bench:
        looking = asyncio.ensure_future(bench.journal.recall("t1"))
        await asyncio.sleep(0)
        accepted = bench.journal.accepted(record)
        assert accepted is not None
        pending = bench.journal.end(record, DONE, None)
        assert pending is not None
        record.close(DONE)
        bench.journal.ended(record)

        assert await looking is record
        await pending


async def test_a_capability_that_nothing_is_known_of_is_not_idempotent(tmp_path: Path) -> None:
    """What a damaged or strange row does not say is assumed to be dangerous."""
    async with opened(tmp_path) as bench:
        await accept(bench.journal, make(1))
        await bench.storage.write(
            lambda connection: connection.execute("UPDATE manifests SET document = '{}'").rowcount
        )

    async with opened(tmp_path) as bench:
        assert not bench.open_tasks[0].capability.idempotent
        assert bench.open_tasks[0].capability.name == "digest"
