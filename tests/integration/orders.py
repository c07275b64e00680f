"""A load of marked tasks, and what becomes of each of them."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp

RETRY_S = 0.02
"""A refused order is placed again after this: sooner than Retry-After says, to keep the load up."""

ROUTES = {"call": 4, "keyed": 1, "task": 4, "async": 1}
"""A plain call, one with Idempotency-Key, and ``POST /v1/tasks`` waiting and not waiting."""


REFUSALS = frozenset({"queue_full", "starting", "draining", "worker_down", "memory"})
"""Codes of the answers 429 and 503: the order was not taken."""


@dataclass(frozen=True, slots=True)
class Order:
    """One task that a client wants done.

    Attributes:
        token: unique; also its id, where the route takes one.
        capability: one of the subject's ``mark`` family; all but ``mark_once`` are idempotent.
        route: one of `ROUTES`.
        pause_s: how long it takes.
    """

    token: str
    capability: str
    route: str
    pause_s: float

    @property
    def input(self) -> dict[str, Any]:
        """What the capability is given."""
        items = {"n": 5} if self.capability == "mark_items" else {}
        return {"token": self.token, "pause_s": self.pause_s, **items}

    @property
    def is_idempotent(self) -> bool:
        """Whether it may run again."""
        return self.capability != "mark_once"

    def fits(self, output: Any) -> bool:
        """Whether an output is this order's and nobody else's."""
        if self.capability == "mark_items":
            return bool(output == [f"{self.token}/{number}" for number in range(5)])
        return isinstance(output, dict) and output.get("token") == self.token


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an order ended: its output, or the code of its error; never both."""

    order: Order
    output: Any
    code: str | None
    refusals: int = 0


MIX = {"mark": 5, "mark_once": 4, "mark_items": 1}


def write_orders(
    seed: int,
    prefix: str,
    *,
    mix: Mapping[str, int] = MIX,
    routes: Mapping[str, int] = ROUTES,
) -> Iterator[Order]:
    """Yield orders without end, the same ones for the same seed; the mixes are weights."""
    chance = random.Random(seed)  # noqa: S311 - a load, no secret
    number = 0
    while True:
        number += 1
        yield Order(
            f"{prefix}-{number}",
            chance.choices([*mix], [*mix.values()])[0],
            chance.choices([*routes], [*routes.values()])[0],
            chance.choice((0.0, 0.0, 0.01, 0.05, 0.1)),
        )


class Customer:
    """Places orders with one agent, patiently.

    Args:
        session: an HTTP client.
        url: of the agent.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def place(self, order: Order) -> Outcome:
        """Return how the order ended; one that is refused (429, 503) is placed again.

        Raises:
            AssertionError: an answer that this API does not have.
        """
        refusals = 0
        while (outcome := await self.place_once(order)).code in REFUSALS:
            refusals += 1
            await asyncio.sleep(RETRY_S)
        return replace(outcome, refusals=refusals)

    async def place_once(self, order: Order) -> Outcome:
        """Return how the order ended, or with which of `REFUSALS` it was refused.

        Raises:
            AssertionError: an answer that this API does not have.
        """
        status, answer = await self._send(order)
        if status in (429, 503):
            assert answer["code"] in REFUSALS, answer
            return Outcome(order, None, answer["code"])
        if order.route in ("call", "keyed"):
            code = None if status == 200 else answer["code"]
            return Outcome(order, answer if code is None else None, code)
        assert status in (200, 202), (status, answer)
        task = await self._wait_for_end(order, answer)
        assert (task["state"] == "completed") == (task["error"] is None), task
        return Outcome(order, task["output"], task["error"] and task["error"]["code"])

    async def place_again(self, order: Order) -> Any:
        """Place an order that has ended once more, and return the task."""
        status, task = await self._send(order)
        assert status in (200, 202), (status, task)
        return task

    async def read(self, order: Order) -> Any:
        """Return the task of an order."""
        _, task = await self._request("GET", f"/v1/tasks/{order.token}")
        return task

    async def _wait_for_end(self, order: Order, task: Any) -> Any:
        while task["state"] in ("submitted", "working"):
            status, task = await self._request("GET", f"/v1/tasks/{order.token}?wait_s=30")
            assert status == 200, (status, task)
        return task

    async def _send(self, order: Order) -> tuple[int, Any]:
        if order.route == "call":
            return await self._call(order, {})
        if order.route == "keyed":
            return await self._call(order, {"Idempotency-Key": order.token})
        body = {"id": order.token, "capability": order.capability, "input": order.input}
        headers = {"Prefer": "respond-async"} if order.route == "async" else {}
        return await self._request("POST", "/v1/tasks", body, headers)

    async def _call(self, order: Order, headers: dict[str, str]) -> tuple[int, Any]:
        path = f"/v1/capabilities/{order.capability}"
        return await self._request("POST", path, order.input, headers)

    async def _request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        async with self._session.request(
            method, self._url + path, json=body, headers=headers
        ) as answer:
            return answer.status, json.loads(await answer.read())


def read_marks(directory: Path) -> Counter[str]:
    """Return how many attempts of each token began in an agent's worker."""
    text = (directory / "runtime" / "data" / "marks").read_text()
    return Counter(line.split(" ")[0] for line in text.splitlines())
