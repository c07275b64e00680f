"""The agent that the integration tests torment."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from pydantic import BaseModel

from kagent_sdk import Agent, LoopContext, TaskContext, TaskError

ADDITIONS_PER_S = 40_000_000

agent = Agent()
interrupted: list[str] = []
MARKS = Path("runtime/data/marks")


class Document(BaseModel):
    """A text."""

    text: str


class Digest(BaseModel):
    """What was counted, and where."""

    words: int
    worker: int


class Mark(BaseModel):
    """What a task leaves behind."""

    token: str
    attempt: int
    padding: str = ""


@agent.capability(idempotent=True, max_attempts=1000)
async def digest(document: Document) -> Digest:
    """Count the words of a text."""
    return Digest(words=len(document.text.split()), worker=os.getpid())


@agent.capability(idempotent=True, max_attempts=1000)
async def retried_nap(seconds: float, ctx: TaskContext) -> int:
    """Sleep; return the attempt that came through."""
    await asyncio.sleep(seconds)
    return ctx.attempt


@agent.capability
async def nap(seconds: float, ctx: TaskContext) -> int:
    """Sleep, once."""
    await ctx.progress(0.25, "asleep")
    await asyncio.sleep(seconds)
    return ctx.attempt


@agent.capability
async def wait_for(name: str, ctx: TaskContext) -> int:
    """Go on until a test makes a file; return the attempt."""
    await _until_there(name)
    return ctx.attempt


@agent.capability(idempotent=True)
async def retried_wait_for(name: str, ctx: TaskContext) -> int:
    """Do the same, again after a crash."""
    await _until_there(name)
    return ctx.attempt


@agent.capability(idempotent=True, durable=False)
async def fleeting_wait_for(name: str, ctx: TaskContext) -> int:
    """Do the same, but be forgotten by a restart of the host."""
    await _until_there(name)
    return ctx.attempt


@agent.capability(idempotent=True)
async def count_and_wait_for(name: str, n: int) -> AsyncIterator[int]:
    """Yield numbers, and end when a test makes a file."""
    for number in range(n):
        yield number
    await _until_there(name)


async def _until_there(name: str) -> None:
    while not os.path.exists(f"runtime/data/{name}"):  # noqa: ASYNC110, ASYNC240, PTH110 - a file is the test's way in
        await asyncio.sleep(0.02)


@agent.capability(on_disconnect="detach")
async def detached_wait_for(name: str) -> str:
    """Go on until a test makes a file, although the caller is gone."""
    await _until_there(name)
    return "there"


@agent.capability(on_disconnect="detach")
async def detached_nap(seconds: float) -> str:
    """Sleep on when the caller is gone."""
    await asyncio.sleep(seconds)
    return "slept"


@agent.capability(max_concurrency=1)
async def single_nap(seconds: float) -> float:
    """Sleep, one at a time; return when it began."""
    began = time.monotonic()
    await asyncio.sleep(seconds)
    return began


@agent.capability
def thread_nap(seconds: float) -> int:
    """Sleep in a thread."""
    time.sleep(seconds)
    return os.getpid()


@agent.capability
def patient_loop(seconds: float) -> str:
    """Run Python code in a thread that looks at nothing: only an exception ends it early."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        time.sleep(0.001)
    return "ran to its end"


@agent.capability
async def stubborn(seconds: float) -> str:
    """Swallow every cancellation."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            interrupted.append("cancelled")
    return "ran to its end"


@agent.capability
async def block_loop(seconds: float) -> str:
    """Hold the event loop."""
    time.sleep(seconds)  # noqa: ASYNC251 - the very fault
    return "done"


@agent.capability
async def block_loop_until(name: str) -> str:
    """Hold the event loop until a test makes a file."""
    while not os.path.exists(f"runtime/data/{name}"):  # noqa: ASYNC240, PTH110 - as the one above
        time.sleep(0.02)  # noqa: ASYNC251 - the very fault
    return "done"


@agent.capability
def thread_until(name: str) -> str:
    """Hold a thread until a test makes a file."""
    while not os.path.exists(f"runtime/data/{name}"):  # noqa: PTH110 - as cheap as it can be
        time.sleep(0.02)
    return "done"


@agent.capability
async def hold_gil(seconds: int) -> str:
    """Hold the GIL in C code: this sum never looks at anything else, signals included."""
    return str(sum(range(seconds * ADDITIONS_PER_S)))


@agent.capability
async def count(n: int, pause_s: float = 0.0, size: int = 0) -> AsyncIterator[int | str]:
    """Yield numbers, or texts of that size."""
    for number in range(n):
        if pause_s:
            await asyncio.sleep(pause_s)
        yield "x" * size if size else number


@agent.capability
async def nest(depth: int) -> AsyncIterator[object]:
    """Yield lists within lists."""
    value: object = None
    for _ in range(depth):
        value = [value]
    yield value


@agent.capability
async def fail(kind: str) -> str:
    """Fail in every way."""
    if kind == "task_error":
        raise TaskError("quota", "no more today", details={"left": 0}, status=429)
    if kind == "exit":
        sys.exit(3)
    raise RuntimeError("boom at /secret/path")


@agent.capability
async def crash(how: str) -> str:
    """End the worker."""
    if how == "segv":
        ctypes.string_at(0)
    elif how == "exit":
        os._exit(7)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return "still here"


@agent.capability
async def grow(mebibytes: int) -> int:
    """Hold memory for the worker's life."""
    interrupted.append("x" * (mebibytes * 1024 * 1024))
    return mebibytes


