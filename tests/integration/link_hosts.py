"""Hosts of agents as a link sees them: they hold tasks, and the test says how these end."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Collection
from typing import Any

from kagent_sdk.link.port import OfferRefusedError, Report
from kagent_sdk.protocol.link import AgentLimits, Heartbeat, Held, Offer, Registration, ShortStatus
from kagent_sdk.protocol.manifest import CapabilityManifest
from kagent_sdk.protocol.tasks import TaskFailure


def capability(name: str = "echo", **options: Any) -> CapabilityManifest:
    """Return a capability that takes and gives anything."""
    return CapabilityManifest(name=name, input_schema={}, output_schema={}, **options)


class Box:
    """An outbox in memory."""

    def __init__(self) -> None:
        self.added = asyncio.Event()
        self.reports: list[Report] = []
        self.settled = 0

    def put(self, report: Report) -> None:
        """Have something to send."""
        self.reports.append(report)
        self.added.set()

    async def first(self, limit: int, limit_bytes: int) -> list[Report]:
        """Return the oldest ones."""
        return self.reports[:limit]

    async def settle(self, ids: Collection[str]) -> None:
        """Forget these."""
        self.reports = [report for report in self.reports if report.id not in ids]
        self.settled += len(ids)


class FakeHost:
    """A host that takes what it has room for.

    Attributes:
        offers: all that it was ever given, in order.
        held: the tasks that it has.
        is_quick: each task ends at once, with its input as the output.
    """

    def __init__(
        self, agent: str, *capabilities: CapabilityManifest, room: int = 8, is_quick: bool = True
    ) -> None:
        self.agent = agent
        self.instance = secrets.token_hex(16)
        self.capabilities = capabilities or (capability(),)
        self.changed = asyncio.Event()
        self.reports = Box()
        self.labels: dict[str, str] = {}
        self.is_quick = is_quick
        self.offers: list[Offer] = []
        self.held: dict[str, Offer] = {}
        self.cancelled: list[Held] = []
        self.lost: list[Held] = []
        self.logged: list[str] = []
        self.refusal: TaskFailure | None = None
        self.moved = asyncio.Event()
        self._room = room
        self._count = 0

    def registration(self) -> Registration:
        """Say who this is."""
        return Registration(
            agent=self.agent,
            instance=self.instance,
            version="1.2.3",
            sdk_version="0.1.0",
            delivery="pull",
            token="not-for-the-registry",  # noqa: S106 - a made up one
            capabilities=self.capabilities,
            limits=AgentLimits(max_concurrency=self._room, max_queue=0),
            labels=self.labels,
            status=self._status(),
        )

    def heartbeat(self) -> Heartbeat:
        """Say what it has."""
        tasks = tuple(Held(task=one.task, lease=one.lease) for one in self.held.values())
        return Heartbeat(status=self._status(), tasks=tasks)

    def _status(self) -> ShortStatus:
        return ShortStatus(lifecycle="ready", ready=True, working=len(self.held))

    def token(self) -> str | None:
        """Show none."""
        return None

    async def wait_for_room(self) -> None:
        """Wait until fewer tasks are held than there is room for."""
        while len(self.held) >= self._room:
            await self.wait(lambda: len(self.held) < self._room)

    async def take(self, offer: Offer) -> None:
        """Take a task, or refuse it as the test has said."""
        if self.refusal is not None:
            raise OfferRefusedError(self.refusal, 0.05)
        self.offers.append(offer)
        self.held[offer.task] = offer
        self._move()
        if self.is_quick:
            self.finish(offer.task)

    def cancel(self, held: Held) -> None:
        """End it as cancelled."""
        self.cancelled.append(held)
        self.finish(held.task, state="canceled", error={"code": "canceled", "message": "so"})

    def lose(self, held: Held) -> None:
        """Forget it."""
        self.lost.append(held)
        self.held.pop(held.task, None)
        self._move()

    def confirm(self, held: Collection[Held], *, in_force: bool = True) -> None:
        """Nothing waits for that here."""

    def log(self, level: str, event: str, **keys: object) -> None:
        """Remember what was logged."""
        self.logged.append(f"{level} {event} {keys}")

    def tell(self, task: str, data: object, event: str = "event") -> None:
        """Have an event of a task to report."""
        self._count += 1
        payload = {"id": self._count, "event": event, "data": data}
        offer = self.held[task]
        self._put("event", offer, payload)

    def finish(self, task: str, **members: Any) -> None:
        """Have the end of a task to report: completed, with its input for an output."""
        offer = self.held.pop(task)
        document = {
            "id": task,
            "capability": offer.capability,
            "state": "completed",
            "output": json.loads(offer.input),
            "error": None,
            "attempt": offer.attempt,
        }
        self._put("result", offer, document | members)
        self._move()

    def _put(self, kind: Any, offer: Offer, payload: object) -> None:
        self._count += 1
        body = json.dumps(payload).encode()
        self.reports.put(Report(str(self._count), offer.task, offer.lease, kind, body))

    async def wait(self, condition: Any) -> None:
        """Return when a condition holds that changes with what this host has."""
        while not condition():
            self.moved.clear()
            await self.moved.wait()

    def _move(self) -> None:
        self.moved.set()
