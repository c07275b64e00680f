"""A sampling profile: what all threads do, looked at many times a second from one of their own."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

from kagent_sdk.debug.port import Inspected
from kagent_sdk.debug.probes.names import clean
from kagent_sdk.debug.probes.stacks import MAX_DEPTH, Place, find_loop_thread, place_of

MAX_STACKS = 20_000
"""Different stacks of one profile: about 100 MB of JSON at most."""

RENAME_EVERY = 10
"""Looks after which threads are named anew in any case: a pool's thread has taken another task."""

OTHER = Place("", 0, f"(more than {MAX_STACKS} different stacks)")

_WAITS = frozenset(
    {
        ("selectors.py", "select"),
        ("threading.py", "wait"),
        ("threading.py", "_wait_for_tstate_lock"),
        ("queue.py", "get"),
        ("thread.py", "_worker"),  # concurrent.futures: waits in C
        ("threads.py", "_serve"),  # ours: waits in C
        ("debugging.py", "wait_for_session"),  # ours
        ("socket.py", "accept"),
    }
)
"""Functions whose innermost line is a wait in C: file and function."""

Stack = tuple[Place, ...]
"""Outermost first."""


@dataclass(slots=True)
class Profile:
    """What was seen.

    Attributes:
        hz: looks per second that were wanted.
        took_s: how long it looked.
        looks: how often it looked.
        missed: how often it came too late: the interpreter was in C code that did not let go of it,
            or other threads were first. The time of a gap counts for what is seen after it.
        longest_gap_s: between two looks.
        seconds: by who and stack, busy time.
        idle_s: by who, time spent waiting.
    """

    hz: float
    took_s: float = 0.0
    looks: int = 0
    missed: int = 0
    longest_gap_s: float = 0.0
    seconds: dict[str, dict[Stack, float]] = field(default_factory=dict)
    idle_s: dict[str, float] = field(default_factory=dict)

    @property
    def busy_s(self) -> float:
        """Return the busy time of all together."""
        return sum(sum(stacks.values()) for stacks in self.seconds.values())


class Sampler:
    """Takes one profile.

    Args:
        inspected: whose tasks are told apart.
        hz: looks per second.
        with_idle: count the time spent waiting as well, with its stacks.
    """

    def __init__(self, inspected: Inspected, hz: float, *, with_idle: bool = False) -> None:
        self._inspected = inspected
        self._with_idle = with_idle
        self._loop_thread = find_loop_thread(inspected.loop)
        self._profile = Profile(hz)
        # While it looks, places are numbers and stacks are told by the innermost first: cheap.
        self._numbers: dict[tuple[int, int], int] = {}
        self._codes: list[CodeType] = []  # their identities are in use as long as they are here
        self._places: dict[Place, int] = {OTHER: 0}
        self._seconds: dict[str, dict[tuple[int, ...], float]] = {}
        self._stacks = 0
        self._names: dict[int, str] = {}
        self._named: object = None

    def run(
        self,
        seconds: float,
        is_over: Callable[[], bool],
        *,
        clock: Callable[[], float] = time.perf_counter,
        wait: Callable[[float], None] = time.sleep,
    ) -> Profile:
        """Look for so many seconds, or until it is over."""
        profile, period_s = self._profile, 1 / self._profile.hz
        began_s = last_s = clock()
        due_s = began_s + period_s
        while last_s - began_s < seconds and not is_over():
            wait(max(0.0, due_s - clock()))
            now_s = clock()
            self.look(now_s - last_s)
            profile.longest_gap_s = max(profile.longest_gap_s, now_s - last_s)
            late = max(0, int((now_s - due_s) / period_s))
            profile.missed += late
            due_s += (late + 1) * period_s
            last_s = now_s
        profile.took_s = last_s - began_s
        return self.profile

    @property
    def profile(self) -> Profile:
        """What has been seen so far."""
        places = list(self._places)
        self._profile.seconds = {
            who: {
                tuple(places[number] for number in reversed(stack)): seconds
                for stack, seconds in stacks.items()
            }
            for who, stacks in self._seconds.items()
        }
        return self._profile

    def look(self, weight_s: float) -> None:
        """Note where every thread but this one is, for so many seconds."""
        profile = self._profile
        profile.looks += 1
        frames = sys._current_frames()  # noqa: SLF001 - the documented way to the stacks of others
        frames.pop(threading.get_ident(), None)
        self._name_threads(tuple(frames))
        for ident, frame in frames.items():
            who = self._names.get(ident, f"thread {ident}")
            if is_waiting(frame):
                profile.idle_s[who] = profile.idle_s.get(who, 0.0) + weight_s
                if not self._with_idle:
                    continue
            self._add(who, self._stack_of(frame), weight_s)

    def _add(self, who: str, stack: tuple[int, ...], weight_s: float) -> None:
        stacks = self._seconds.setdefault(who, {})
        if stack not in stacks:
            self._stacks += 1
            if self._stacks > MAX_STACKS:
                stack = (0,)
        stacks[stack] = stacks.get(stack, 0.0) + weight_s

    def _name_threads(self, idents: tuple[int, ...]) -> None:
        """Name the threads by what they do, anew when that may have changed."""
        job = _current_job(self._inspected.loop) if self._loop_thread else None
        named = (idents, id(job))
        if named != self._named or self._profile.looks % RENAME_EVERY == 0:
            self._names = self._who_runs(job)
            self._named = named

    def _who_runs(self, job: asyncio.Task[Any] | None) -> dict[int, str]:
        """Name the threads: by the task, the job, else the thread's own name."""
        names = {
            thread.ident: f"thread {clean(thread.name)}"
            for thread in threading.enumerate()
            if thread.ident is not None
        }
        if job is not None and self._loop_thread is not None:
            names[self._loop_thread] = f"job {clean(job.get_name())}"
        for task in self._inspected.tasks():
            thread = self._loop_thread if job is not None and task.job is job else task.thread
            if thread is not None:
                names[thread] = f"task {clean(task.task)} ({clean(task.capability)})"
        return names

    def _stack_of(self, frame: FrameType | None) -> tuple[int, ...]:
        numbers: list[int] = []
        while frame is not None and len(numbers) < MAX_DEPTH:
            code = frame.f_code
            at = frame.f_lasti
            number = self._numbers.get((id(code), at))
            if number is None:
                number = self._number(frame, at)
            numbers.append(number)
            frame = frame.f_back
        return tuple(numbers)

    def _number(self, frame: FrameType, at: int) -> int:
        code = frame.f_code
        number = self._places.setdefault(place_of(code, frame.f_lineno), len(self._places))
        if frame.f_lasti == at:  # else its thread has gone on meanwhile, to another line perhaps
            self._numbers[id(code), at] = number
            self._codes.append(code)
        return number


def _current_job(loop: asyncio.AbstractEventLoop) -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task(loop)
    except RuntimeError:
        return None


def is_waiting(frame: FrameType) -> bool:
    """Return whether a thread waits for something to do."""
    code = frame.f_code
    return (code.co_filename.rpartition("/")[2], code.co_name) in _WAITS