@agent.capability
async def echo(text: str) -> str:
    """Give back what came."""
    return text


@agent.capability
async def big(size: int) -> str:
    """Return a text of that size."""
    return "x" * size


@agent.capability
async def hold(text: str, seconds: float) -> int:
    """Sleep on a text; return its length."""
    await asyncio.sleep(seconds)
    return len(text)


@agent.capability
async def hold_until(text: str, name: str) -> int:
    """Hold a text until a test makes a file; return its length."""
    await _until_there(name)
    return len(text)


@agent.capability
async def call_self(text: str, ctx: TaskContext) -> str:
    """Call another capability of this agent."""
    answer = await ctx.call("subject", "echo", {"text": text})
    return f"heard {answer}"


@agent.capability(idempotent=True, max_attempts=1000)
async def mark(token: str, pause_s: float, ctx: TaskContext) -> Mark:
    """Leave a mark on disk for every attempt that begins."""
    _leave_mark(token, ctx.attempt)
    await asyncio.sleep(pause_s)
    return Mark(token=token, attempt=ctx.attempt)


@agent.capability
async def mark_once(token: str, pause_s: float, ctx: TaskContext) -> Mark:
    """Do what must not be done twice."""
    _leave_mark(token, ctx.attempt)
    await asyncio.sleep(pause_s)
    return Mark(token=token, attempt=ctx.attempt)


@agent.capability(idempotent=True, max_attempts=1000)
async def mark_items(token: str, n: int, pause_s: float, ctx: TaskContext) -> AsyncIterator[str]:
    """Yield items, and begin anew when the worker died under it."""
    _leave_mark(token, ctx.attempt)
    for number in range(n):
        await asyncio.sleep(pause_s / n)
        yield f"{token}/{number}"


@agent.capability(idempotent=True, max_attempts=1000)
async def mark_big(token: str, pause_s: float, ctx: TaskContext) -> Mark:
    """Return two megabytes."""
    _leave_mark(token, ctx.attempt)
    await asyncio.sleep(pause_s)
    return Mark(token=token, attempt=ctx.attempt, padding="x" * 2_000_000)


@agent.capability(idempotent=True, max_attempts=1000)
async def mark_nested(token: str, pause_s: float, ctx: TaskContext) -> Mark:
    """Have the agent itself do a part."""
    _leave_mark(token, ctx.attempt)
    await asyncio.sleep(pause_s)
    return Mark(token=await ctx.call("subject", "echo", {"text": token}), attempt=ctx.attempt)


def _leave_mark(token: str, attempt: int) -> None:
    # One write of a few bytes to the end: whole or not there, whoever else writes.
    with MARKS.open("ab", buffering=0) as marks:
        marks.write(f"{token} {attempt}\n".encode())


@agent.capability
async def call_self_later(pause_s: float, ctx: TaskContext) -> str:
    """Call another capability of this agent after a pause."""
    await asyncio.sleep(pause_s)
    return str(await ctx.call("subject", "echo", {"text": "late"}))


@agent.loop(every_s=0.2)
async def tick(ctx: LoopContext) -> None:
    """Run often."""


@agent.loop(every_s=0.2)
async def broken() -> None:
    """Crash at every run."""
    raise ValueError("this loop is broken")


if __name__ == "__main__":
    agent.run()
