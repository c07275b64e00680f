"""The pool of threads, and interrupts that stay inside their work."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Self

import pytest

from kagent_sdk.errors import TaskInterrupted
from kagent_sdk.worker import threads as threads_module
from kagent_sdk.worker.mailbox import Mailbox
from kagent_sdk.worker.threads import Threads


class Chore:
    """A work that calls a function and remembers what came of it.

    Attributes:
        outcomes: what `finish` saw: one entry, or the pool is broken.
    """

    def __init__(self, function: Callable[[], object], mailbox: Mailbox) -> None:
        self.thread_ident = 0
        self.has_begun = False
        self.is_withdrawn = False
        self.is_interrupted = False
        self.outcomes: list[object] = []
        self.thread_name = ""
        self.done = asyncio.Event()
        self._outcome: object = None
        self._function = function
        self._mailbox = mailbox

    def work(self) -> None:
        """Call the function."""
        self.thread_name = threading.current_thread().name
        try:
            self._outcome = self._function()
        except BaseException as exc:  # noqa: BLE001 - as the real ones do
            self._outcome = exc

    def finish(self) -> None:
        """Tell the loop."""
        self.outcomes.append(self._outcome)
        self._mailbox.post(self.done.set)


class Pool:
    """Threads with their mailbox, closed at the end."""

    def __init__(self, size: int) -> None:
        self.mailbox = Mailbox(asyncio.get_running_loop())
        self.threads = Threads(size, "pool", self.mailbox)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.threads.close()

    def chore(self, function: Callable[[], object]) -> Chore:
        """Return a work."""
        return Chore(function, self.mailbox)

    def submit(self, function: Callable[[], object]) -> Chore:
        """Submit a work."""
        chore = self.chore(function)
        self.threads.submit(chore)
        return chore


async def test_threads_start_on_demand_and_are_used_again() -> None:
    """An agent without sync code has no thread; one with little has few."""
    async with Pool(4) as pool:
        assert pool.threads.busy == 0
        names = set()
        for _ in range(3):
            chore = pool.submit(lambda: 1)
            await chore.done.wait()
            while pool.threads.busy:  # noqa: ASYNC110 - what a thread does
                await asyncio.sleep(0)
            names.add(chore.thread_name)

    assert names == {"pool-1"}


async def test_no_more_than_size_works_are_done_at_a_time() -> None:
    """The rest waits, in order."""
    release = threading.Event()
    async with Pool(2) as pool:
        chores = [pool.submit(lambda: release.wait(20)) for _ in range(5)]
        while sum(chore.has_begun for chore in chores) < 2:  # noqa: ASYNC110 - what a thread does
            await asyncio.sleep(0)
        assert pool.threads.busy == 2
        release.set()
        for chore in chores:
            await chore.done.wait()

    assert [chore.outcomes for chore in chores] == [[True]] * 5
    assert {chore.thread_name for chore in chores} == {"pool-1", "pool-2"}


async def test_threads_never_keep_the_process_from_ending() -> None:
    """A stuck one is left behind."""
    async with Pool(1) as pool:
        chore = pool.submit(lambda: threading.current_thread().daemon)
        await chore.done.wait()

    assert chore.outcomes == [True]


async def test_a_work_that_waits_can_be_taken_back() -> None:
    """It is answered at once, and no thread takes it later."""
    release = threading.Event()
    async with Pool(1) as pool:
        first = pool.submit(lambda: release.wait(20))
        second = pool.submit(lambda: 2)
        while not first.has_begun:  # noqa: ASYNC110 - what a thread does
            await asyncio.sleep(0)
        taken_back = (pool.threads.withdraw(first), pool.threads.withdraw(second))
        release.set()
        third = pool.submit(lambda: 3)
        await third.done.wait()
        too_late = pool.threads.withdraw(third)

    assert taken_back == (False, True)
    assert (second.outcomes, third.outcomes) == ([], [3])
    assert not too_late


async def test_an_interrupt_is_raised_in_the_work() -> None:
    """Code that ignores its cancellation is stopped between two bytecodes."""

    def spin() -> None:
        while True:
            time.sleep(0)

    async with Pool(1) as pool:
        chore = pool.submit(spin)
        while not chore.thread_ident:  # noqa: ASYNC110 - what a thread does
            await asyncio.sleep(0)
        pool.threads.interrupt(chore)
        pool.threads.interrupt(chore)
        await chore.done.wait()
        after = pool.submit(lambda: sum(range(10_000)))
        await after.done.wait()

    assert isinstance(chore.outcomes[0], TaskInterrupted)
    assert after.outcomes == [sum(range(10_000))]


async def test_a_work_that_is_not_begun_or_done_is_not_interrupted() -> None:
    """There is no thread to raise it in."""
    async with Pool(1) as pool:
        waiting = pool.chore(lambda: 1)
        pool.threads.interrupt(waiting)
        pool.threads.submit(waiting)
        await waiting.done.wait()
        pool.threads.interrupt(waiting)
        after = pool.submit(lambda: sum(range(10_000)))
        await after.done.wait()

    assert not waiting.is_interrupted
    assert after.outcomes == [sum(range(10_000))]


@pytest.fixture
def _hasty_switches() -> Iterator[None]:
    """Let threads change places after every few bytecodes.

    New threads are not measured meanwhile: an interrupt that lands in coverage's own code would
    leave its lock locked for good.
    """
    before_s, tracer = sys.getswitchinterval(), threading.gettrace()
    sys.setswitchinterval(1e-6)
    threading.settrace(None)
    yield
    threading.settrace(tracer)
    sys.setswitchinterval(before_s)


@pytest.mark.usefixtures("_hasty_switches")
async def test_interrupts_from_another_thread_never_hit_the_next_work() -> None:
    """Late ones are taken back or swallowed; every work is finished exactly once."""
    rng = random.Random(7)  # noqa: S311 - a test's variety
    async with Pool(1) as pool:
        for _ in range(500):
            rounds = rng.randrange(100)
            victim = pool.chore(lambda: sum(each for each in range(rounds)))  # noqa: B023 - awaited
            hunter = threading.Thread(target=hunt, args=(pool.threads, victim, rng.randrange(100)))
            hunter.start()
            pool.threads.submit(victim)
            bystander = pool.submit(lambda: sum(each for each in range(300)))
            await victim.done.wait()
            await bystander.done.wait()
            hunter.join()

            assert len(victim.outcomes) == 1
            assert bystander.outcomes == [sum(range(300))]


def hunt(threads: Threads, victim: Chore, delay: int) -> None:
    """Interrupt a work some bytecodes after a thread has taken it."""
    while not (victim.thread_ident or victim.outcomes):
        pass
    for _ in range(delay):
        pass
    threads.interrupt(victim)


class Sniper:
    """A trace function that interrupts a work at its n-th bytecode in a thread."""

    def __init__(self, threads: Threads, victim: Chore, shot: int) -> None:
        self.victim = victim
        self.has_fired = False
        self._threads = threads
        self._left = shot

    def __call__(self, frame: FrameType, event: str, _: object) -> Sniper | None:
        """Count bytecodes while the work is armed, and shoot."""
        if frame.f_code.co_filename not in (threads_module.__file__, __file__):
            return None
        frame.f_trace_opcodes = True
        if event != "opcode" or not self.victim.thread_ident or self.has_fired:
            return self
        if self._left == 0 and not self._threads._lock.locked():
            self.has_fired = True
            self._threads.interrupt(self.victim)
        self._left -= self._left > 0
        return self


async def test_an_interrupt_at_any_bytecode_leaves_one_outcome_and_a_sound_thread() -> None:
    """All moments, one after the other: before, in and behind the author's function."""
    outcomes: list[object] = []
    tracer = threading.gettrace()
    for shot in range(10_000):
        async with Pool(1) as pool:
            victim = pool.chore(lambda: "done")
            sniper = Sniper(pool.threads, victim, shot)
            threading.settrace(sniper)
            pool.threads.submit(victim)
            bystander = pool.submit(lambda: "unharmed")
            await victim.done.wait()
            await bystander.done.wait()
            threading.settrace(tracer)

        assert len(victim.outcomes) == 1
        assert bystander.outcomes == ["unharmed"]
        outcomes.append(victim.outcomes[0])
        if not sniper.has_fired:
            break

    kinds = [type(outcome) for outcome in outcomes]
    assert kinds.count(TaskInterrupted) > 3
    assert kinds.count(type(None)) > 3
    assert kinds.count(str) > 3


def test_a_work_that_outlives_the_loop_ends_in_peace() -> None:
    """A stuck call returns long after the worker has stopped: there is nobody left to tell."""
    loop = asyncio.new_event_loop()
    mailbox = Mailbox(loop)
    threads = Threads(1, "pool", mailbox)
    release, released = threading.Event(), threading.Event()
    threads.submit(Chore(lambda: release.wait(20), mailbox))
    loop.close()
    release.set()
    threads.submit(Chore(released.set, mailbox))
    assert released.wait(20)
    threads.close()
