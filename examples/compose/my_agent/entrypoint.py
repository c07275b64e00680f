"""An agent for the compose file: it greets, and remembers how often."""

from __future__ import annotations

import asyncio
from typing import Annotated

from kagent_sdk import Agent, TaskContext
from pydantic import BaseModel, Field

agent = Agent()


class Greeting(BaseModel):
    """What `greet` answers."""

    text: str
    count: int


@agent.capability(idempotent=True)
async def greet(
    name: str, ctx: TaskContext, after_s: Annotated[float, Field(ge=0, le=60)] = 0
) -> Greeting:
    """Greet somebody by name, after a while if one is given."""
    await asyncio.sleep(after_s)
    count = await ctx.state.get("greetings", default=0, model=int) + 1
    await ctx.state.set("greetings", count)
    return Greeting(text=f"Hello, {name}!", count=count)


if __name__ == "__main__":
    agent.run()
