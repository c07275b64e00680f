"""Awaitables that are done, and turns of the loop."""

from __future__ import annotations

import asyncio

from kagent_sdk.worker.turns import DONE, TURN, Turns


async def test_a_job_that_only_reports_lets_others_run_now_and_then() -> None:
    """Otherwise its own progress would never leave, and its cancellation never arrive."""
    turns = Turns()
    others: list[int] = []
    asyncio.get_running_loop().call_soon(others.append, 1)
    await turns.next()

    assert others == [1]


async def test_most_turns_cost_nothing() -> None:
    """A turn each time would cost more than the sending."""
    turns = Turns()
    first, second = turns.next(), turns.next()

    assert first is TURN
    assert second is DONE
    await first
    await second
