"""A broker without sockets: a clock that tests let pass, and agents that do what they are told."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from kagent_sdk.orchestrator.agents import Agents
from kagent_sdk.orchestrator.basis import Basis
from kagent_sdk.orchestrator.book import Book
from kagent_sdk.orchestrator.broker import Broker
from kagent_sdk.orchestrator.courier import Outcome, Verdict
from kagent_sdk.orchestrator.dispatcher import Dispatcher
from kagent_sdk.orchestrator.leases import Leases
from kagent_sdk.orchestrator.registry import Instance, Registry
from kagent_sdk.orchestrator.schema import ORCHESTRATOR_SCHEMA
from kagent_sdk.orchestrator.settings import BrokerLimits
from kagent_sdk.orchestrator.submission import Submission
from kagent_sdk.orchestrator.task import OpenTask, Target
from kagent_sdk.protocol.envelope import Envelope
from kagent_sdk.protocol.headers import TaskIds
from kagent_sdk.protocol.link import AgentLimits, Offer, Registration, ShortStatus
from kagent_sdk.protocol.manifest import CapabilityManifest
from kagent_sdk.storage.thread import Storage

READY = ShortStatus(lifecycle="ready", ready=True)


@dataclass(order=True)
class FakeTimer:
    """Something that is due on a fake clock."""

    at_s: float
    number: int
    call: Callable[[], None] = field(compare=False)
    is_canceled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        """Let it not happen, and hold on to nothing, as asyncio's do."""
        self.is_canceled = True
        self.call = lambda: None


class FakeClock:
    """A clock that stands still until a test lets time pass."""

    def __init__(self) -> None:
        self.at_s = 1000.0
        self.epoch_s = 1_000_000.0
        self._timers: list[FakeTimer] = []
        self._numbers = count()

    def now_s(self) -> float:
        """Return the time."""
        return self.at_s

    def wall_s(self) -> float:
        """Return the time as if it were since the epoch."""
        return self.at_s + self.epoch_s

    def later(self, delay_s: float, function: Callable[..., None], *args: Any) -> FakeTimer:
        """Note what is due."""
        timer = FakeTimer(self.at_s + delay_s, next(self._numbers), lambda: function(*args))
        heapq.heappush(self._timers, timer)
        return timer

    def go(self, seconds: float = 0.0) -> None:
        """Let time pass, and what is due happen."""
        until_s = self.at_s + seconds
        while self._timers and self._timers[0].at_s <= until_s:
            timer = heapq.heappop(self._timers)
            self.at_s = max(self.at_s, timer.at_s)
            if not timer.is_canceled:
                timer.call()
        self.at_s = until_s


def registration(instance: str = "a", **changes: Any) -> Registration:
    """Return what an agent that takes pushed tasks says of itself.

    Args:
        instance: its id, and the name of its address.
        changes: members of the registration, of its limits, or of its capabilities; ``names`` of
            these.
    """
    names = changes.pop("names", ("echo",))
    options = {"idempotent": True, "max_attempts": 3}
    options |= {key: changes.pop(key) for key in options.keys() & changes}
    limits = {"max_concurrency": 2, "max_queue": 0}
    limits |= {key: changes.pop(key) for key in limits.keys() & changes}
    schemas: dict[str, Any] = {"input_schema": {}, "output_schema": {}}
    members = {
        "agent": "worker",
        "instance": instance.ljust(16, "-"),
        "version": "1",
        "sdk_version": "1",
        "delivery": "push",
        "url": f"http://{instance}.example",
        "capabilities": tuple(
            CapabilityManifest(name=name, **schemas, **options) for name in names
        ),
        "limits": AgentLimits(**limits),
        "status": READY,
        **changes,
    }
    return Registration(**members)


def submission(task_id: str, capability: str = "echo", **members: Any) -> Submission:
    """Return what a caller sends."""
    agent = members.pop("agent", None)
    labels = tuple(sorted(members.pop("labels", {}).items()))
    payload = members.pop("input", b"1")
    envelope = Envelope(task_id, capability, payload, members.pop("timeout_s", None), b"{}")
    return Submission(envelope, Target(agent, capability, labels), **members)


@dataclass
class FakeCourier:
    """Notes offers, and answers what the test says."""

    outcomes: list[Outcome] = field(default_factory=list)
    offers: list[tuple[str, Offer]] = field(default_factory=list)
    canceled: list[str] = field(default_factory=list)

    async def deliver(self, instance: Instance, offer: Offer) -> Outcome:
        """Offer a task."""
        self.offers.append((instance.id.strip("-"), offer))
        return self.outcomes.pop(0) if self.outcomes else Outcome(Verdict.TAKEN)

    async def cancel(self, instance: Instance, task_id: str) -> None:
        """Note that a task is not wanted."""
        self.canceled.append(task_id)


class FakeMesh:
    """A broker with its clock and courier."""

    def __init__(self, storage: Storage, limits: BrokerLimits) -> None:
        self.storage = storage
        self.limits = limits
        self.clock = FakeClock()
        self.courier = FakeCourier()
        self.registry = Registry()
        self.jobs: set[asyncio.Task[None]] = set()
        basis = Basis("o" * 16, self.clock, limits)
        self.counters = basis.counters
        self.book = Book(storage, limits, self.clock)
        self.leases = Leases(self.book, self.registry, self.courier, spawn=self.spawn, basis=basis)
        self.dispatcher = Dispatcher(
            self.book, self.registry, self.leases, self.courier, spawn=self.spawn, basis=basis
        )
        ids = TaskIds(0, bytes(8))
        self.broker = Broker(
            self.book, self.registry, self.leases, self.dispatcher, ids=ids, basis=basis
        )
        self.agents = Agents(self.registry, self.book, self.leases, self.dispatcher, basis)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a job."""
        job = asyncio.create_task(work)
        self.jobs.add(job)

    async def submit(self, task_id: str, capability: str = "echo", **members: Any) -> OpenTask:
        """Send a task, and let it be offered."""
        task = await self.broker.submit(submission(task_id, capability, **members))
        await self.settle()
        return task

    async def settle(self, seconds: float = 0.0) -> None:
        """Let time pass, and wait for what that starts."""
        self.clock.go(seconds)
        while self.jobs:
            jobs, self.jobs = self.jobs, set()
            await asyncio.gather(*jobs)
            self.clock.go()
        await self.storage.read(lambda _connection: None)


@asynccontextmanager
async def fake_mesh(limits: BrokerLimits | None = None) -> AsyncIterator[FakeMesh]:
    """Give a broker that keeps everything in memory."""
    storage = Storage(None, "none", schema=ORCHESTRATOR_SCHEMA)
    await storage.open()
    try:
        yield FakeMesh(storage, limits or BrokerLimits())
    finally:
        await storage.aclose()
