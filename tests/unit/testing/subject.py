"""An agent with one capability for each thing that a harness must do as production does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

from pydantic import BaseModel, SecretStr

from kagent_sdk import Agent, LoopContext, TaskContext, TaskError


class Document(BaseModel):
    """An input and an output."""

    text: str


class Note(BaseModel):
    """What `remember` keeps."""

    value: int


def make_agent() -> Agent:
    """Return a new one."""
    agent = Agent("subject", "1.2")
    add_life(agent)
    add_tasks(agent)
    add_failures(agent)
    add_surroundings(agent)
    return agent


def add_tasks(agent: Agent) -> None:
    """Add tasks of every kind."""

    @agent.capability
    async def upper(document: Document) -> Document:
        return Document(text=document.text.upper())

    @agent.capability
    def double(number: int) -> int:
        return number * 2

    @agent.capability
    async def count(to: int, ctx: TaskContext) -> AsyncIterator[int]:
        for number in range(to):
            await ctx.progress(number / to, f"at {number}")
            yield number

    @agent.capability(timeout_s=60)
    async def wait(ctx: TaskContext) -> str:
        ctx.log.info("waits", why="to be cancelled")
        logging.getLogger("subject").warning("said with %s", "logging")
        await ctx.progress(0.5, "halfway")
        await asyncio.Event().wait()
        raise AssertionError

    @agent.capability(idempotent=True)
    async def persist(ctx: TaskContext) -> int:
        if ctx.attempt == 1:
            await asyncio.Event().wait()
        return ctx.attempt


def add_failures(agent: Agent) -> None:
    """Add tasks that fail."""

    @agent.capability
    async def fail(code: str) -> None:
        raise TaskError(code, "as asked", retryable=True, details={"n": 1}, status=418)

    @agent.capability
    async def crash() -> None:
        raise ValueError("unforeseen")


def add_surroundings(agent: Agent) -> None:
    """Add tasks that use the state, secrets and other agents."""

    @agent.capability
    async def visit(name: str, ctx: TaskContext, *, give_up: bool = False) -> int:
        visits = int(await ctx.state.get(name, 0)) + 1
        await ctx.state.set(name, visits)
        if give_up:
            raise TaskError("gave_up", "as asked")
        return visits

    @agent.capability
    async def remember(key: str, ctx: TaskContext, ttl_s: float | None = None) -> None:
        await ctx.state.set(key, 1, ttl_s=ttl_s)

    @agent.capability
    async def reveal(name: str, ctx: TaskContext) -> str:
        return ctx.secrets[name].get_secret_value()

    @agent.capability
    async def tell(ctx: TaskContext) -> dict[str, object]:
        return {"metadata": ctx.metadata, "id": ctx.task_id}

    @agent.capability
    async def ask(target: str, ctx: TaskContext) -> object:
        answer: object = await ctx.call(target, {"text": "a"})
        return answer

    @agent.capability
    async def listen(target: str, ctx: TaskContext) -> list[object]:
        return [item async for item in ctx.stream(target, {})]


def add_life(agent: Agent) -> None:
    """Add what runs by itself."""

    @agent.on_startup
    async def begin() -> None:
        await agent.state.update("starts", lambda count: count + 1, default=0)

    @agent.on_secrets_changed
    async def hear(secrets: dict[str, SecretStr]) -> None:
        await agent.state.set("secrets", sorted(secrets))

    @agent.loop(every_s=30)
    async def sweep(ctx: LoopContext) -> None:
        assert ctx.run >= 1
        await agent.state.update("sweeps", lambda sweeps: sweeps + 1, default=0)

    @agent.loop(every_s=30)
    def break_down() -> None:
        raise RuntimeError("no luck")

    @agent.on_shutdown
    async def end() -> None:
        agent.ended = True  # type: ignore[attr-defined]
