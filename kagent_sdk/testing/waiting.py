"""Waiting for what another process does: no event tells of it, so it is looked at again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kagent_sdk.testing.process_failures import AgentFailedError

PATIENCE_S = 60.0
"""How long to wait for what takes a moment, on a machine that is busy."""

POLL_S = 0.01

Condition = Callable[[], bool | Awaitable[bool]]


async def until(
    condition: Condition,
    what: str = "what the test waits for",
    deadline_s: float = PATIENCE_S,
    fail: Callable[[str], AssertionError] = AgentFailedError,
) -> None:
    """Return as soon as a condition holds.

    Args:
        condition: plain or async.
        what: is waited for, for the message.
        deadline_s: how long.
        fail: makes the error.

    Raises:
        AgentFailedError: it does not hold in time.
    """
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + deadline_s
    while not await _holds(condition):
        if loop.time() > give_up_s:
            raise fail(f"{what} did not happen in {deadline_s:g} s")
        await asyncio.sleep(POLL_S)


async def _holds(condition: Condition) -> bool:
    answer = condition()
    return answer if isinstance(answer, bool) else await answer
