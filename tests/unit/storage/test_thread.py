"""One thread writes for the loop: what it says is on disk is there, in order, whatever fails."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from kagent_sdk.errors import StorageError, StorageLockedError
from kagent_sdk.storage import thread
from kagent_sdk.storage.database import Durability, Opened, open_database
from kagent_sdk.storage.schema import Schema
from kagent_sdk.storage.thread import Storage
from tests.unit.storage.databases import (
    NOW_S,
    Gate,
    fail,
    files_in,
    names,
    opened,
    opened_storage,
    put,
    put_and_raise,
    read_names,
)


async def test_what_was_acknowledged_is_in_the_file(tmp_path: Path) -> None:
    """The whole promise: a future that is done is a row on disk."""
    path = tmp_path / "journal.db"
    async with opened_storage(path) as storage:
        await asyncio.gather(*(storage.write(put(f"{number:04}")) for number in range(1000)))
        assert len(await storage.read(names)) == 1000

    assert len(read_names(path)) == 1000
    assert files_in(tmp_path) == ["journal.db", "journal.db.lock"]


async def test_a_read_sees_what_was_written_before_it(tmp_path: Path) -> None:
    """A caller that got its task's id must find the task, without waiting for anything."""
    async with opened_storage(tmp_path / "journal.db") as storage:
        first = storage.write(put("a"))
        seen = await storage.read(names)

        assert seen == ["a"]
        assert first.done()


async def test_an_operation_that_raises_fails_alone(tmp_path: Path) -> None:
    """Tasks share a transaction: one that is refused must not cost the others theirs."""
    async with opened_storage(tmp_path / "journal.db") as storage:
        async with Gate(storage):
            group = [
                storage.write(put("a")),
                storage.write(fail(ValueError("refused"))),
                storage.write(put("b")),
            ]
        outcomes = await asyncio.gather(*group, return_exceptions=True)

        assert [repr(outcome) for outcome in outcomes] == ["None", "ValueError('refused')", "None"]
        assert await storage.read(names) == ["a", "b"]
        assert storage.trouble is None


@pytest.mark.parametrize("is_alone", [True, False])
async def test_what_a_failed_operation_wrote_is_undone(tmp_path: Path, *, is_alone: bool) -> None:
    """Half an operation on disk would be a task without its events."""
    async with opened_storage(tmp_path / "journal.db") as storage:
        async with Gate(storage):
            torn = storage.write(put_and_raise("torn", ValueError("too late")))
            others = [] if is_alone else [storage.write(put("a")), storage.write(put("b"))]

        with pytest.raises(ValueError, match="too late"):
            await torn
        await asyncio.gather(*others)
        assert await storage.read(names) == ([] if is_alone else ["a", "b"])


async def test_an_operation_may_raise_stop_iteration(tmp_path: Path) -> None:
    """A bare next() in an operation: a future refuses that exception, and all others would wait."""
    async with opened_storage(tmp_path / "journal.db") as storage:
        async with Gate(storage):
            stopped = storage.write(fail(StopIteration()))
            other = storage.write(put("a"))

        with pytest.raises(RuntimeError, match="StopIteration"):
            await stopped
        await other


async def test_an_operation_that_can_never_succeed_holds_nothing_up(tmp_path: Path) -> None:
    """Trying it again and again would keep every later result from the disk, for ever."""
    async with opened_storage(tmp_path / "journal.db") as storage:
        await storage.write(put("a"))
        async with Gate(storage):
            doubled = storage.write(put("a"), must=True)
            nonsense = storage.write(lambda connection: connection.execute("NONSENSE"), must=True)
            later = storage.write(put("b"), must=True)

        with pytest.raises(StorageError, match="UNIQUE") as caught:
            await doubled
        assert isinstance(caught.value.__cause__, sqlite3.IntegrityError)
        with pytest.raises(StorageError, match="syntax error"):
            await nonsense
        await later
        assert storage.trouble is None


@pytest.mark.parametrize("is_alone", [True, False])
async def test_an_operation_that_ends_the_transaction_is_refused(
    tmp_path: Path, *, is_alone: bool
) -> None:
    """What came after it would be written without the others, or twice."""
    async with opened_storage(tmp_path / "journal.db") as storage:
        async with Gate(storage):
            rude = storage.write(lambda connection: connection.execute("ROLLBACK"))
            others = [] if is_alone else [storage.write(put("a"))]

        with pytest.raises(StorageError, match="ended the transaction"):
            await rude
        await asyncio.gather(*others)
        await storage.write(put("b"))
        assert await storage.read(names) == (["b"] if is_alone else ["a", "b"])


async def test_a_write_happens_though_its_waiter_has_gone(tmp_path: Path) -> None:
    """A client that hangs up must not undo what a group of tasks shares."""
    async with opened_storage(tmp_path / "journal.db") as storage:
        async with Gate(storage):
            written, other = storage.write(put("a")), storage.write(put("b"))
            written.cancel()

        await other
        assert await storage.read(names) == ["a", "b"]


