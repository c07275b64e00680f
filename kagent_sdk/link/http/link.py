"""The link over HTTP: its jobs, from the first registration to the last report."""

from __future__ import annotations

import asyncio
import contextlib
import time
import traceback
from collections.abc import Awaitable, Callable

from kagent_sdk.link import decisions
from kagent_sdk.link.http.caller import Caller, OnItem
from kagent_sdk.link.http.fetcher import Fetcher
from kagent_sdk.link.http.keeper import GOODBYE_S, Keeper
from kagent_sdk.link.http.reporter import Reporter
from kagent_sdk.link.http.session import Grievance, LinkSession
from kagent_sdk.link.port import LinkHost, LinkStatus, OutgoingCall
from kagent_sdk.link.settings import LinkSettings

FLUSH_SHARE = 0.75
"""Of the time to close, for reports; the rest is for saying goodbye."""


class HttpLink:
    """`kagent_sdk.link.port.Link` over HTTP.

    Args:
        settings: where the orchestrator is.
        host: whose link it is.
    """

    def __init__(self, settings: LinkSettings, host: LinkHost) -> None:
        self._host = host
        self._session = LinkSession(settings, host)
        self._keeper = Keeper(self._session)
        self._reporter = Reporter(self._session)
        self._caller = Caller(self._session)
        self._is_pulling = settings.delivery == "pull"
        self._closing = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()

    @property
    def status(self) -> LinkStatus:
        """What the host shows of it."""
        return self._session.status

    async def run(self) -> None:
        """Register, stay registered, take tasks and report, until cancelled or closed."""
        if self._closing.is_set():
            return
        self._ended.clear()
        try:
            async with asyncio.TaskGroup() as group:
                jobs = [group.create_task(self._keep_up(job)) for job in self._jobs()]
                await self._closing.wait()
                for job in jobs:
                    job.cancel()
        finally:
            self._ended.set()

    def _jobs(self) -> list[Callable[[], Awaitable[None]]]:
        jobs: list[Callable[[], Awaitable[None]]] = [self._keeper.run, self._reporter.run]
        if self._is_pulling:
            grievance = Grievance(self._host, "link_no_tasks_fetched")
            count = decisions.fetcher_count(self._host.registration().limits)
            jobs += [Fetcher(self._session, grievance).run for _ in range(count)]
        return jobs

    async def _keep_up(self, job: Callable[[], Awaitable[None]]) -> None:
        """Run a job, again if it fails: whatever the fault is, the agent must not be cut off."""
        while True:
            try:
                await job()
            except Exception as exc:  # noqa: BLE001 - see above
                text = "".join(traceback.format_exception(exc))
                self._host.log("error", "link_job_failed", error=repr(exc), exception=text)
            await asyncio.sleep(self._session.interval_s)

    async def drain(self) -> None:
        """Say that no more tasks are taken; go on reporting. Returns soon, heard or not."""
        self._session.note_drain()
        if self._session.registered.is_set():
            await self._keeper.say("draining", GOODBYE_S)

    async def close(self, within_s: float) -> None:
        """Report what is left, say goodbye and let go of connections, in so long at the most."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + within_s
        self._session.note_drain()
        self._closing.set()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(loop.time() + within_s * FLUSH_SHARE):
                    await self._ended.wait()
                    await self._flush()
            left_s = min(GOODBYE_S, until_s - loop.time())
            if self._session.registered.is_set() and left_s > 0:
                await self._keeper.say("stopped", left_s)
        finally:
            decisions.note_end(self._session.status, time.time())
            await self._caller.aclose()
            await self._session.client.aclose()

    async def _flush(self) -> None:
        while not await self._reporter.is_empty():
            if not self._session.registered.is_set():
                await self._keeper.register()
            await self._reporter.send_some()

    async def call(self, call: OutgoingCall, on_item: OnItem | None = None) -> bytes:
        """Send a task to another agent; see `kagent_sdk.link.port.Link.call`."""
        return await self._caller.call(call, on_item)
