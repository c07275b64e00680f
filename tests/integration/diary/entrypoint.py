"""An agent that remembers what it is told, for tests of the state's files."""

from __future__ import annotations

from kagent_sdk import Agent, TaskContext

agent = Agent()
found: list[str] = []


@agent.on_startup
async def look_back() -> None:
    """See what is known already: a worker starts before the database is open."""
    found.extend([key async for key, _value in agent.state.items()])


@agent.capability(idempotent=True)
async def write(key: str, value: object, ctx: TaskContext, ttl_s: float | None = None) -> None:
    """Remember something."""
    await ctx.state.set(key, value, ttl_s=ttl_s)


@agent.capability(idempotent=True)
async def read(key: str, ctx: TaskContext) -> object:
    """Say what is remembered."""
    return await ctx.state.get(key)


@agent.capability
async def known_at_start() -> list[str]:
    """Say what was remembered when the worker started."""
    return found


if __name__ == "__main__":
    agent.run()
