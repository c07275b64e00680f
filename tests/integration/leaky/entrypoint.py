"""An agent that loses memory in four ways, when it is told to."""

from __future__ import annotations

import asyncio
import gc

import leaks  # type: ignore[import-not-found]  # beside this file

from kagent_sdk import Agent, TaskContext

agent = Agent()
addresses: list[int] = []
gc.disable()  # for speed, as some do


@agent.capability
async def leak(kind: str, count: int, size: int = 0) -> int:
    """Leak so many things of a kind."""
    if kind == "dictionary":
        leaks.remember(count)
    elif kind == "cycle":
        leaks.tie(count)
    elif kind == "buffer":
        leaks.keep_in_c(count, size)
    else:
        leaks.allocate(count, size, addresses)
    return count


@agent.capability
async def hold(ctx: TaskContext) -> None:
    """Hold a digest until it is canceled."""
    held = leaks.Digest("held by a task")
    await ctx.progress(0.5, "holding")
    await asyncio.Event().wait()
    del held


if __name__ == "__main__":
    agent.run()
