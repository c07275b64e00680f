"""What a link needs of its host, and what the host gets from a link.

Everything here is called in the host's event loop, and nothing blocks it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from kagent_sdk.protocol.link import Heartbeat, Held, Offer, Registration
from kagent_sdk.protocol.tasks import TaskFailure

LinkState = Literal["connecting", "up", "down", "draining", "gone"]
"""``connecting``: never up so far. ``down``: was up, or has failed; it is tried again for ever."""

Log = Callable[..., None]
"""``log(level, event, **keys)``, as `kagent_sdk.host.logs.pump.LogPump.log`."""


@dataclass(frozen=True, slots=True)
class Report:
    """One message for the orchestrator, from the journaled outbox. ``payload`` is raw JSON.

    See `kagent_sdk.protocol.link.ReportItem` for what the payload holds.
    """

    id: str
    task: str
    lease: str
    kind: Literal["result", "event"]
    payload: bytes


class ReportBox(Protocol):
    """The outbox of the link, in the order in which things happened."""

    @property
    def added(self) -> asyncio.Event:
        """Set when there is something to send; cleared by the link before it looks."""
        ...

    async def first(self, limit: int, limit_bytes: int) -> list[Report]:
        """Return the oldest reports; one at least, if there is any, however large.

        Raises:
            StorageError: the journal cannot be read at present.
        """
        ...

    async def settle(self, ids: Collection[str]) -> None:
        """Let go of reports that the orchestrator has answered.

        Raises:
            StorageError: the journal does not take it; they will come again, which does no harm.
        """
        ...


class OfferRefusedError(Exception):
    """An offer is not taken now.

    Attributes:
        failure: why; not ``retryable`` when this agent will never take it.
        retry_after_s: when it may be offered to this agent again.
    """

    def __init__(self, failure: TaskFailure, retry_after_s: float = 1.0) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.retry_after_s = retry_after_s


class LinkHost(Protocol):
    """What an agent's host offers to its link."""

    @property
    def changed(self) -> asyncio.Event:
        """Set when `registration` is another one than before; cleared by the link."""
        ...

    @property
    def reports(self) -> ReportBox:
        """What has to be told."""
        ...

    def registration(self) -> Registration:
        """Return who the agent is and what it can do now; the worker has said hello."""
        ...

    def heartbeat(self) -> Heartbeat:
        """Return how the agent is, and which tasks of the link it holds."""
        ...

    def token(self) -> str | None:
        """Return the bearer token to show, as the vault has it now; None for none."""
        ...

    async def wait_for_room(self) -> None:
        """Return when the agent takes tasks and has a free place for one more."""
        ...

    async def take(self, offer: Offer) -> None:
        """Take a task; it is journaled when this returns. One that the agent has gets the new lease.

        Raises:
            OfferRefusedError: it is not taken.
        """
        ...

    def cancel(self, held: Held) -> None:
        """Cancel a task whose caller wants no more of it; its end is reported."""
        ...

    def lose(self, held: Held) -> None:
        """Stop working on a task whose lease is no more; nothing more of it is reported."""
        ...

    def confirm(self, held: Collection[Held], *, in_force: bool = True) -> None:
        """Take note whether leases that were named to the orchestrator are in force.

        A task that must not run twice, and that a host before this one has left, starts only then.
        """
        ...

    def log(self, level: str, event: str, **keys: object) -> None:
        """Write a record to the agent's log."""
        ...


@dataclass(slots=True)
class LinkStatus:
    """What a link says of itself; the host shows it in ``/status``. Times: seconds since the epoch.

    Attributes:
        orchestrator: which one has taken note of the agent.
        last_error: why the last attempt failed; no token, no path.
        registrations: how often the agent was registered.
        reported, refused: reports that were taken, and that were refused.
    """

    state: LinkState = "connecting"
    since: float = 0.0
    orchestrator: str | None = None
    last_contact_at: float | None = None
    last_error: str | None = None
    registrations: int = 0
    reported: int = 0
    refused: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class OutgoingCall:
    """A task that this agent sends to another one. ``input`` is raw JSON.

    Attributes:
        task: its id: the same when it is sent again.
        agent: by name; None for any agent that offers the capability.
        labels: all of them must be the agent's.
        timeout_s: what is left of the time; None for the capability's own.
        hops: of the call itself: one more than those of the task that sends it.
        is_streamed: items are wanted as they come.
    """

    task: str
    agent: str | None
    capability: str
    input: bytes
    labels: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float | None = None
    traceparent: str = ""
    hops: int = 0
    is_streamed: bool = False


class CallFailedError(Exception):
    """A call to another agent has failed, or cannot be made; carries what its caller is told."""

    def __init__(self, failure: TaskFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Link(Protocol):
    """A link, by whatever protocol."""

    @property
    def status(self) -> LinkStatus:
        """What the host shows of it."""
        ...

    async def run(self) -> None:
        """Register, stay registered, take tasks and report, until cancelled; never fails."""
        ...

    async def drain(self) -> None:
        """Say that no more tasks are taken; go on reporting. Returns soon, heard or not."""
        ...

    async def close(self, within_s: float) -> None:
        """Report what is left, say goodbye and let go of connections, in so long at the most."""
        ...

    async def call(
        self, call: OutgoingCall, on_item: Callable[[bytes], Awaitable[None]] | None = None
    ) -> bytes:
        """Send a task to another agent and return its output as raw JSON.

        Cancelling this cancels the task. An orchestrator that goes away meanwhile is waited for, up
        to the call's time.

        Args:
            call: what to send.
            on_item: told of every streamed item, as raw JSON, in order.

        Raises:
            CallFailedError: it has failed.
        """
        ...
