"""What a link needs of its host, without a host: a test sets what it says and reads what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from kagent_sdk.errors import StorageError
from kagent_sdk.link.http import LinkSettings, build_link
from kagent_sdk.link.port import Link, OfferRefusedError, Report
from kagent_sdk.protocol.link import (
    AgentLimits,
    Heartbeat,
    Held,
    Offer,
    Registration,
    ShortStatus,
)
from tests.integration.fake_orchestrator import TOKEN

INSTANCE = "instance-0123456789"


class FakeReportBox:
    """An outbox in memory."""

    def __init__(self) -> None:
        self.added = asyncio.Event()
        self.waiting: list[Report] = []
        self.is_broken = False
        self.batches: list[int] = []

    def add(self, *reports: Report) -> None:
        """Put reports in."""
        self.waiting.extend(reports)
        self.added.set()

    async def first(self, limit: int, limit_bytes: int) -> list[Report]:
        """Return the oldest, as `ReportBox.first` does."""
        if self.is_broken:
            raise StorageError("the disk is full")
        batch: list[Report] = []
        for report in self.waiting[:limit]:
            if batch and sum(len(r.payload) for r in (*batch, report)) > limit_bytes:
                break
            batch.append(report)
        self.batches.append(len(batch))
        return batch

    async def settle(self, ids: Collection[str]) -> None:
        """Forget reports."""
        self.waiting = [report for report in self.waiting if report.id not in ids]


class FakeLinkHost:
    """A host that remembers."""

    def __init__(self, *, delivery: str = "push") -> None:
        self.changed = asyncio.Event()
        self.reports = FakeReportBox()
        self.room = asyncio.Event()
        self.room.set()
        self.secret: str | None = TOKEN
        self.held: tuple[Held, ...] = ()
        self.labels: dict[str, str] = {}
        self.limits = AgentLimits(max_concurrency=8, max_queue=100)
        self.taken: list[Offer] = []
        self.refusals: list[OfferRefusedError] = []
        self.lost: list[Held] = []
        self.confirmed: list[tuple[Held, bool]] = []
        self.canceled: list[Held] = []
        self.logged: list[tuple[str, str, dict[str, object]]] = []
        self._delivery = delivery

    def registration(self) -> Registration:
        """Return who this is."""
        return Registration.model_validate(
            {
                "agent": "worker-bee",
                "instance": INSTANCE,
                "version": "1.0",
                "sdk_version": "0",
                "delivery": self._delivery,
                "capabilities": (),
                "limits": self.limits,
                "labels": self.labels,
                "status": self.heartbeat().status,
                "tasks": self.held,
            }
        )

    def heartbeat(self) -> Heartbeat:
        """Return how this is."""
        return Heartbeat(status=ShortStatus(lifecycle="ready", ready=True), tasks=self.held)

    def token(self) -> str | None:
        """Return the token as it is now."""
        return self.secret

    async def wait_for_room(self) -> None:
        """Wait until the test makes room."""
        await self.room.wait()

    async def take(self, offer: Offer) -> None:
        """Take a task, or not."""
        self.taken.append(offer)
        if self.refusals:
            raise self.refusals.pop(0)

    def cancel(self, held: Held) -> None:
        """Note it."""
        self.canceled.append(held)

    def lose(self, held: Held) -> None:
        """Note it."""
        self.lost.append(held)

    def confirm(self, held: Collection[Held], *, in_force: bool = True) -> None:
        """Note it."""
        self.confirmed += [(one, in_force) for one in held]

    def log(self, level: str, event: str, **keys: object) -> None:
        """Note it."""
        self.logged.append((level, event, keys))

    def events(self, name: str) -> list[dict[str, object]]:
        """Return what was logged under a name."""
        return [keys for _, event, keys in self.logged if event == name]


@asynccontextmanager
async def running_link(settings: LinkSettings, host: FakeLinkHost) -> AsyncIterator[Link]:
    """Run a link for the time of the block, and close it."""
    link = build_link(settings, host)
    job = asyncio.create_task(link.run())
    try:
        yield link
    finally:
        await link.close(1.0)
        await job
