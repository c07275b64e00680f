"""Transactions: a task's own, and those of loops and hooks."""

# In a task a plain call makes a change: that is one of the cases.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kagent_sdk.context import state_overlay
from kagent_sdk.context.state import State
from kagent_sdk.context.state_access import DirectAccess
from kagent_sdk.context.state_overlay import Overlay
from kagent_sdk.errors import StateConflictError, StateError, StateQuotaError, StateValueError
from kagent_sdk.protocol.state import (
    MAX_VALUE_BYTES,
    Get,
    Items,
    Scan,
    Transaction,
    Write,
    decode_transaction,
)
from tests.unit.context.fake_host import FakeHost


class Task:
    """A task's state, on a host."""

    def __init__(self, host: FakeHost | None = None) -> None:
        self.host = host or FakeHost()
        self.overlay = Overlay(DirectAccess(self.host), "task t-1")
        self.state = State(self.overlay)

    def end(self) -> Transaction | None:
        """End the task, and return what it commits."""
        payload = self.overlay.seal()
        return None if payload is None else decode_transaction(payload)


def increment(number: int) -> int:
    """Return the next number."""
    return number + 1


async def test_a_task_sees_its_own_changes_and_nobody_else_does() -> None:
    """Before its end nothing has happened."""
    task = Task()
    task.host.put("a", b"1")
    await task.state.set("a", 2)
    await task.state.set("b", 3, ttl_s=9)
    await task.state.delete("c")

    assert await task.state.get("a") == 2
    assert await task.state.get("b") == 3
    assert await task.state.get("c", "none") == "none"
    assert task.host.values == {"a": b"1"}
    assert task.host.commits == []
    assert task.end() == Transaction(
        {}, (), (Write("a", b"2"), Write("b", b"3", 9.0), Write("c", None))
    )


def test_a_plain_call_changes_it_in_sync_code() -> None:
    """As `emit` and `progress` do."""
    task = Task()
    task.state.set("a", 2)
    task.state.delete("b")

    assert task.end() == Transaction({}, (), (Write("a", b"2"), Write("b", None)))


async def test_what_was_read_is_told_and_stays_as_it_was() -> None:
    """A key that changes while a task looks would be two keys to it."""
    task = Task()
    task.host.put("a", b"1")
    assert await task.state.get("a") == 1
    assert await task.state.get("none") is None
    task.host.put("a", b"2")
    task.host.put("none", b"2")
    assert await task.state.get("a") == 1
    assert await task.state.get("none") is None
    await task.state.set("b", 1)

    assert task.end() == Transaction({"a": 1, "none": 0}, (), (Write("b", b"1"),))


async def test_a_task_that_only_reads_commits_nothing() -> None:
    """There is nothing that could be wrong."""
    task = Task()
    await task.state.get("a")
    await task.state.items()

    assert task.end() is None


async def test_updates_and_comparisons_are_reads_and_changes() -> None:
    """Each on what came before."""
    task = Task()
    task.host.put("n", b"5")
    assert await task.state.update("n", increment) == 6
    assert await task.state.update("n", increment) == 7
    assert await task.state.compare_and_set("n", 7, 8) is True
    assert await task.state.compare_and_set("n", 7, 9) is False
    assert await task.state.compare_and_set("m", None, 1) is True
    assert await task.state.compare_and_set("m", None, 2) is False

    assert task.end() == Transaction({"n": 1, "m": 0}, (), (Write("n", b"8"), Write("m", b"1")))


async def test_jobs_of_one_task_lose_no_update() -> None:
    """All of them read before the first has written."""
    host = FakeHost(is_prompt=False)
    task = Task(host)

    async def count() -> None:
        await task.state.update("n", increment, default=0)

    jobs = [asyncio.ensure_future(count()) for _ in range(10)]
    while not all(job.done() for job in jobs):
        host.answer(host.waiting)
        await asyncio.sleep(0)

    assert task.end() == Transaction({"n": 0}, (), (Write("n", b"10"),))


def test_threads_of_one_task_lose_no_update() -> None:
    """`asyncio.to_thread` with the context; one comes while the other computes."""
    task = Task()
    has_read, may_write = threading.Event(), threading.Event()

    def slow(number: int) -> int:
        has_read.set()
        may_write.wait(20)
        return number + 1

    thread = threading.Thread(target=lambda: task.state.update("n", slow, default=0).result())
    thread.start()
    has_read.wait(20)
    task.state.update("n", increment, default=0).result()
    may_write.set()
    thread.join(20)

    assert task.end() == Transaction({"n": 0}, (), (Write("n", b"2"),))


async def test_a_list_shows_own_changes_and_tells_what_the_host_has_shown() -> None:
    """Count and highest version: so that one who adds a key is seen."""
    task = Task()
    for number, key in enumerate(("a/1", "a/2", "a/3", "b"), start=1):
        task.host.put(key, str(number).encode())
    await task.state.set("a/0", 0)
    await task.state.set("a/2", "two")
    await task.state.delete("a/3")
    await task.state.set("c", 1)

    assert await task.state.items("a/") == [("a/0", 0), ("a/1", 1), ("a/2", "two")]
    assert [key async for key, _ in task.state.items("a/")] == ["a/0", "a/1", "a/2"]
    ended = task.end()
    assert ended is not None
    assert (ended.reads, ended.scans) == ({}, (Scan("a/", 3, 3),))


