"""The agent that the testing kit is tested with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from kagent_sdk import Agent, TaskContext, TaskError

RUNS = Path("runtime/data/runs")

agent = Agent()


@agent.capability
async def greet(name: str) -> str:
    """Greet somebody."""
    if not name:
        raise TaskError("nobody", "there is nobody", details={"n": 1}, status=418)
    return f"Hello, {name}!"


@agent.capability
async def count(to: int) -> AsyncIterator[int]:
    """Count."""
    for number in range(to):
        yield number
    if not to:
        raise TaskError("nothing", "there is nothing to count")


@agent.capability
async def remember(key: str, value: int, ctx: TaskContext) -> None:
    """Keep something in the state."""
    await ctx.state.set(key, value)


@agent.capability
async def recall(key: str, ctx: TaskContext) -> int | None:
    """Return it."""
    value: int | None = await ctx.state.get(key)
    return value


@agent.capability
async def reveal(ctx: TaskContext) -> str:
    """Tell a secret."""
    return ctx.secrets["key"].get_secret_value()


@agent.capability
def mark(ctx: TaskContext) -> str:
    """Leave a line for each run."""
    with RUNS.open("a") as file:
        file.write(f"{ctx.task_id}\n")
    return ctx.task_id


@agent.capability(idempotent=True)
async def hang(ctx: TaskContext) -> int:
    """Come to an end in the second attempt."""
    if ctx.attempt == 1:
        await asyncio.Event().wait()
    return ctx.attempt


if __name__ == "__main__":
    agent.run()
