"""An agent that keeps accounts in its state, for tests that kill it.

Every capability tells in ``runtime/data/marks`` which attempt of which task it begins, so that a test
can count what the agent's own books may be wrong about.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from kagent_sdk import Agent, TaskContext, TaskError
from kagent_sdk.errors import StateConflictError

MARKS = Path("runtime/data/marks")
ACCOUNTS = 8
OPENING_BALANCE = 1000
SWEPT = ("account/0", "account/1")
"""The loop moves money from the first to the second, one by one."""

agent = Agent()


class Receipt(BaseModel):
    """What a task has done: ``number`` is what it has made of a counter."""

    token: str
    attempt: int
    number: int


def increment(value: Any) -> int:
    """Return one more; a key that is not there counts as 0."""
    return int(value or 0) + 1


@agent.capability(idempotent=True)
async def open_accounts(ctx: TaskContext) -> int:
    """Give every account its opening balance; return the sum."""
    for number in range(ACCOUNTS):
        await ctx.state.set(f"account/{number}", OPENING_BALANCE)
    return ACCOUNTS * OPENING_BALANCE


@agent.capability(idempotent=True, max_attempts=1000)
async def count(
    token: str, counter: str, pause_s: float, hold_s: float, ctx: TaskContext
) -> Receipt:
    """Increment a counter; ``hold_s`` passes between the increment and the result."""
    leave_mark(token, ctx.attempt)
    await asyncio.sleep(pause_s)
    number = await ctx.state.update(f"counter/{counter}", increment)
    await asyncio.sleep(hold_s)
    return Receipt(token=token, attempt=ctx.attempt, number=number)


@agent.capability(idempotent=True, max_attempts=1000)
def count_in_thread(
    token: str, counter: str, pause_s: float, hold_s: float, ctx: TaskContext
) -> Receipt:
    """Do the same in a sync function."""
    leave_mark(token, ctx.attempt)
    time.sleep(pause_s)
    number = ctx.state.update(f"counter/{counter}", increment).result()
    time.sleep(hold_s)
    return Receipt(token=token, attempt=ctx.attempt, number=number)


@agent.capability(idempotent=True, max_attempts=1000)
async def transfer(
    token: str, source: int, target: int, amount: int, pause_s: float, ctx: TaskContext
) -> Receipt:
    """Move money between two accounts, and leave a receipt: three keys, or none of them."""
    leave_mark(token, ctx.attempt)
    await asyncio.sleep(pause_s)
    await ctx.state.update(f"account/{source}", lambda balance: balance - amount)
    await asyncio.sleep(0)
    balance = await ctx.state.update(f"account/{target}", lambda balance: balance + amount)
    await ctx.state.set(f"receipt/{token}", amount)
    return Receipt(token=token, attempt=ctx.attempt, number=balance)


@agent.capability
async def charge(token: str, pause_s: float, ctx: TaskContext) -> Receipt:
    """Do what must not be done twice: the mark stands for money that is gone."""
    leave_mark(token, ctx.attempt)
    await ctx.state.set(f"charge/{token}", ctx.attempt)
    await asyncio.sleep(pause_s)
    return Receipt(token=token, attempt=ctx.attempt, number=1)


@agent.capability(idempotent=True, max_attempts=2)
async def fragile(token: str, pause_s: float, ctx: TaskContext) -> Receipt:
    """Take long, and be tried twice at the most."""
    leave_mark(token, ctx.attempt)
    number = await ctx.state.update(f"fragile/{token}", increment)
    await asyncio.sleep(pause_s)
    return Receipt(token=token, attempt=ctx.attempt, number=number)


@agent.capability(idempotent=True, max_attempts=1000)
async def refuse(token: str, ctx: TaskContext) -> Receipt:
    """Write, and fail: nothing may be left of it."""
    leave_mark(token, ctx.attempt)
    await ctx.state.update("counter/refused", increment)
    await ctx.state.set(f"refused/{token}", True)  # noqa: FBT003 - a value
    raise TaskError("refused", "the ledger does not like this one")


@agent.capability(idempotent=True, max_attempts=1000)
async def statement(token: str, n: int, pause_s: float, ctx: TaskContext) -> AsyncIterator[str]:
    """Yield lines, and count the statement in the end."""
    leave_mark(token, ctx.attempt)
    for number in range(n):
        await asyncio.sleep(pause_s / n)
        yield f"{token}/{number}"
    number = await ctx.state.update("counter/statements", increment)
    yield f"{token}/statement {number}"


@agent.loop(every_s=0.1)
async def sweep() -> None:
    """Check that the accounts add up, and move one, in a transaction of its own."""
    try:
        async with agent.state.transaction() as state:
            balances = dict(await state.items("account/"))
            if not balances:
                return  # they are not open yet
            if sum(balances.values()) != ACCOUNTS * OPENING_BALANCE:
                await state.set("broken/sum", balances)
            source, target = SWEPT
            await state.set(source, balances[source] - 1)
            await state.set(target, balances[target] + 1)
            await state.update("sweep/moved", increment)
    except StateConflictError:
        return  # a task was faster; the next run is soon


def leave_mark(token: str, attempt: int) -> None:
    """Tell that an attempt begins: one write to the end of a file, whole or not there."""
    with MARKS.open("ab", buffering=0) as marks:
        marks.write(f"{token} {attempt} {os.getpid()}\n".encode())


if __name__ == "__main__":
    agent.run()
