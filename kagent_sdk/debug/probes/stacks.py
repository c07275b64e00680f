"""Where threads and coroutines are."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any

from kagent_sdk.debug.probes.names import clean, is_author_file, short_file

MAX_DEPTH = 200

_HIDES_GENERATOR = ("async_generator_", "coroutine_wrapper")
"""Awaitables that stand before a generator and do not name it; the collector knows it."""

# Types alone are looked at, for an author's awaitable may answer to any name.
_PREFIXES = {CoroutineType: "cr", GeneratorType: "gi", AsyncGeneratorType: "ag"}
_AWAITS = {CoroutineType: "cr_await", GeneratorType: "gi_yieldfrom", AsyncGeneratorType: "ag_await"}


@dataclass(frozen=True, slots=True)
class Place:
    """A line of code that is being run, or waited in."""

    file: str
    line: int
    function: str

    @property
    def is_author(self) -> bool:
        """Whether it is the author's own code."""
        return is_author_file(self.file)

    def __str__(self) -> str:
        """Say it as a person looks for it."""
        if not self.file:
            return self.function
        return f"{short_file(self.file)}:{self.line} in {self.function}"

    def as_json(self) -> dict[str, Any]:
        """Return it with stable keys."""
        return {
            "file": short_file(self.file),
            "line": self.line,
            "function": self.function,
            "is_author": self.is_author,
        }


@dataclass(frozen=True, slots=True)
class ThreadView:
    """A thread: outermost place first."""

    ident: int
    name: str
    is_daemon: bool
    places: tuple[Place, ...]


def place_of(code: CodeType, line: int | None) -> Place:
    """Return the place of a line in a code object."""
    return Place(code.co_filename, line or code.co_firstlineno, clean(code.co_qualname))


def stack_of_frame(frame: FrameType | None) -> list[Place]:
    """Return a running stack, outermost first, the innermost `MAX_DEPTH` of it."""
    return [place_of(frame.f_code, line) for frame, line in _iter_frames(frame)][::-1]


def thread_views() -> list[ThreadView]:
    """Return every Python thread, the oldest first, without the one that asks."""
    known = {thread.ident: thread for thread in threading.enumerate()}
    frames = sys._current_frames()  # noqa: SLF001 - the documented way to the stacks of others
    frames.pop(threading.get_ident(), None)
    views = []
    for ident, frame in frames.items():
        thread = known.get(ident)
        name = thread.name if thread is not None else "not of Python's threading"
        views.append(
            ThreadView(
                ident, clean(name), thread is None or thread.daemon, tuple(stack_of_frame(frame))
            )
        )
    order = {ident: number for number, ident in enumerate(known)}
    return sorted(views, key=lambda view: order.get(view.ident, len(order)))


def stack_of_job(job: asyncio.Task[Any], loop_thread: int | None) -> list[Place]:
    """Return where a job is, outermost first: down the chain of what it awaits.

    Args:
        job: it may be running at this moment.
        loop_thread: the thread that runs its loop; its stack is that of a job that is running.
    """
    places: list[Place] = []
    seen: set[int] = set()
    part: Any = job.get_coro()
    while part is not None and len(places) < MAX_DEPTH and id(part) not in seen:
        seen.add(id(part))
        frame, is_running = _state_of(part)
        if is_running and loop_thread is not None:
            return places + _running_part(loop_thread, frame)
        if frame is not None:
            places.append(place_of(frame.f_code, frame.f_lineno))
        part = _awaited_by(part)
    return places


def author_place(places: list[Place] | tuple[Place, ...]) -> Place | None:
    """Return the innermost line of the author's code; of none, the innermost."""
    for place in reversed(places):
        if place.is_author:
            return place
    return places[-1] if places else None


def find_loop_thread(loop: asyncio.AbstractEventLoop) -> int | None:
    """Return the thread that runs a loop; None when none does."""
    ident = getattr(loop, "_thread_id", None)  # of asyncio's own loops
    if isinstance(ident, int):
        return ident
    # uvloop does not tell; an agent runs in the main thread.
    is_running = type(loop).__module__.startswith("uvloop") and loop.is_running()
    return threading.main_thread().ident if is_running else None


def _iter_frames(frame: FrameType | None) -> Iterator[tuple[FrameType, int | None]]:
    for _ in range(MAX_DEPTH):
        if frame is None:
            return
        yield frame, frame.f_lineno
        frame = frame.f_back


def _state_of(part: Any) -> tuple[FrameType | None, bool]:
    prefix = _PREFIXES.get(type(part))
    if prefix is None:
        return None, False
    # An async generator counts as running while it awaits (bpo-30773): its caller does, too.
    is_running = getattr(part, f"{prefix}_running") and _awaited_by(part) is None
    return getattr(part, f"{prefix}_frame"), is_running


def _awaited_by(part: Any) -> Any:
    """Return what a suspended coroutine waits for, None where the chain ends."""
    cls = type(part)
    if cls in _AWAITS:
        return getattr(part, _AWAITS[cls])
    if any(parent is asyncio.Task for parent in cls.__mro__):
        return part.get_coro()
    kind = cls.__name__
    if kind.startswith(_HIDES_GENERATOR):
        wanted = {"async_generator", "coroutine"}
    elif kind == "FutureIter":
        wanted = {"Task"}  # a job that waits for another: the chain goes on in that one
    else:
        return None
    hidden = (other for other in gc.get_referents(part) if type(other).__name__ in wanted)
    return next(hidden, None)


def _running_part(ident: int, outermost: FrameType | None) -> list[Place]:
    frame = sys._current_frames().get(ident)  # noqa: SLF001 - see thread_views
    found: list[Place] = []
    for inner, line in _iter_frames(frame):
        found.append(place_of(inner.f_code, line))
        if inner is outermost:
            return found[::-1]
    return [] if outermost is None else [place_of(outermost.f_code, outermost.f_lineno)]
