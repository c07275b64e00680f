"""What the jobs of a link share: the client, the status, and how they persist."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from kagent_sdk.link import decisions
from kagent_sdk.link.decisions import ContactError, Fault
from kagent_sdk.link.http.client import MAX_ANSWER_BYTES, LinkClient, Request
from kagent_sdk.link.http.messages import Answer, read_code
from kagent_sdk.link.port import LinkHost, LinkStatus
from kagent_sdk.link.settings import LinkSettings

if TYPE_CHECKING:
    from types import ModuleType

    from kagent_sdk.protocol.link import Registered

T = TypeVar("T")

AGENTS_PATH = "/v1/link/agents"
CONTROL_CONNECTIONS = 16
"""Far over what the link's own jobs use at a time."""

NO_FAULTS: frozenset[Fault] = frozenset()


MAX_REASONS = 8
"""Of one time of failing: an orchestrator that invents a reason for each attempt fills no log."""


class Grievance:
    """Logs why something fails: each reason once, and not with every attempt, until it works again.

    Args:
        host: whose log it is.
        event: the record's name.
    """

    def __init__(self, host: LinkHost, event: str) -> None:
        self._host = host
        self._event = event
        self._reasons: set[str] = set()

    def complain(self, reason: str) -> None:
        """Note a failure."""
        if reason not in self._reasons and len(self._reasons) < MAX_REASONS:
            self._reasons.add(reason)
            self._host.log("warning", self._event, reason=reason)

    def settle(self) -> bool:
        """Note that it works, and tell whether it did not before."""
        was_failing = bool(self._reasons)
        self._reasons.clear()
        return was_failing


class CutOff:
    """Ends what waits for an answer that nobody wants any more."""

    def __init__(self) -> None:
        self._scopes: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def scope(self) -> AsyncIterator[None]:
        """Run the block until `cut` is called; then it ends with TimeoutError."""
        async with asyncio.timeout(None) as scope:
            self._scopes.add(scope)
            try:
                yield
            finally:
                self._scopes.discard(scope)

    def cut(self) -> None:
        """End every block that runs now."""
        for scope in self._scopes:
            if not scope.expired():
                scope.reschedule(0)


class LinkSession:
    """One agent's standing with its orchestrator.

    Attributes:
        registered: set while the orchestrator knows this agent, as far as we know.
        stale: set when it says that it does not.
        fetching: set while tasks may be asked for.
        fetches: what is cut off when that ends.
        waits: what is cut off when the link is back: whatever waits for an answer since before then
            may wait in vain.
    """

    def __init__(self, settings: LinkSettings, host: LinkHost) -> None:
        self.settings = settings
        self.host = host
        self.client = LinkClient(settings.url, host.token, settings.tls, CONTROL_CONNECTIONS)
        self.status = LinkStatus(since=time.time())
        self.registered = asyncio.Event()
        self.stale = asyncio.Event()
        self.fetching = asyncio.Event()
        self.fetches = CutOff()
        self.waits = CutOff()
        self.is_draining = False
        self.interval_s = settings.heartbeat_s
        self._instance = ""
        self._stamina: ModuleType | None = None

    def note_registration(self, instance: str, answer: Registered) -> None:
        """Take note that the orchestrator has taken note of the agent."""
        self._instance = instance
        self.stale.clear()
        self.registered.set()
        was_down = self.status.state == "down"
        self.interval_s = decisions.heartbeat_interval_s(self.settings.heartbeat_s, answer)
        decisions.note_registration(
            self.status, time.time(), answer.orchestrator, is_draining=self.is_draining
        )
        self._open_or_shut()
        if was_down:
            self.waits.cut()

    def note_heartbeat(self, answer: Registered) -> None:
        """Take note of an answer to a heartbeat."""
        was_down = self.status.state == "down"
        self.interval_s = decisions.heartbeat_interval_s(self.settings.heartbeat_s, answer)
        decisions.note_contact(self.status, time.time(), is_draining=self.is_draining)
        self._open_or_shut()
        if was_down:
            self.waits.cut()

    def note_failure(self, reason: str) -> None:
        """Take note that a registration or heartbeat has failed."""
        was_up = self.status.state != "down"
        decisions.note_failure(self.status, time.time(), reason)
        if was_up:
            self._open_or_shut()

    @property
    def generation(self) -> int:
        """Which registration is the last one."""
        return self.status.registrations

    def note_unknown(self, generation: int) -> None:
        """Take note that the orchestrator does not know this agent: it must be registered again.

        Args:
            generation: when that was asked; the answer says nothing of a later registration.
        """
        if generation != self.generation:
            return
        self.registered.clear()
        self.stale.set()
        self._open_or_shut()

    def note_drain(self) -> None:
        """Take note that no more tasks are to be asked for."""
        self.is_draining = True
        decisions.note_drain(self.status, time.time())
        self._open_or_shut()

    def _open_or_shut(self) -> None:
        """Fetch while the link is up: an answer that comes over a broken one would be late."""
        if self.registered.is_set() and self.status.state == "up":
            self.fetching.set()
        else:
            self.fetching.clear()
            self.fetches.cut()

    async def ask(
        self,
        what: str,
        body: bytes,
        *,
        timeout_s: float,
        limit_bytes: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        """Post a message about this agent (``what`` is empty to register) and return the answer.

        Raises:
            ContactError: it was not taken.
        """
        path = f"{AGENTS_PATH}/{self._instance}/{what}" if what else AGENTS_PATH
        request = Request("POST", path, body, timeout_s, limit_bytes=limit_bytes)
        return check(await self.client.send(request))

    async def persist(
        self,
        step: Callable[[], Awaitable[T]],
        complain: Callable[[str], None],
        *,
        give_up_on: frozenset[Fault] = NO_FAULTS,
    ) -> T:
        """Do something until it is done, with waits in between; without end.

        Args:
            step: raises `ContactError` when it fails.
            complain: told of every failure.
            give_up_on: faults that are raised instead.

        Raises:
            ContactError: with one of those faults.
        """
        if self._stamina is None:
            self._stamina = await asyncio.to_thread(import_stamina)
        failures = 0

        def judge(error: Exception) -> bool | float:
            nonlocal failures
            if not isinstance(error, ContactError) or error.fault in give_up_on:
                return False
            failures += 1
            complain(error.reason)
            return decisions.retry_wait_s(
                error.fault, failures, self.interval_s, self.settings.random
            )

        async for attempt in self._stamina.retry_context(on=judge, attempts=None, timeout=None):
            with attempt:
                return await step()
        raise AssertionError("tries without end")


def check(answer: Answer) -> Answer:
    """Return an answer if its status says success.

    Raises:
        ContactError: it does not.
    """
    error = decisions.judge_status(answer.status, read_code(answer.headers, answer.body))
    if error is not None:
        raise error
    return answer


def import_stamina() -> ModuleType:
    """Import what waits between attempts; call it in a thread."""
    import stamina  # noqa: PLC0415 - only agents with a link need it
    from stamina import instrumentation  # noqa: PLC0415 - see above

    # Its own hooks would import prometheus_client, and log every attempt; we log each reason once.
    instrumentation.set_on_retry_hooks([])
    return stamina


async def wait_for_any(*events: asyncio.Event, within_s: float) -> None:
    """Return when one of the events is set, or the time is over."""
    jobs = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(jobs, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for job in jobs:
            job.cancel()
