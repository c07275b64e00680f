"""Takes tickets, and has two other agents do the work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from kagent_sdk import Agent, TaskContext
from pydantic import BaseModel

agent = Agent()


class Ticket(BaseModel):
    """What a customer writes."""

    customer: str
    text: str


class Verdict(BaseModel):
    """What the desk needs of what `triage` answers: other members are ignored."""

    urgency: str
    team: str


class Digest(BaseModel):
    """What `digest` answers."""

    summary: str
    words: int


class Reply(BaseModel):
    """What `handle` answers."""

    subject: str
    team: str
    words: int


@agent.capability(timeout_s=30)
async def handle(ticket: Ticket, ctx: TaskContext) -> Reply:
    """Ask both agents at the same time. If one call fails or this task is cancelled, both end."""
    async with asyncio.TaskGroup() as group:
        verdict = group.create_task(judge(ticket, ctx))
        digest = group.create_task(shorten(ticket, ctx))
    return Reply(
        subject=f"[{verdict.result().urgency}] {ticket.customer}: {digest.result().summary}",
        team=verdict.result().team,
        words=digest.result().words,
    )


async def judge(ticket: Ticket, ctx: TaskContext) -> Verdict:
    """Call an agent by its name, and get a model."""
    return await ctx.call("triage/triage", {"text": ticket.text}, output=Verdict)


async def shorten(ticket: Ticket, ctx: TaskContext) -> Digest:
    """Call any agent that offers `digest`: nobody here needs to know which one does."""
    return await ctx.call("digest", {"text": ticket.text}, output=Digest, timeout_s=10)


@agent.capability
async def read_aloud(ticket: Ticket, ctx: TaskContext, most: int = 3) -> AsyncIterator[str]:
    """Pass on what the other agent streams, as it comes; leaving early cancels its task."""
    async with ctx.stream("digest/points", {"text": ticket.text}) as points:
        async for point in points:
            yield f"{point['number']}. {point['text']}"
            if point["number"] == most:
                return


if __name__ == "__main__":
    agent.run()
