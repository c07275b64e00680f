"""The smallest agent: an async capability, a sync one, and one that streams."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Annotated

from kagent_sdk import Agent, TaskContext
from pydantic import BaseModel, Field

agent = Agent()


class Greeting(BaseModel):
    """What `greet` answers."""

    text: str


@agent.capability
async def greet(name: Annotated[str, Field(min_length=1, max_length=100)]) -> Greeting:
    """Greet somebody by name."""
    return Greeting(text=f"Hello, {name}!")


@agent.capability(idempotent=True)
def fingerprint(text: str) -> str:
    """Return the SHA-256 of a text. A sync function: it runs in a thread."""
    return hashlib.sha256(text.encode()).hexdigest()


@agent.capability
async def countdown(
    ctx: TaskContext,
    start: Annotated[int, Field(ge=0, le=1000)] = 3,
    pause_s: Annotated[float, Field(ge=0, le=10)] = 0.2,
) -> AsyncIterator[int]:
    """Count down to zero. An async generator: it streams."""
    for number in range(start, -1, -1):
        await ctx.progress((start - number + 1) / (start + 1), f"{number} to go")
        yield number
        await asyncio.sleep(pause_s)


if __name__ == "__main__":
    agent.run()