async def test_an_empty_list_is_a_thing_to_have_seen() -> None:
    """Two tasks that both find nothing must not both be the first."""
    task = Task()
    assert await task.state.items("jobs/") == []
    await task.state.set("jobs/mine", 1)
    task.host.put("jobs/theirs", b"1")
    ended = task.end()
    assert ended is not None

    with pytest.raises(StateConflictError):
        task.host.commit(ended)


async def test_a_list_of_several_pages_holds_each_key_to_what_it_was() -> None:
    """A change of the first page, behind a change of the second, is seen by no count."""
    task = Task()
    task.host.page_items = 2
    for key in ("a", "b", "c"):
        task.host.put(key, b"1")
    pages = iter([False, True])

    def interrupt(request: Get | Items | Transaction) -> None:
        if isinstance(request, Items) and next(pages):
            task.host.put("a", b"2")
            task.host.put("c", b"2")

    task.host.before = interrupt
    assert await task.state.items() == [("a", 1), ("b", 1), ("c", 2)]
    await task.state.set("sum", 4)
    ended = task.end()
    assert ended is not None

    assert ended.reads == {"a": 1, "b": 2, "c": 5}
    assert ended.scans == (Scan("", 3, 5),)
    with pytest.raises(StateConflictError) as caught:
        task.host.commit(ended)
    assert caught.value.keys == ("a",)


async def test_a_list_that_changes_is_two_lists() -> None:
    """A key that came and went in between was seen all the same."""
    task = Task()
    assert await task.state.items() == []
    task.host.put("a", b"1")
    assert await task.state.items() == [("a", 1)]
    task.host.put("a", None)
    await task.state.set("b", 1)
    ended = task.end()
    assert ended is not None

    with pytest.raises(StateConflictError):
        task.host.commit(ended)


async def test_a_task_that_has_ended_changes_nothing() -> None:
    """A job that outlives its task would change what nobody commits."""
    task = Task()
    await task.state.get("a")
    task.end()

    for call in (
        lambda: task.state.get("a"),
        lambda: task.state.set("a", 1),
        task.overlay.seal,
    ):
        with pytest.raises(StateError, match="task t-1 has ended: its state can be used no more"):
            call()
    for pending in (task.state.items(), task.state.update("a", increment)):
        with pytest.raises(StateError, match="task t-1 has ended"):
            await pending


async def test_a_read_that_is_answered_after_the_end_is_no_part_of_it() -> None:
    """As above."""
    host = FakeHost(is_prompt=False)
    task = Task(host)
    late = [
        asyncio.ensure_future(pending)
        for pending in (
            task.state.get("a"),
            task.state.update("a", increment, default=0),
            task.state.items(),
        )
    ]
    await asyncio.sleep(0)
    task.overlay.discard()
    host.answer(3)

    for each in late:
        with pytest.raises(StateError, match="task t-1 has ended"):
            await each


def test_an_update_that_nobody_awaits_fails_the_task() -> None:
    """It would be completed, and its change lost, without a word."""
    begins: list[Callable[[Task], object]] = [
        lambda task: task.state.update("n", increment),
        lambda task: task.state.compare_and_set("n", 1, 2),
    ]
    for begin in begins:
        task = Task(FakeHost(is_prompt=False))
        begin(task)
        with pytest.raises(StateError, match=r"\('n'\) was never awaited in task t-1"):
            task.end()


async def test_a_transaction_has_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host would take the worker for broken; and a task must not fill the memory."""
    task = Task()
    text = "x" * (MAX_VALUE_BYTES - 2)
    for number in (1, 2, 3, 3, 3):
        await task.state.set(f"{number}", text)
    with pytest.raises(
        StateValueError, match="the transaction writes 4194308 bytes, over the limit"
    ):
        await task.state.set("4", text)
    await task.state.set("3", "")
    await task.state.set("4", text)

    monkeypatch.setattr(state_overlay, "MAX_TRANSACTION_KEYS", 5)
    await task.state.get("1")
    await task.state.get("5")
    await task.state.set("4", "")
    for pending in (task.state.get("6"), task.state.items()):
        with pytest.raises(
            StateError, match="task t-1 reads and writes 6 keys, over the limit of 5"
        ):
            await pending
    with pytest.raises(StateError, match="task t-1 reads and writes 6 keys, over the limit of 5"):
        task.state.set("6", 1)


async def test_a_block_is_committed_at_its_end() -> None:
    """What a loop does in several steps."""
    host = FakeHost()
    state = State(DirectAccess(host))
    host.put("a", b"1")

    async with state.transaction() as inner:
        await inner.set("b", await inner.get("a"))
        await inner.items("x")
        assert host.commits == []
    assert host.commits == [Transaction({"a": 1}, (Scan("x", 0, 0),), (Write("b", b"1"),))]
    with pytest.raises(StateError, match="the transaction has ended"):
        await inner.get("a")


async def fail(state: State) -> State:
    """Change something in a block that raises, and return the block's state."""
    opened: list[State] = []
    with suppress(KeyError):
        async with state.transaction() as inner:
            opened.append(inner)
            await inner.set("a", 9)
            raise KeyError
    return opened[0]


