"""Loops: when they run, what a crash does, how they end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from kagent_sdk.context import CURRENT_LOOP, Flag, LoopContext
from kagent_sdk.worker.loops import LoopRunner, backoff_s, count_crash, pause_s
from kagent_sdk.worker.parts import LoopPart
from tests.unit.worker.rig import Bench


class Time:
    """Sleeps by moving a clock; ends the loop after so many sleeps.

    Attributes:
        naps: how long each sleep was.
    """

    def __init__(self, limit: int = 1000) -> None:
        self.now_s = 0.0
        self.naps: list[float] = []
        self._limit = limit

    def __call__(self) -> float:
        """Tell the time."""
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        """Note the nap."""
        self.naps.append(seconds)
        self.now_s += seconds
        if len(self.naps) >= self._limit:
            raise asyncio.CancelledError


def make_runner(
    function: Callable[..., Any],
    time: Time,
    *,
    every_s: float | None = None,
    is_async: bool = True,
    takes_context: bool = False,
    bench: Bench | None = None,
) -> LoopRunner:
    """Return a loop's runner on that time."""
    part = LoopPart("sweep", function, every_s, is_async, takes_context)
    return LoopRunner(part, (bench or Bench()).services, Flag(), time.sleep, time)


def test_the_backoff_doubles_up_to_a_minute() -> None:
    """A database that is down must not be hammered, nor forgotten."""
    assert [backoff_s(crashes) for crashes in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff_s(10**9) == 60


def test_a_healthy_run_ends_the_row_of_crashes() -> None:
    """A crash after a day is not the sequel of one yesterday."""
    assert count_crash(3, ran_s=1) == 4
    assert count_crash(3, ran_s=60) == 1


def test_the_period_is_from_start_to_start() -> None:
    """Every 30 s means every 30 s, not 30 s and a bit; what is late is not made up for."""
    assert pause_s(30, took_s=10) == 20
    assert pause_s(30, took_s=100) == 0


async def test_a_periodic_loop_runs_at_once_and_again() -> None:
    """With the number of the run."""
    time = Time(limit=3)
    runs: list[int] = []

    async def sweep(ctx: LoopContext) -> None:
        runs.append(ctx.run)
        assert CURRENT_LOOP.get() is ctx
        time.now_s += 10

    runner = make_runner(sweep, time, every_s=30, takes_context=True)
    with pytest.raises(asyncio.CancelledError):
        await runner.live()

    assert runs == [1, 2, 3]
    assert time.naps == [20, 20, 20]
    status = runner.status
    assert (status.name, status.every_s, status.state, status.runs) == ("sweep", 30, "stopped", 3)
    assert (status.crashes, status.last_error, status.last_took_s) == (0, None, 10)


async def test_a_life_long_loop_that_returns_is_stopped() -> None:
    """It has said that it is done."""
    runs: list[int] = []

    async def live() -> None:
        runs.append(1)

    runner = make_runner(live, Time())
    await runner.live()

    assert runs == [1]
    assert runner.status.state == "stopped"


@pytest.mark.parametrize(
    "error", [ValueError("oh"), SystemExit(1), asyncio.CancelledError(), StopIteration()]
)
@pytest.mark.parametrize("is_async", [True, False])
async def test_a_crash_is_logged_counted_and_followed_by_another_run(
    error: BaseException, is_async: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """One bad answer of a server must not end the loop for good."""
    time = Time(limit=3)

    async def live() -> None:
        raise error

    def live_sync() -> None:
        raise error

    runner = make_runner(live if is_async else live_sync, time, is_async=is_async)
    with pytest.raises(asyncio.CancelledError):
        await runner.live()

    assert time.naps == [1, 2, 4]
    assert runner.status.crashes == 3
    assert runner.status.last_error is not None
    err = capsys.readouterr().err
    assert err.startswith("loop 'sweep' crashed; next run in 1 s:\nTraceback")
    assert err.count("Traceback") >= 3


async def test_a_periodic_loop_that_crashes_waits_for_the_longer_of_both() -> None:
    """Its period, or the backoff."""
    time = Time(limit=4)
    outcomes = iter([True, True, False, True])

    async def sweep() -> None:
        if next(outcomes):
            raise ValueError("oh")

    with pytest.raises(asyncio.CancelledError):
        await make_runner(sweep, time, every_s=1.5).live()

    assert time.naps == [1.5, 2, 1.5, 1.5]


async def test_the_state_is_shown_while_it_runs_and_while_it_waits() -> None:
    """`/status` says what each loop is at."""
    shown: list[str] = []
    time = Time(limit=2)

    async def sweep() -> None:
        shown.append(runner.status.state)
        if len(shown) > 3:
            raise ValueError("oh")

    async def nap(seconds: float) -> None:
        shown.append(runner.status.state)
        await time.sleep(seconds)

    runner = make_runner(sweep, time, every_s=1)
    runner._sleep = nap
    shown.append(runner.status.state)
    with pytest.raises(asyncio.CancelledError):
        await runner.live()
    shown.append(runner.status.state)

    assert shown == ["waiting", "running", "waiting", "running", "backing_off", "stopped"]


async def test_a_sync_loop_keeps_its_thread() -> None:
    """A database connection that is bound to its thread works in every run."""
    threads: list[int] = []

    def sweep() -> None:
        threads.append(threading.get_ident())
        assert threading.current_thread().name == "loop-sweep-1"

    runner = make_runner(sweep, Time(limit=3), every_s=1, is_async=False)
    with pytest.raises(asyncio.CancelledError):
        await runner.live()

    assert len(threads) == 3
    assert set(threads) == {threads[0]} != {threading.get_ident()}


async def test_stopping_cancels_an_async_loop() -> None:
    """At the place where it waits."""
    ended: list[str] = []

    async def live() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cleaned up")

    runner = make_runner(live, Time())
    await runner.aclose(1)
    runner.start()
    await asyncio.sleep(0)
    runner.stopping.set()
    await runner.aclose(20)
    await runner.aclose(20)

    assert ended == ["cleaned up"]
    assert runner.status.state == "stopped"


async def test_a_sync_loop_may_finish_what_it_is_at() -> None:
    """It sees the flag and returns; nobody pulls the thread away."""
    ended: list[str] = []
    begun = asyncio.Event()
    bench = Bench()

    def live(ctx: LoopContext) -> None:
        bench.services.mailbox.post(begun.set)
        assert ctx.stopping.wait(20)
        ended.append("by itself")

    runner = make_runner(live, Time(), is_async=False, takes_context=True, bench=bench)
    runner.start()
    await begun.wait()
    runner.stopping.set()
    await runner.aclose(20)

    assert ended == ["by itself"]


async def test_a_sync_loop_that_does_not_look_is_left_behind() -> None:
    """Its thread is a daemon: it cannot hold the worker."""
    begun, release = asyncio.Event(), threading.Event()
    bench = Bench()

    def live() -> None:
        bench.services.mailbox.post(begun.set)
        release.wait(20)

    runner = make_runner(live, Time(), is_async=False, bench=bench)
    runner.start()
    await begun.wait()
    runner.stopping.set()
    await runner.aclose(0.01)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    state = runner.status.state
    release.set()

    assert state == "stopped"


async def test_a_loop_may_call_and_read_secrets() -> None:
    """What a task may, a loop may."""
    bench = Bench()
    answers: list[object] = []

    async def live(ctx: LoopContext) -> None:
        assert len(ctx.secrets) == 0
        call = ctx.call("other", "c", None)
        bench.services.calls.answer(1, b'{"output": 5}')
        answers.append(await call)

    await make_runner(live, Time(), takes_context=True, bench=bench).live()

    assert answers == [5]
