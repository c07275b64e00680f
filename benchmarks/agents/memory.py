"""An agent that changes its state, one change after the other, and tells how long each took."""

import time
from collections.abc import Awaitable

from kagent_sdk import Agent

agent = Agent()


async def take_time(step: Awaitable[object]) -> float:
    """Return how many microseconds something took."""
    began = time.perf_counter()
    await step
    return (time.perf_counter() - began) * 1e6


@agent.capability
async def time_sets(count: int, keys: int, size: int) -> list[float]:
    """Set keys to values of ``size`` characters; each is acknowledged before the next."""
    return [
        await take_time(agent.state.set(f"timed/{number % keys}", f"{number:0{size}}"))
        for number in range(count)
    ]


@agent.capability
async def time_gets(count: int, keys: int) -> list[float]:
    """Get keys, one after the other."""
    return [await take_time(agent.state.get(f"timed/{number % keys}")) for number in range(count)]


if __name__ == "__main__":
    agent.run()