async def copy(state: State, source: str, target: str, before_end: Callable[[], None]) -> None:
    """Copy a key in a block."""
    async with state.transaction() as inner:
        await inner.set(target, await inner.get(source))
        before_end()


async def test_a_block_that_raises_changes_nothing() -> None:
    """All or none."""
    host = FakeHost()
    state = State(DirectAccess(host))
    inner = await fail(state)
    with pytest.raises(StateError, match="the transaction has ended"):
        await inner.get("a")
    async with state.transaction() as inner:
        await inner.get("a")

    assert host.commits == []


async def test_a_conflict_is_raised_at_the_end_of_the_block() -> None:
    """Where the author can do it again."""
    host = FakeHost(quota_bytes=8)
    state = State(DirectAccess(host))
    with pytest.raises(StateConflictError) as caught:
        await copy(state, "a", "b", lambda: host.put("a", b'"word"'))
    assert caught.value.keys == ("a",)
    with pytest.raises(StateQuotaError):
        await copy(state, "a", "b", lambda: None)

    assert host.values == {"a": b'"word"'}


async def test_a_block_in_a_task_joins_the_task() -> None:
    """A function for loops and tasks alike needs no second form."""
    task = Task()
    task.host.put("a", b"1")
    async with task.state.transaction() as inner:
        await inner.update("a", increment)
        assert await task.state.get("a") == 1
        assert await inner.items() == [("a", 2)]
    assert await task.state.get("a") == 2
    await fail(task.state)

    assert task.host.commits == []
    ended = task.end()
    assert ended is not None
    assert (ended.reads, ended.writes) == ({"a": 1}, (Write("a", b"2"),))


async def test_a_block_in_a_task_sees_the_other_jobs_of_the_task() -> None:
    """Two jobs with a block each must not overwrite each other."""
    task = Task()

    with pytest.raises(StateConflictError):
        await copy(task.state, "a", "a", lambda: _set(task.state, "a", 5))
    assert await task.state.get("a") == 5


def _set(state: State, key: str, value: object) -> None:
    state.set(key, value)


async def test_an_update_that_nobody_awaits_fails_the_block() -> None:
    """As in a task."""
    state = State(DirectAccess(FakeHost()))

    with pytest.raises(StateError, match=r"update\('n'\) was never awaited in the transaction"):
        await _forget(state)


async def _forget(state: State) -> None:
    async with state.transaction() as inner:
        inner.update("n", increment)


async def test_a_transaction_is_begun_once_and_awaited() -> None:
    """Two blocks are two transactions."""
    transaction = State(DirectAccess(FakeHost())).transaction()

    async with transaction:
        with pytest.raises(RuntimeError, match="has begun already"):
            await transaction.__aenter__()
    async with transaction as inner:
        await inner.set("a", 1)
    with pytest.raises(RuntimeError, match="write `async with`"):
        transaction.__enter__()


def test_a_sync_block_that_raises_changes_nothing() -> None:
    """As an async one."""
    host = FakeHost()

    with suppress(KeyError), State(DirectAccess(host)).transaction() as inner:
        inner.set("a", 1).result()
        raise KeyError

    assert host.commits == []


KEYS = st.sampled_from(["a", "b", "p/a", "p/b"])
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["get", "set", "delete", "update", "items"]), KEYS), max_size=6
)


@given(st.lists(st.tuples(st.booleans(), OPERATIONS), max_size=4), st.integers(1, 3))
@settings(max_examples=200, deadline=None)
def test_transactions_that_are_committed_are_as_good_as_one_after_the_other(
    transactions: list[tuple[bool, list[tuple[str, str]]]], page_items: int
) -> None:
    """Serializable: each saw, when it was committed, what is there then."""
    host = FakeHost()
    host.page_items = page_items
    tasks = [(Task(host), operations) for _, operations in transactions]
    logs: list[list[Any]] = [[] for _ in tasks]
    # Step by step in turn, so that they come between each other.
    for step in range(6):
        for number, (task, operations) in enumerate(tasks):
            if step < len(operations):
                logs[number].append(_do(task.state, f"{number}.{step}", *operations[step]))
    for number, (task, operations) in enumerate(tasks):
        replay = Task(host)
        ended = task.end()
        if ended is None:
            continue
        again = [
            _do(replay.state, f"{number}.{step}", *operation)
            for step, operation in enumerate(operations)
        ]
        try:
            host.commit(ended)
        except StateConflictError:
            continue
        assert logs[number] == again


def _do(state: State, mark: str, name: str, key: str) -> Any:
    match name:
        case "get":
            return state.get(key).result()
        case "set":
            return state.set(key, mark).result()
        case "delete":
            return state.delete(key).result()
        case "update":
            return state.update(key, lambda old: f"{old}+{mark}", "").result()
        case _:
            return state.items(key[:2] if "/" in key else "").result()
