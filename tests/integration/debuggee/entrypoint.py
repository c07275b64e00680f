"""The agent that the tests of the debug socket look into."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time

from pydantic import BaseModel

from kagent_sdk import Agent, TaskContext

ADDITIONS_PER_S = 40_000_000

agent = Agent()


class Burden(BaseModel):
    """What the worker carries."""

    threads: list[str]
    jobs: int
    is_debugged: bool


@agent.capability
async def burden() -> Burden:
    """Count threads and jobs."""
    return Burden(
        threads=sorted(thread.name for thread in threading.enumerate()),
        jobs=len(asyncio.all_tasks()),
        is_debugged="aiomonitor" in sys.modules or "kagent_sdk.debug.server" in sys.modules,
    )


@agent.capability
async def nap(seconds: float, ctx: TaskContext) -> str:
    """Sleep."""
    await ctx.progress(0.5, "asleep")
    await asyncio.sleep(seconds)
    return "slept"


@agent.capability
async def block_loop(seconds: float) -> str:
    """Hold the event loop."""
    time.sleep(seconds)  # noqa: ASYNC251 - the very fault
    return "done"


@agent.capability
async def leave_child(seconds: float) -> int:
    """Fork a process that lives on; return its number."""
    child = os.fork()
    if child == 0:
        time.sleep(seconds)  # noqa: ASYNC251 - there is no event loop any more
        os._exit(0)
    return child


@agent.capability
async def hold_gil(seconds: int) -> str:
    """Hold the GIL in C code: this sum never looks at anything else, signals included."""
    return str(sum(range(seconds * ADDITIONS_PER_S)))


if __name__ == "__main__":
    agent.run()