async def test_a_read_whose_waiter_has_gone_costs_nothing(tmp_path: Path) -> None:
    """Clients that ask and hang up must not keep the one thread busy."""
    reads: list[str] = []
    async with opened_storage(tmp_path / "journal.db") as storage:
        async with Gate(storage):
            storage.read(lambda _connection: reads.append("cancelled")).cancel()
        await storage.read(lambda _connection: reads.append("waited for"))

    assert reads == ["waited for"]


async def test_closing_does_what_waits(tmp_path: Path) -> None:
    """A shutdown comes while tasks end: their results belong on disk."""
    path = tmp_path / "journal.db"
    storage = Storage(path, "process")
    await storage.open()
    gate = Gate(storage)
    async with gate:
        waiting = [storage.write(put(f"{number:04}")) for number in range(600)]
        closing = asyncio.gather(storage.aclose(), storage.aclose())
    await closing

    assert [future.result() for future in waiting] == [None] * 600
    assert len(read_names(path)) == 600


async def test_what_comes_after_the_close_is_refused(tmp_path: Path) -> None:
    """An error at once instead of a future that is never done."""
    async with opened_storage(tmp_path / "journal.db") as storage:
        pass

    assert not storage.is_open
    with pytest.raises(StorageError, match="not open"):
        await storage.write(put("a"))
    with pytest.raises(StorageError, match="not open"), storage.view():
        pass


async def test_a_cancelled_close_still_closes(tmp_path: Path) -> None:
    """The shutdown budget may end while the disk is slow: the lock must not stay behind."""
    path = tmp_path / "journal.db"
    storage = Storage(path, "process")
    await storage.open()
    async with Gate(storage):
        closing = asyncio.create_task(storage.aclose())
        await asyncio.sleep(0)
        closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await storage.aclose()

    assert read_names(path) == []


async def test_a_cancelled_open_leaves_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that is called off while a large file is checked: the next start needs the lock."""
    is_opening, go_on = threading.Event(), threading.Event()

    def open_slowly(path: Path, durability: Durability, *, now_s: float, schema: Schema) -> Opened:
        is_opening.set()
        go_on.wait()
        return open_database(path, durability, now_s=now_s, schema=schema)

    monkeypatch.setattr(thread, "open_database", open_slowly)
    storage = Storage(tmp_path / "journal.db", "process")
    opening = asyncio.create_task(storage.open())
    assert await asyncio.to_thread(is_opening.wait, 60)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    go_on.set()
    await storage.aclose()

    with opened(tmp_path / "journal.db"):
        assert not storage.is_open


async def test_a_close_during_the_open_ends_it(tmp_path: Path) -> None:
    """Whoever stops an agent that is starting must not wait for ever."""
    storage = Storage(tmp_path / "journal.db", "process")
    opening = asyncio.create_task(storage.open())
    await asyncio.sleep(0)
    await storage.aclose()
    await opening

    assert not storage.is_open


async def test_an_open_that_failed_can_be_tried_again(tmp_path: Path) -> None:
    """The host that is still going down holds the lock for a moment."""
    storage = Storage(tmp_path / "journal.db", "process", clock=lambda: NOW_S)
    with opened(tmp_path / "journal.db"), pytest.raises(StorageLockedError, match="another host"):
        await storage.open()
    report = await storage.open()
    await storage.aclose()

    assert not report.is_new
    assert report.quarantined is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_thread_that_ends_by_a_bug_leaves_nobody_waiting(tmp_path: Path) -> None:
    """Waiting for ever is the one answer that nobody can act on."""
    async with opened_storage(tmp_path / "journal.db") as storage:
        async with Gate(storage):
            deadly = storage.write(fail(KeyboardInterrupt()))
            waiting = storage.write(put("b"), must=True)
        outcomes = await asyncio.gather(deadly, waiting, return_exceptions=True)

        assert [str(outcome) for outcome in outcomes] == ["the journal's thread has ended"] * 2
        assert not storage.is_open


def test_a_loop_that_is_gone_does_not_stop_the_thread(tmp_path: Path) -> None:
    """An embedding program may close its loop without a goodbye: what it wrote is kept."""
    path = tmp_path / "journal.db"

    async def start() -> tuple[Storage, Gate]:
        storage = Storage(path, "process")
        await storage.open()
        gate = Gate(storage)
        await gate.__aenter__()
        _ = storage.write(put("a"))
        return storage, gate

    with asyncio.Runner() as runner:
        storage, gate = runner.run(start())
    gate.open()
    storage._queue.put(None)
    assert storage._thread is not None
    storage._thread.join()

    assert read_names(path) == ["a"]


async def test_in_memory_nothing_is_left_behind(tmp_path: Path) -> None:
    """``tasks.durability: none`` must not touch the disk at all."""
    async with opened_storage(tmp_path / "journal.db", durability="none") as storage:
        await storage.write(put("a"))
        assert storage.path is None

    assert files_in(tmp_path) == []
