"""The link of an agent over NATS: connected again and again, and its parts run while it is."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from kagent_sdk.errors import LinkError, StorageError
from kagent_sdk.link.nats import jobs, names, streams
from kagent_sdk.link.nats.caller import NatsCaller
from kagent_sdk.link.nats.calls import NatsCalls
from kagent_sdk.link.nats.connection import FAILURES, Access, Bus, describe
from kagent_sdk.link.nats.holdings import Holdings
from kagent_sdk.link.nats.limits import NatsLimits
from kagent_sdk.link.nats.pullers import Pullers
from kagent_sdk.link.nats.registry import Registry
from kagent_sdk.link.nats.reporter import Reporter
from kagent_sdk.link.nats.service import AgentService
from kagent_sdk.link.nats.sweeper import Sweeper
from kagent_sdk.link.nats.taker import Taker
from kagent_sdk.link.port import LinkStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kagent_sdk.link.port import LinkHost, LinkState, OutgoingCall
    from kagent_sdk.link.settings import LinkSettings

GOODBYE_S = 1.0
"""For what is only polite, when the time for the end is over."""


class NatsLink:
    """See `kagent_sdk.link.port.Link`.

    Args:
        settings: where NATS is.
        host: the agent's.
        limits: of streams, buckets and waits.
    """

    def __init__(
        self, settings: LinkSettings, host: LinkHost, limits: NatsLimits | None = None
    ) -> None:
        self._settings = settings
        self._host = host
        self._limits = limits or NatsLimits()
        self._status = LinkStatus(since=time.time())
        self._session: _Session | None = None
        self._changed = asyncio.Event()
        self._calls = NatsCalls(self._connected)
        self._is_draining = False
        self._closed = asyncio.Event()

    @property
    def status(self) -> LinkStatus:
        """What the host shows of it."""
        return self._status

    async def run(self) -> None:
        """Be connected, take tasks and report, until cancelled or closed; never fails."""
        await jobs.finish(self._run())

    async def _run(self) -> None:
        failures = 0
        while not self._closed.is_set():
            session = _Session(self._settings, self._host, self._limits, self._status)
            self._session = session
            session.bus.listen(self._note)
            try:
                await session.run(self._on_up, is_draining=self._is_draining)
            except (*FAILURES, LinkError) as exc:
                if self._closed.is_set():
                    return
                self._status.last_error = describe(exc)
                self._host.log("warning", "link_down", error=self._status.last_error)
            except Exception:
                await session.end()  # the next one has a connection of its own
                raise
            failures = 0 if session.was_up else failures + 1
            self._enter("down")
            await session.end()
            limits = self._limits
            bound_s = min(limits.max_backoff_s, limits.backoff_s * 2 ** min(failures, 10))
            await asyncio.sleep(bound_s * (0.5 + random.random() / 2))  # noqa: S311 - jitter

    async def drain(self) -> None:
        """Take no more tasks; go on reporting."""
        self._is_draining = True
        self._enter("draining")
        if self._session is not None:
            await self._session.drain()

    async def close(self, within_s: float) -> None:
        """Report what is left, leave the registry and let go of the connection."""
        self._closed.set()
        session = self._session
        if session is not None:
            try:
                await jobs.finish(session.say_goodbye(), within_s)
            except (*FAILURES, StorageError) as exc:
                self._host.log("debug", "link_goodbye_failed", error=describe(exc))
            with suppress(*FAILURES):
                await jobs.finish(session.end(), GOODBYE_S)
        self._status.state, self._status.since = "gone", time.time()
        self._changed.set()

    async def call(
        self, call: OutgoingCall, on_item: Callable[[bytes], Awaitable[None]] | None = None
    ) -> bytes:
        """Send a task to another agent and return its output.

        Raises:
            CallFailedError: it has failed.
        """
        return await self._calls.call(call, on_item)

    async def _connected(self) -> NatsCaller:
        while True:
            self._changed.clear()
            session = self._session
            if session is not None and session.was_up and session.bus.is_up:
                return session.caller
            await self._changed.wait()

    def _on_up(self) -> None:
        session = self._session
        assert session is not None
        session.service = AgentService(session.bus, self._calls)
        self._status.registrations += 1
        self._note()

    def _note(self) -> None:
        """Take note of the connection's state."""
        session = self._session
        if session is None:
            return
        bus = session.bus
        if bus.is_up and session.was_up:
            self._status.orchestrator = bus.server
            self._status.last_contact_at = time.time()
            self._status.last_error = None
            self._enter("up")
        else:
            self._status.last_error = bus.last_error or self._status.last_error
            if self._status.state == "up":
                self._host.log("warning", "link_down", error=self._status.last_error)
                self._enter("down")
        self._changed.set()

    def _enter(self, state: LinkState) -> None:
        if self._is_draining and state != "gone":
            state = "draining"
        if state == "down" and self._status.registrations == 0:
            state = "connecting"
        if self._status.state not in (state, "gone"):
            self._status.state, self._status.since = state, time.time()


