"""The agent that calls itself, in every way that its code may call others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from kagent_sdk import Agent, CallError, LoopContext, TaskContext

agent = Agent("relay")
MARKS = Path("runtime/data/marks")
swept: list[str] = []


class Order(BaseModel):
    """What is asked for."""

    day: date
    count: int = 1


class Bill(BaseModel):
    """What it costs."""

    day: date
    total: float


class Line(BaseModel):
    """An item of a stream."""

    number: int
    text: str


def mark(text: str) -> None:
    """Leave a mark for the test."""
    with MARKS.open("a") as marks:
        marks.write(text + "\n")


@agent.capability
async def price(order: Order) -> Bill:
    """Price an order."""
    return Bill(day=order.day, total=order.count * 0.5)


@agent.capability
async def lines(count: int, size: int = 1, pause_s: float = 0.0) -> AsyncIterator[Line]:
    """Yield lines; leave a mark for each that was asked for, and one when it is left."""
    number = 0
    try:
        for number in range(count):
            yield Line(number=number, text="x" * size)
            await asyncio.sleep(pause_s)
    except BaseException as exc:
        mark(f"left by {type(exc).__name__}")
        raise
    finally:
        mark(f"yielded {number + 1}")


@agent.capability
async def nap(seconds: float) -> str:
    """Sleep; leave a mark when woken."""
    mark("asleep")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        mark("woken")
        raise
    return "slept"


@agent.capability
async def buy(day: date, ctx: TaskContext) -> dict[str, Any]:
    """Call in all forms."""
    order = Order(day=day, count=4)
    typed = await ctx.call("relay/price", order, output=Bill)
    alone = await ctx.call("price", order, output=Bill)
    plain = await ctx.call("relay", "price", {"day": day.isoformat()})
    return {"typed": repr(typed.day), "is_same": typed == alone, "plain": plain}


@agent.capability
def buy_in_thread(day: date, ctx: TaskContext) -> float:
    """Do so in a sync function."""
    bill: Bill = ctx.call("price", Order(day=day), output=Bill).result(20)
    total = sum(line.number for line in ctx.stream("lines", {"count": 5}, item=Line))
    return bill.total + total


@agent.capability
async def misread(ctx: TaskContext) -> int:
    """Ask for a type that the output is not of."""
    return await ctx.call("price", {"day": "2026-01-01"}, output=int)


@agent.capability
async def misread_items(ctx: TaskContext) -> list[Any]:
    """Ask for items that they are not."""
    return [item async for item in ctx.stream("lines", {"count": 500}, item=Bill)]


@agent.capability
async def total(
    count: int, ctx: TaskContext, size: int = 1, pause_s: float = 0.0, stop_at: int = -1
) -> int:
    """Add up the numbers of a stream, as slowly as is asked for."""
    result = 0
    async for line in ctx.stream("relay/lines", {"count": count, "size": size}, item=Line):
        result += line.number
        if line.number == stop_at:
            break
        await asyncio.sleep(pause_s)
    return result


@agent.capability
async def peek(ctx: TaskContext) -> list[int]:
    """Leave a stream by its context manager, after a look with a time limit."""
    async with ctx.stream("lines", {"count": 3, "pause_s": 30}, item=Line) as items:
        first = await anext(items)
        try:
            await asyncio.wait_for(anext(items), 0.05)
        except TimeoutError:
            return [first.number]
    return []


@agent.capability
async def relay_nap(seconds: float, ctx: TaskContext, timeout_s: float | None = None) -> Any:
    """Have somebody else sleep."""
    return await ctx.call("nap", {"seconds": seconds}, timeout_s=timeout_s)


@agent.capability
def relay_nap_in_thread(seconds: float, ctx: TaskContext) -> Any:
    """Have somebody else sleep, and block a thread meanwhile."""
    return ctx.call("nap", {"seconds": seconds}).result()


@agent.capability
async def nap_first(ctx: TaskContext) -> str:
    """Give up a call, and say how it ended."""
    call = ctx.call("nap", {"seconds": 60})
    try:
        await asyncio.wait_for(call, 2)  # in which it has begun, on a busy machine too
    except TimeoutError:
        return "gave up"
    return "slept"


@agent.capability
async def descend(depth: int, ctx: TaskContext) -> int:
    """Call itself so many times; return how deep it came."""
    if not depth:
        return 0
    return 1 + await ctx.call("descend", {"depth": depth - 1}, output=int)


@agent.capability
async def once(token: str, ctx: TaskContext) -> list[Any]:
    """Have something done twice that is one task."""
    first = await ctx.call("note", {"text": token}, id=f"{ctx.task_id}:note")
    again = await ctx.call("note", {"text": token}, id=f"{ctx.task_id}:note")
    try:
        await ctx.call("note", {"text": "another"}, id=f"{ctx.task_id}:note")
    except CallError as error:
        return [first, again, error.code, error.status]
    return []


@agent.capability
async def note(text: str, ctx: TaskContext) -> str:
    """Leave a mark."""
    mark(f"noted {text}")
    return ctx.task_id


@agent.capability
async def send_off(text: str, ctx: TaskContext) -> str:
    """Call for the effect alone, and do not wait."""
    call = ctx.call("note", {"text": text})
    return type(call).__name__


@agent.capability
async def elsewhere(target: str, ctx: TaskContext, labels: dict[str, str] | None = None) -> Any:
    """Call somebody else."""
    return await ctx.call(target, {}, labels=labels)


@agent.capability
async def trace(ctx: TaskContext, *, is_inner: bool = False) -> list[str | None]:
    """Return the trace of this task, and of one that it calls."""
    if is_inner:
        return [ctx.traceparent]
    return [ctx.traceparent, *await ctx.call("trace", {"is_inner": True}, output=list[str | None])]


@agent.capability
async def many(count: int, ctx: TaskContext) -> int:
    """Have many streams open at the same time."""

    async def add(number: int) -> int:
        query = {"count": number, "size": 1000}
        async with aclosing(ctx.stream("lines", query, item=Line)) as items:
            return len([item async for item in items])

    return sum(await asyncio.gather(*(add(number) for number in range(count))))


@agent.capability
async def sweeps() -> list[str]:
    """Return what the loop has heard."""
    return swept


@agent.loop(every_s=1)
async def sweep(ctx: LoopContext) -> None:
    """Call as a loop does: without a deadline, at the beginning of the hops."""
    swept.append((await ctx.call("price", {"day": "2026-01-01"}, output=Bill)).day.isoformat())


if __name__ == "__main__":
    agent.run()
