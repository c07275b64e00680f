"""An agent that does what a container has to bear: eat, spin, sleep, leave orphans, reach out."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import threading
import time
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from kagent_sdk import Agent, TaskContext

agent = Agent()

NOTE = Path("runtime/data/note")
BLOCK = bytes(1 << 20)
"""hashlib gives up the GIL for what is this large: two threads can use two cores."""

ORPHANS_AT_ONCE = 50
"""Well under the limit of processes."""


class Spun(BaseModel):
    """What two that were busy got of the processors, in seconds.

    Attributes:
        used_s: both together.
        idle_s: what nobody wanted meanwhile of the cores that they could use.
    """

    used_s: float
    idle_s: float


@agent.capability
async def nap(seconds: float) -> float:
    """Sleep."""
    await asyncio.sleep(seconds)
    return seconds


@agent.capability
async def remember(ctx: TaskContext, text: str) -> None:
    """Keep a text in the state."""
    await ctx.state.set("text", text)


@agent.capability
async def recall(ctx: TaskContext) -> str | None:
    """Return the text that the state keeps."""
    text = await ctx.state.get("text")
    return text if isinstance(text, str) else None


@agent.capability
def eat(limit_bytes: int) -> int:
    """Fill memory with what does not compress; return how much."""
    eaten: list[bytes] = []
    while len(eaten) * 1_000_000 < limit_bytes:
        eaten.append(os.urandom(1_000_000))
    return len(eaten)


@agent.capability
def spin(kind: Literal["threads", "processes"], seconds: float) -> Spun:
    """Keep two threads or two processes busy."""
    idle_s, used_s = _idle_s(), _used_s()
    if kind == "threads":
        threads = [threading.Thread(target=_spin, args=(seconds,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:
        child = os.fork()
        _spin(seconds)
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
    return Spun(used_s=_used_s() - used_s, idle_s=_idle_s() - idle_s)


@agent.capability
def leave_orphans(count: int) -> int:
    """Start processes whose parent ends before them; return once all of them have ended."""
    for begin in range(0, count, ORPHANS_AT_ONCE):
        _leave(min(ORPHANS_AT_ONCE, count - begin))
    return count


@agent.capability
def reach(host: str, port: int) -> str:
    """Connect to an address and say what came of it."""
    try:
        with socket.create_connection((host, port), timeout=5):
            return "reached"
    except OSError as exc:
        return f"{type(exc).__name__}: {exc}"


@agent.capability
def write(text: str) -> None:
    """Write to the author's own files."""
    NOTE.write_text(text)


@agent.capability
def read() -> str:
    """Read what was written."""
    return NOTE.read_text()


def _leave(count: int) -> None:
    """Double-fork, and wait on a pipe until the last orphan is gone."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        for _ in range(count):
            if os.fork() == 0:
                time.sleep(0.05)  # its parent has ended by then
                os._exit(0)
        os._exit(0)
    os.close(theirs)
    os.waitpid(child, 0)
    os.read(ours, 1)  # the end of the file: nobody holds the other end any more
    os.close(ours)


def _used_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _idle_s() -> float:
    """Return how long the cores that this process may use have had nothing to do (proc_stat(5))."""
    cores = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    lines = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
    ticks = sum(int(line[4]) + int(line[5]) for line in lines if line[0] in cores)
    return ticks / os.sysconf("SC_CLK_TCK")


def _spin(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        hashlib.sha256(BLOCK)


if __name__ == "__main__":
    agent.run()
