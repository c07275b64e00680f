"""One piece of work, in async code, in a thread, and in nobody's hands."""

# Some of it is never awaited: that is what these tests are about.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import Future

import pytest

from kagent_sdk.context.pending import Pending, Steps
from kagent_sdk.protocol.state import Answer


def answer(number: int) -> Answer:
    """Return an answer with a number in it."""
    return Answer(None, number, None, 0)


class Work:
    """Waits for two answers, and a moment in between; returns both."""

    def __init__(self) -> None:
        self.first: Future[Answer] = Future()
        self.second: Future[Answer] = Future()

    def steps(self) -> Steps[tuple[int | None, int | None]]:
        """Do it."""
        one = yield self.first
        yield 0.001
        two = yield self.second
        assert one is not None
        assert two is not None
        return one.version, two.version


async def test_async_code_awaits_it() -> None:
    """As often as it likes."""
    work = Work()
    pending = Pending(work.steps())
    work.first.set_result(answer(1))
    asyncio.get_running_loop().call_later(0.01, work.second.set_result, answer(2))

    assert await pending == (1, 2)
    assert await pending == (1, 2)


def test_a_thread_takes_its_result() -> None:
    """As often as it likes."""
    work = Work()
    pending = Pending(work.steps())
    work.first.set_result(answer(1))
    work.second.set_result(answer(2))

    assert pending.result() == (1, 2)
    assert pending.result(timeout_s=0) == (1, 2)


def test_a_result_that_is_late_is_not_waited_for_again() -> None:
    """It may hold up others; a read can be begun anew."""
    pending = Pending(Work().steps())

    with pytest.raises(TimeoutError):
        pending.result(timeout_s=0)
    with pytest.raises(RuntimeError, match="has failed already"):
        pending.result()


async def test_a_result_does_not_block_the_event_loop() -> None:
    """It would wait for ever: the answer comes through the loop."""
    with pytest.raises(RuntimeError, match="would block the event loop: write `await"):
        Pending(Work().steps()).result()


def test_what_fails_at_once_is_raised_at_once() -> None:
    """A plain call without `await` must not hide a wrong key."""

    def fail() -> Steps[None]:
        yield from [0.0] if int("no number") else []

    with pytest.raises(ValueError, match="invalid literal"):
        Pending(fail())


async def test_what_fails_later_is_raised_where_it_is_awaited_and_only_once() -> None:
    """An exception that is raised twice has the traceback of both."""
    work = Work()
    pending = Pending(work.steps())
    work.first.set_exception(ValueError("later"))

    with pytest.raises(ValueError, match="later"):
        await pending
    with pytest.raises(RuntimeError, match="has failed already"):
        await pending


def test_what_holds_up_others_begins_when_somebody_waits() -> None:
    """Else two that are awaited in another order would wait for each other."""
    begun: list[int] = []

    def begin() -> Steps[int]:
        begun.append(1)
        yield 0.0
        return 7

    pending = Pending(begin(), at_once=False)
    assert begun == []
    assert pending.result() == 7
    assert asyncio.run(_await(Pending(begin(), at_once=False))) == 7


async def _await(pending: Pending[int]) -> int:
    return await pending


async def test_it_is_awaited_by_one_at_a_time() -> None:
    """Two would each take an answer that is the other's."""
    work = Work()
    pending = Pending(work.steps())

    async def wait() -> object:
        return await pending

    first = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="is awaited elsewhere"):
        await pending
    work.first.set_result(answer(1))
    work.second.set_result(answer(2))

    assert await first == (1, 2)


async def test_cancelling_it_ends_the_work() -> None:
    """The generator's own `finally` runs."""
    work = Work()
    pending = Pending(work.steps())

    async def wait() -> object:
        return await pending

    job = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    job.cancel()
    await asyncio.wait([job])

    assert job.cancelled()
    with pytest.raises(RuntimeError, match="has failed already"):
        await pending


def test_what_nobody_waits_for_is_told() -> None:
    """A change that was never made is the worst of errors: the silent one."""
    told: list[int] = []
    work = Work()
    Pending(work.steps(), lambda: told.append(1))
    gc.collect()

    assert told == [1]


def test_what_was_waited_for_or_done_is_not_told() -> None:
    """Whoever has seen a TimeoutError knows."""
    told: list[int] = []

    def done() -> Steps[None]:
        yield from ()

    Pending(done(), lambda: told.append(1))
    late = Pending(Work().steps(), lambda: told.append(1))
    with pytest.raises(TimeoutError):
        late.result(timeout_s=0)
    del late
    gc.collect()

    assert told == []
