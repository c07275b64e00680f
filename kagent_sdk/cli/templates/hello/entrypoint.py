"""What this agent can do. Start it with ``kos-agent run``, or run this file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from pydantic import BaseModel, Field

from kagent_sdk import Agent, TaskContext

agent = Agent()  # name, version and limits are in config.yaml


class Greeting(BaseModel):
    """What `greet` answers."""

    text: str


@agent.capability(idempotent=True)
async def greet(
    ctx: TaskContext,
    name: Annotated[str, Field(min_length=1, max_length=100, description="Whom to greet")],
    count: Annotated[int, Field(ge=1, le=10, description="How often")] = 1,
) -> Greeting:
    """Greet somebody by name."""
    ctx.log.info("greeted", count=count)
    return Greeting(text=" ".join([f"Hello, {name}!"] * count))


@agent.capability
async def countdown(
    ctx: TaskContext,
    start: Annotated[int, Field(ge=0, le=100, description="Where to begin")] = 3,
) -> AsyncIterator[int]:
    """Count down to zero: a stream, with progress."""
    for number in range(start, -1, -1):
        await ctx.progress((start - number + 1) / (start + 1), f"{number} to go")
        yield number
        await asyncio.sleep(0.2)


if __name__ == "__main__":
    agent.run()
