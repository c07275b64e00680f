"""Reload upon reload under a steady load: no request fails, no task is lost or done twice."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.agents import RunningAgent, parse_events, running_agent_async
from tests.integration.orders import Customer, Order, Outcome, read_marks, write_orders
from tests.integration.vitals import assert_calm, assert_settles, take_vitals
from tests.integration.waiting import wait_until

ENVIRONMENT = {
    # What is kept of finished tasks is no leak; small, so that it is all there from the start.
    "AGENT_TASKS__RETENTION_COUNT": "200",
}
CONNECTIONS = 200
STREAM_EVERY = 7
"""Every so many orders one is a stream that is read as it comes."""


@pytest.mark.parametrize(
    ("workers", "reloads", "rate"),
    [
        (1, 6, 150),
        pytest.param(1, 50, 500, marks=[pytest.mark.long, pytest.mark.timeout(900)]),
        pytest.param(3, 20, 300, marks=[pytest.mark.long, pytest.mark.timeout(900)]),
    ],
)
async def test_no_request_fails_and_no_task_is_lost_whatever_is_reloaded(
    subject: Path, workers: int, reloads: int, rate: int
) -> None:
    """The promise that makes a reload a thing to do at noon."""
    env = ENVIRONMENT | {"AGENT_WORKER__COUNT": str(workers)}
    async with running_agent_async(subject, env=env) as agent:
        warm = await load(agent, "warm", rate=rate, reloads=1)
        await asyncio.to_thread(wait_retired, agent)
        before = await asyncio.to_thread(take_vitals, agent)
        hot = await load(agent, "hot", rate=rate, reloads=reloads)

        assert len(hot.outcomes) >= reloads * 20
        for outcome in (*warm.outcomes, *hot.outcomes):
            assert outcome.code is None, outcome
            assert outcome.order.fits(outcome.output), outcome
        tokens = Counter(outcome.order.token for outcome in (*warm.outcomes, *hot.outcomes))
        assert read_marks(subject) == tokens  # each began once, and ran to its end
        assert max(tokens.values()) == 1
        await asyncio.to_thread(wait_retired, agent)
        await asyncio.to_thread(assert_settles, agent, before)
        status = await asyncio.to_thread(agent.status)
        assert status["reload"]["generation"] == reloads + 2
        assert status["workers"]["restarts"] == 0
        assert status["tasks"]["submitted"] == status["tasks"]["completed"] == tokens.total()
        assert len(agent.processes()) == workers + 1
        assert_calm(agent)
        sys.stdout.write(hot.describe() + "\n")  # pytest -rP shows it


class Load:
    """Orders at a steady rate, whether they are answered or not, and reloads one after the other.

    Attributes:
        outcomes: of every order.
        took_s: how long it all took.
        slowest_s: the longest that an order took beyond its own pause.
    """

    def __init__(self, agent: RunningAgent, session: aiohttp.ClientSession, prefix: str) -> None:
        self._agent = agent
        self._session = session
        self._customer = Customer(session, agent.url)
        self._orders: Iterator[Order] = write_orders(7, prefix)
        self._clock = asyncio.get_running_loop().time
        self.outcomes: list[Outcome] = []
        self.took_s = 0.0
        self.slowest_s = 0.0

    async def run(self, *, rate: int, reloads: int) -> None:
        """Place orders until the last reload is over."""
        began_s = self._clock()
        async with asyncio.TaskGroup() as group:
            reloading = group.create_task(self._reload(reloads))
            number = 0
            while not reloading.done():
                number += 1
                group.create_task(self._place(next(self._orders), number))
                await asyncio.sleep(max(0.0, began_s + number / rate - self._clock()))
        self.took_s = self._clock() - began_s

    def describe(self) -> str:
        """Say in numbers what it did."""
        rate = len(self.outcomes) / self.took_s
        return (
            f"{len(self.outcomes)} orders in {self.took_s:.1f} s ({rate:.0f} a second), "
            f"the slowest {self.slowest_s * 1000:.0f} ms"
        )

    async def _reload(self, times: int) -> None:
        for _ in range(times):
            async with self._session.post(f"{self._agent.url}/v1/reload") as answer:
                assert answer.status == 200, await answer.text()

    async def _place(self, order: Order, number: int) -> None:
        began_s = self._clock()
        if number % STREAM_EVERY == 0:
            order = Order(order.token, "mark_items", "call", order.pause_s)
            outcome = Outcome(order, await self._follow(order), None)
        else:
            outcome = await self._customer.place_once(order)
        self.outcomes.append(outcome)
        self.slowest_s = max(self.slowest_s, self._clock() - began_s - order.pause_s)

    async def _follow(self, order: Order) -> object:
        """Read a stream to its end; return its items."""
        url = f"{self._agent.url}/v1/capabilities/{order.capability}"
        headers = {"Accept": "text/event-stream"}
        async with self._session.post(url, json=order.input, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            text = await answer.text()
        events = list(parse_events(iter(text.splitlines(keepends=True))))
        assert events[-1].name == "task", events
        assert events[-1].data["state"] == "completed", events
        return [event.data for event in events if event.name == "event"]


async def load(agent: RunningAgent, prefix: str, *, rate: int, reloads: int) -> Load:
    """Run a load to its end."""
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        run = Load(agent, session, prefix)
        await run.run(rate=rate, reloads=reloads)
    return run


def wait_retired(agent: RunningAgent) -> None:
    """Return when no generation but the current one has workers."""
    wait_until(lambda: agent.status()["reload"]["retiring"] == 0)
