"""A load on a mesh, and what its callers see of it; who breaks what meanwhile is a test's own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

TASK_DEADLINE_S = 120.0
"""No task may take longer, whatever dies meanwhile: else something hangs."""

THINK_S = 0.05
CHARGE_SHARE = 0.2
PAUSES_S = (0.0, 0.0, 0.02, 0.1, 0.5)
PAST_FAILURES = frozenset({"interrupted", "worker_crashed", "agent_lost"})
"""What may become of a task that must not be run twice."""


@dataclass(frozen=True, slots=True)
class Order:
    """One task that somebody wants done once; ``token`` is its id."""

    token: str
    capability: str
    input: dict[str, Any]


@dataclass(slots=True, eq=False)
class Seen:
    """What the caller of one task has seen.

    Attributes:
        is_accepted: somebody said that the task is taken.
        end: the task as it ended.
        retries: requests whose connection broke, or that nobody answered.
        refusals: answers that ask for another try.
        wrongs: what contradicts what was seen before.
    """

    order: Order
    is_accepted: bool = False
    end: dict[str, Any] | None = None
    took_s: float = 0.0
    retries: int = 0
    refusals: int = 0
    wrongs: list[str] = field(default_factory=list)

    def note_end(self, document: dict[str, Any]) -> None:
        """Note a task that has ended: from then on it is the same for everyone."""
        self.is_accepted = True
        if self.end is None:
            self.end = document
        elif any(self.end.get(key) != document.get(key) for key in ("state", "output", "error")):
            self.wrongs.append(f"two ends: {self.end} and {document}")


def write_orders(seed: int) -> Iterator[Order]:
    """Yield orders without end, the same ones for the same seed.

    Each counts on a counter of its own: one that is counted twice shows a 2.
    """
    chance = random.Random(seed + 1)  # noqa: S311 - a load, no secret
    number = 0
    while True:
        number += 1
        token, pause_s = f"order-{number}", chance.choice(PAUSES_S)
        if chance.random() < CHARGE_SHARE:
            yield Order(token, "charge", {"token": token, "pause_s": pause_s})
        else:
            hold_s = chance.choice((0.0, 0.05))
            task_input = {"token": token, "counter": token, "pause_s": pause_s, "hold_s": hold_s}
            yield Order(token, "count", task_input)


class Asked(Protocol):
    """What callers hand their orders to."""

    async def settle(self, seen: Seen) -> None:
        """Send an order, and again, until its end is known."""
        ...

    async def ask_again(self, seen: Seen) -> None:
        """Ask for the end of an order once more: it must be the same."""
        ...

    async def look(self) -> None:
        """Take note of its own figures, which a restart begins anew."""
        ...


class Load:
    """Callers who ask for one task after the other, and write down what they see.

    Args:
        asked: who takes their orders.
        seed: of the orders.

    Attributes:
        seen: of every task.
    """

    def __init__(self, asked: Asked, seed: int) -> None:
        self.seen: list[Seen] = []
        self._asked = asked
        self._orders = write_orders(seed)

    async def run(
        self, *, seconds: float, clients: int, faults: Sequence[Coroutine[Any, Any, None]]
    ) -> None:
        """Ask for so long, and as long as the faults take; return when all tasks have ended."""
        ends_at = asyncio.get_running_loop().time() + seconds
        watch = asyncio.create_task(self._watch())
        try:
            async with asyncio.TaskGroup() as group:
                jobs = [group.create_task(fault) for fault in faults]
                for _ in range(clients):
                    group.create_task(self._be_client(ends_at, jobs))
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        await self._asked.look()

    async def ask_again(self) -> None:
        """Ask for the end of every task once more."""
        for seen in self.seen:
            if seen.end is not None:
                await self._asked.ask_again(seen)

    async def _watch(self) -> None:
        while True:
            await self._asked.look()
            await asyncio.sleep(0.3)

    async def _be_client(self, ends_at: float, faults: Sequence[asyncio.Task[None]]) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < ends_at or not all(fault.done() for fault in faults):
            seen = Seen(next(self._orders))
            self.seen.append(seen)
            began_s = loop.time()
            try:
                async with asyncio.timeout(TASK_DEADLINE_S):
                    await self._asked.settle(seen)
            except TimeoutError:
                seen.wrongs.append("it did not end")
            seen.took_s = loop.time() - began_s
            await asyncio.sleep(THINK_S)