class _Session:
    """The parts of a link for as long as one connection lasts, interruptions included."""

    def __init__(
        self, settings: LinkSettings, host: LinkHost, limits: NatsLimits, status: LinkStatus
    ) -> None:
        agent = host.registration().agent
        access = Access(
            url=settings.url,
            name=f"kOS agent {agent}",
            inbox=names.inbox_prefix(agent),
            timeout_s=settings.timeout_s,
            token=host.token,
            tls=settings.tls,
        )
        self.bus = Bus(access, limits)
        self.caller = NatsCaller(self.bus)
        self.service: AgentService | None = None
        self.was_up = False
        self._host = host
        self._status = status
        self._heartbeat_s = settings.heartbeat_s
        self._holdings = Holdings(self.bus, host, status)
        taker = Taker(self.bus, host, self._holdings, settings.max_body_bytes)
        self._pullers = Pullers(self.bus, host, taker, self._holdings)
        self._reporter = Reporter(self.bus, host, self._holdings, status)
        self._registry = Registry(self.bus)
        self._sweeper = Sweeper(self.bus, host)
        self._is_changed = asyncio.Event()
        self._registering = asyncio.Lock()
        self._is_leaving = False

    async def run(self, on_up: Callable[[], None], *, is_draining: bool) -> None:
        """Connect and work until the connection has ended for good.

        Raises:
            FAILURES, LinkError: it has.
        """
        await self.bus.open()
        self.was_up = True
        on_up()
        self._sweeper.ask()
        self.bus.listen(self._on_bus)
        if is_draining:
            await self._pullers.stop()
        await self._holdings.listen(self._host.registration().agent)
        parts = [
            asyncio.create_task(job, name=name)
            for name, job in (
                ("link registry", self._stay_registered()),
                ("link keeper", self._holdings.keep()),
                ("link reporter", self._reporter.run()),
                ("link sweeper", self._sweeper.run()),
                ("link connection", self.bus.closed.wait()),
            )
        ]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for job in done:
                await job
        finally:
            await jobs.end(parts)
            await self._pullers.stop()
        raise LinkError(self.bus.last_error or "the NATS server has closed the connection")

    async def drain(self) -> None:
        """Take no more tasks, and say so in the registry."""
        await self._pullers.stop()
        self._is_changed.set()

    async def say_goodbye(self) -> None:
        """Report what is left, and leave the registry.

        Raises:
            FAILURES, StorageError: the server is away, or the journal.
        """
        if not self.was_up:
            return
        await self._pullers.stop()
        while await self._reporter.flush():
            pass
        async with self._registering:
            self._is_leaving = True
            await self._registry.remove(self._host.registration())

    async def end(self) -> None:
        """Let go of the connection."""
        if self.service is not None:
            with suppress(*FAILURES):
                await self.service.close()
        if not self.bus.client.is_closed:
            await self.bus.close()

    def _on_bus(self) -> None:
        self._is_changed.set()
        self._pullers.nudge()
        self._sweeper.ask()

    async def _stay_registered(self) -> None:
        ttl_s = await streams.bucket_ttl_s(self.bus.agents)
        every_s = min(self._heartbeat_s, (ttl_s or self._heartbeat_s * 3) / 3)
        while True:
            self._is_changed.clear()
            self._host.changed.clear()
            if self.bus.is_up:
                try:
                    async with self._registering:
                        await self._register()
                except FAILURES as exc:
                    self._status.last_error = describe(exc)
                    self._host.log("debug", "link_heartbeat_failed", error=describe(exc))
            await self._wait_for_change(every_s * random.uniform(0.8, 1.0))  # noqa: S311 - jitter

    async def _register(self) -> None:
        if self._is_leaving:
            return
        registration = self._host.registration()
        await self._holdings.look()
        # First the streams: who reads the registry may send at once.
        await self._pullers.fit(registration.capabilities)
        await self._registry.put(registration)
        if self.service is not None:
            await self.service.announce(registration)
        self._status.last_contact_at = time.time()

    async def _wait_for_change(self, within_s: float) -> None:
        waits = [
            asyncio.create_task(event.wait()) for event in (self._is_changed, self._host.changed)
        ]
        try:
            await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await jobs.end(waits)
