"""What the link asks of its host, and tells it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine

from kagent_sdk.errors import StorageError
from kagent_sdk.host.admission import Refusal, retry_after_s
from kagent_sdk.host.engine import IdConflictError, RefusedError, UnknownCapabilityError
from kagent_sdk.host.link_intake import LinkIntake
from kagent_sdk.host.link_reports import LinkReports
from kagent_sdk.host.link_view import LinkView, Presence
from kagent_sdk.host.logs.pump import LogPump
from kagent_sdk.host.task import Submission
from kagent_sdk.host.task_failures import journal_failure
from kagent_sdk.link.port import OfferRefusedError, ReportBox
from kagent_sdk.protocol.headers import parse_traceparent
from kagent_sdk.protocol.link import MAX_HELD, MAX_HOPS, Heartbeat, Held, Offer, Registration
from kagent_sdk.protocol.problem import ProblemCode
from kagent_sdk.protocol.tasks import ErrorCode, TaskFailure

STORAGE_RETRY_S = 5.0


class LinkDesk:
    """Implements `kagent_sdk.link.port.LinkHost`.

    Args:
        view: looks at the host.
        presence: this start of it.
        intake: takes tasks.
        box: what has to be told.
        find_token: the token for the orchestrator, as the vault has it.
        pump: the log.
    """

    def __init__(
        self,
        view: LinkView,
        presence: Presence,
        *,
        intake: LinkIntake,
        box: LinkReports,
        find_token: Callable[[], str | None],
        pump: LogPump,
    ) -> None:
        self._view = view
        self._presence = presence
        self._intake = intake
        self._box = box
        self._find_token = find_token
        self._pump = pump
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._known = view.changing(), find_token()
        self._jobs: set[asyncio.Task[None]] = set()

    @property
    def changed(self) -> asyncio.Event:
        """Set when `registration` is another one than before, or the token is."""
        return self._changed

    @property
    def reports(self) -> ReportBox:
        """What has to be told."""
        return self._box

    def registration(self) -> Registration:
        """Return who the agent is and what it can do now."""
        return self._view.registration(self._presence, self._held(), self._intake.next_beat())

    def heartbeat(self) -> Heartbeat:
        """Return how the agent is, and which tasks of the link it holds."""
        beat = self._intake.next_beat()
        return Heartbeat(status=self._view.status(), tasks=self._held(), beat=beat)

    def _held(self) -> tuple[Held, ...]:
        held = {record.id: record.lease for record in self._intake.open_tasks()}
        # A task is open until its end is shown, and its result is in the outbox before that.
        held |= {result.task: result.lease for result in self._box.results()}
        found = [Held(task=task, lease=lease) for task, lease in held.items() if lease]
        return tuple(found[:MAX_HELD])

    def token(self) -> str | None:
        """Return the bearer token to show."""
        return self._find_token()

    def note_change(self) -> None:
        """Look at what may have changed in the host; called often."""
        self._intake.is_full = self._box.is_full
        self._room.set()
        present = self._view.changing(), self._find_token()
        if present != self._known:
            self._known = present
            self._changed.set()

    async def wait_for_room(self) -> None:
        """Return when the agent takes tasks and has a free place for one more."""
        dispatcher = self._view.engine.dispatcher
        while not self._has_room():
            self._room.clear()
            dispatcher.on_settle = self._room.set
            await self._room.wait()

    def _has_room(self) -> bool:
        engine = self._view.engine
        if engine.gate is not None or self._box.is_full or len(engine.dispatcher.queue):
            return False
        return any(connection.has_place for connection in engine.dispatcher.connections)

    async def take(self, offer: Offer) -> None:
        """Take a task; it is journaled when this returns.

        Raises:
            OfferRefusedError: it is not taken.
        """
        if offer.hops > MAX_HOPS:
            failure = TaskFailure("too_many_hops", f"passed on over {MAX_HOPS} times: a circle")
            raise OfferRefusedError(failure)
        try:
            await self._intake.admit(_submission(offer))
        except RefusedError as refused:
            raise self._refusal(refused.refusal) from None
        except UnknownCapabilityError:
            message = f"this agent has no capability {offer.capability}"
            raise OfferRefusedError(TaskFailure(ErrorCode.UNKNOWN_CAPABILITY, message)) from None
        except IdConflictError:
            message = f"id {offer.task} belongs to a task with another capability or input"
            raise OfferRefusedError(TaskFailure(ProblemCode.ID_CONFLICT, message)) from None
        except StorageError:
            raise OfferRefusedError(journal_failure(), STORAGE_RETRY_S) from None

    def _refusal(self, refusal: Refusal) -> OfferRefusedError:
        engine = self._view.engine
        wait_s = retry_after_s(
            refusal, queued=len(engine.dispatcher.queue), finished_per_s=engine.finished_per_s
        )
        failure = TaskFailure(refusal.value, f"not taken now: {refusal}", retryable=True)
        return OfferRefusedError(failure, wait_s)

    def cancel(self, held: Held) -> None:
        """Cancel a task whose caller wants no more of it; its end is reported."""
        self._intake.cancel(held.task, held.lease)

    def lose(self, held: Held) -> None:
        """Stop working on a task whose lease is no more; nothing more of it is reported."""
        self._intake.lose(held.task, held.lease)
        self._own(self._forget(held))

    def confirm(self, held: Collection[Held], *, in_force: bool = True) -> None:
        """Note of leases that were named to the orchestrator whether they are in force."""
        self._intake.confirm({(one.task, one.lease) for one in held}, in_force=in_force)

    async def _forget(self, held: Held) -> None:
        try:
            await self._box.forget(held.task, held.lease)
        except StorageError as exc:
            # They are told once more, and refused.
            self._pump.log("warning", "reports_not_forgotten", task_id=held.task, error=str(exc))

    def _own(self, work: Coroutine[None, None, None]) -> None:
        job = asyncio.get_running_loop().create_task(work)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    def log(self, level: str, event: str, **keys: object) -> None:
        """Write a record to the agent's log."""
        self._pump.log(level, event, **keys)

    async def aclose(self) -> None:
        """See through what is under way; call it while the database is open."""
        self._view.engine.dispatcher.on_settle = None
        if self._jobs:
            await asyncio.wait(self._jobs)


def _submission(offer: Offer) -> Submission:
    trace = parse_traceparent(offer.traceparent)
    return Submission(
        offer.task,
        offer.capability,
        offer.input,
        timeout_s=offer.timeout_s,
        metadata=offer.metadata,
        traceparent="" if trace is None else trace.traceparent,
        trace_id=None if trace is None else trace.trace_id,
        kept=True,
        lease=offer.lease,
        hops=offer.hops,
        beat=offer.beat,
    )
