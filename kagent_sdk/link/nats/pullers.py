"""Fetches tasks from the streams of the agent's capabilities, one at a time and only into room."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING

from nats.js.errors import APIError

from kagent_sdk.link.nats import jobs, names, streams
from kagent_sdk.link.nats.connection import FAILURES, describe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

    from kagent_sdk.link.nats.connection import Bus
    from kagent_sdk.link.nats.holdings import Holdings
    from kagent_sdk.link.nats.taker import Taker
    from kagent_sdk.link.port import LinkHost
    from kagent_sdk.protocol.manifest import CapabilityManifest

TAKE_S = 2.0
"""For a task that is being taken when no more are fetched: a journal needs milliseconds."""


class Puller:
    """Fetches the tasks of one capability."""

    def __init__(
        self, bus: Bus, host: LinkHost, taker: Taker, holdings: Holdings, turn: asyncio.Lock
    ) -> None:
        self._bus = bus
        self._host = host
        self._taker = taker
        self._holdings = holdings
        self._turn = turn
        self._fetching: asyncio.Task[list[Msg]] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_over = False

    async def run(self, capability: CapabilityManifest) -> None:
        """Fetch and take tasks until cancelled; whatever fails is tried again."""
        failures = 0
        while not self._is_over:
            try:
                await self._pull(capability)
            except FAILURES as exc:
                failures = failures + 1 if self._bus.is_up else 0
                level = "warning" if failures == 3 else "debug"
                self._host.log(
                    level, "link_pull_failed", capability=capability.name, error=describe(exc)
                )
            limits = self._bus.limits
            bound_s = min(limits.max_backoff_s, limits.backoff_s * 2 ** min(failures, 10))
            await asyncio.sleep(bound_s * random.random())  # noqa: S311 - jitter

    async def stop(self) -> None:
        """Fetch no more; a task that was claimed is taken before this returns, if that is quick."""
        self._is_over = True
        with suppress(TimeoutError):
            await jobs.finish(self._idle.wait(), TAKE_S)

    def nudge(self) -> None:
        """Ask anew: the server that was asked may not be there any more."""
        if self._fetching is not None:
            self._fetching.cancel()

    async def _pull(self, capability: CapabilityManifest) -> None:
        agent = self._host.registration().agent
        stream, ack_wait_s = await streams.open_queue(
            self._bus.js, agent, capability.name, self._bus.limits
        )
        self._holdings.ack_wait_s = min(ack_wait_s, self._holdings.ack_wait_s)
        subscription = await self._bus.js.pull_subscribe_bind(names.CONSUMER, stream)
        try:
            while not self._is_over:
                await self._host.wait_for_room()
                message = await self._fetch(subscription)
                if message is not None:
                    await self._take(message, capability)
        finally:
            if self._bus.is_up:
                await subscription.unsubscribe()

    async def _take(self, message: Msg, capability: CapabilityManifest) -> None:
        # One after the other, so that what comes at once does not find one place.
        async with self._turn:
            self._idle.clear()
            try:
                await self._taker.take(message, capability)
            finally:
                self._idle.set()

    async def _fetch(self, subscription: JetStreamContext.PullSubscription) -> Msg | None:
        fetching = asyncio.create_task(subscription.fetch(1, timeout=self._bus.limits.pull_s))
        self._fetching = fetching
        try:
            await asyncio.wait({fetching})
        finally:
            self._fetching = None
            await jobs.end({fetching})
        if fetching.cancelled():
            return None
        try:
            return fetching.result()[0]
        except TimeoutError:
            return None
        except APIError as exc:
            if exc.code == 409:  # too many wait already, or leadership has changed
                return None
            raise


class Pullers:
    """One `Puller` for each capability."""

    def __init__(self, bus: Bus, host: LinkHost, taker: Taker, holdings: Holdings) -> None:
        self._bus = bus
        self._host = host
        self._taker = taker
        self._holdings = holdings
        self._turn = asyncio.Lock()
        self._jobs: dict[str, tuple[CapabilityManifest, Puller, asyncio.Task[None]]] = {}
        self._is_over = False

    async def fit(self, capabilities: Iterable[CapabilityManifest]) -> None:
        """Fetch the tasks of these capabilities, and of no others; their streams are there then."""
        wanted = {} if self._is_over else {one.name: one for one in capabilities}
        for name, (capability, puller, job) in list(self._jobs.items()):
            if wanted.get(name) == capability:
                del wanted[name]
            else:
                del self._jobs[name]
                await puller.stop()
                await jobs.end({job})
        for name, capability in wanted.items():
            await self._prepare(name)
            if self._is_over:
                return
            puller = Puller(self._bus, self._host, self._taker, self._holdings, self._turn)
            job = asyncio.create_task(puller.run(capability), name=f"pull {name}")
            self._jobs[name] = (capability, puller, job)

    async def _prepare(self, capability: str) -> None:
        agent = self._host.registration().agent
        try:
            await streams.open_queue(self._bus.js, agent, capability, self._bus.limits)
        except FAILURES as exc:  # the puller tries it again and again
            error = describe(exc)
            self._host.log("warning", "link_stream_failed", capability=capability, error=error)

    def nudge(self) -> None:
        """Ask for tasks anew."""
        for _, puller, _ in self._jobs.values():
            puller.nudge()

    async def stop(self) -> None:
        """Take no more tasks."""
        self._is_over = True
        await self.fit(())
