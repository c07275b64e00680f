"""Brings waiting tasks to agents: pushes them, or hands them out to those that fetch.

Everything here runs in the event loop, and every offer is made here.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from dataclasses import replace
from typing import NamedTuple

from kagent_sdk.orchestrator.basis import Basis
from kagent_sdk.orchestrator.book import Book
from kagent_sdk.orchestrator.courier import Courier, Outcome, Verdict
from kagent_sdk.orchestrator.failures import cannot_deliver
from kagent_sdk.orchestrator.leases import Leases, Spawn
from kagent_sdk.orchestrator.registry import Instance, Registry
from kagent_sdk.orchestrator.routing import choose, fitting
from kagent_sdk.orchestrator.task import Ending, OpenTask, Phase
from kagent_sdk.protocol.link import Offer
from kagent_sdk.protocol.tasks import TaskState

PUSH_PAUSES_S = (0.2, 1.0, 0.0)
"""Behind each try of one offer, as long as it is not clear whether the agent has it."""

MIN_BACKOFF_S = 0.25
MAX_BACKOFF_S = 10.0


class Fetched(NamedTuple):
    """What an agent that fetches is given; to be sent when ``saved`` is done."""

    task: OpenTask
    offer: Offer
    saved: asyncio.Future[None]


class Dispatcher:
    """Matches tasks and agents.

    Args:
        book: the tasks.
        registry: the agents.
        leases: of both.
        courier: speaks to those that take pushed tasks.
        spawn: runs a delivery.
        basis: clock, bounds and counters.
    """

    def __init__(
        self,
        book: Book,
        registry: Registry,
        leases: Leases,
        courier: Courier,
        *,
        spawn: Spawn,
        basis: Basis,
    ) -> None:
        self._book = book
        self._registry = registry
        self._leases = leases
        self._courier = courier
        self._spawn = spawn
        self._clock = basis.clock
        self._counters = basis.counters
        self._fetchers: dict[str, deque[asyncio.Future[Fetched | None]]] = {}
        self._is_due = False
        self._is_stopped = False
        leases.listener = self.wake

    def stop(self) -> None:
        """Make no more offers."""
        self._is_stopped = True
        for instance_id in list(self._fetchers):
            self.dismiss(instance_id)

    def dismiss(self, instance_id: str) -> None:
        """Send an agent that fetches away with nothing."""
        for waiter in self._fetchers.pop(instance_id, ()):
            if not waiter.done():
                waiter.set_result(None)

    def wake(self) -> None:
        """Make offers soon: something has changed."""
        if not self._is_due:
            self._is_due = True
            self._clock.later(0.0, self.dispatch)

    def dispatch(self) -> None:
        """Offer waiting tasks, one of each target in turns, until no agent has room."""
        self._is_due = False
        queues = self._leases.queues
        is_moving = not self._is_stopped and any(
            one.is_ready and one.room > 0 for one in self._registry
        )
        while is_moving:
            is_moving = False
            for target in queues.turn():
                head = queues.head(target)
                if head is None:
                    continue
                now_s = self._clock.now_s()
                instance = choose(fitting(self._registry, target), now_s, avoid=head.avoid)
                if instance is not None:
                    self._offer(queues.take(target), instance)
                    is_moving = True

    # Offers

    def _offer(self, task: OpenTask, instance: Instance) -> None:
        record = task.record
        manifest = instance.capabilities[record.target.capability]
        task.disarm("route")
        self._counters.retries += record.attempt > 0
        record.attempt += 1
        record.lease = secrets.token_urlsafe(16)
        record.agent, record.instance = instance.agent, instance.id
        record.is_idempotent, record.max_attempts = manifest.idempotent, manifest.max_attempts
        task.phase, task.missed, task.last_agent_event = Phase.OFFERED, 0, 0
        task.may_be_taken, task.is_delivering = False, True
        instance.leases[record.lease] = task.id
        offer = self._write_offer(task)
        saved = self._book.note_offer(task)
        if instance.is_pushed:
            self._spawn(self._push(task, instance, offer, saved))
        else:
            instance.fetches -= 1
            self._fetchers[instance.id].popleft().set_result(Fetched(task, offer, saved))

    def _write_offer(self, task: OpenTask) -> Offer:
        record = task.record
        assert record.lease is not None
        timeout_s = None
        if record.timeout_s is not None:
            timeout_s = max(0.001, record.deadline_at - self._clock.wall_s())
        return Offer(
            record.id,
            record.lease,
            record.target.capability,
            record.input,
            timeout_s,
            record.metadata,
            record.traceparent,
            record.attempt,
            record.hops,
        )

    async def _push(
        self, task: OpenTask, instance: Instance, offer: Offer, saved: asyncio.Future[None]
    ) -> None:
        try:
            await saved
        except Exception:  # noqa: BLE001 - it was not written, and so it is not made
            if task.is_current(offer.lease):
                self._leases.lose(task, may_be_taken=False)
            return
        try:
            outcome, may_be_taken = await self._try_to_push(task, instance, offer)
        finally:
            if task.is_current(offer.lease):
                task.is_delivering = False
        if outcome is not None:
            self._note_manners(instance, outcome)
            if task.is_current(offer.lease):
                self._note_outcome(task, instance, outcome, may_be_taken=may_be_taken)

    async def _try_to_push(
        self, task: OpenTask, instance: Instance, offer: Offer
    ) -> tuple[Outcome | None, bool]:
        """Offer a task until it is clear what came of it; the same id and lease are the same offer.

        Returns:
            The last outcome, and whether the agent may have the task in spite of it, from a try before.
        """
        may_be_taken = False
        outcome: Outcome | None = None
        for pause_s in PUSH_PAUSES_S:
            if not task.is_current(offer.lease):
                break
            task.may_be_taken = True
            outcome = await self._courier.deliver(instance, self._mark(task, instance, offer))
            self._counters.offers[outcome.verdict.name.lower()] += 1
            if outcome.verdict is not Verdict.UNCLEAR:
                break
            may_be_taken = True
            await asyncio.sleep(pause_s)
        return outcome, may_be_taken

    def _mark(self, task: OpenTask, instance: Instance, offer: Offer) -> Offer:
        """Let an offer say how old it is; it goes out at this moment."""
        # It may have registered anew meanwhile, under the same id.
        present = self._registry.find(instance.id) or instance
        task.offered_beat = present.beat
        return replace(offer, beat=present.beat)

    def _note_outcome(
        self, task: OpenTask, instance: Instance, outcome: Outcome, *, may_be_taken: bool
    ) -> None:
        if outcome.verdict is Verdict.TAKEN:
            self._leases.acknowledge(task)
        elif outcome.verdict is Verdict.REFUSED:
            failure = outcome.failure or cannot_deliver()
            self._leases.end(task, Ending(TaskState.FAILED, failure=failure))
        elif task.phase is Phase.HELD or outcome.verdict is Verdict.UNCLEAR:
            return  # the heartbeats tell whether the agent has it
        elif outcome.verdict is Verdict.UNREACHABLE or not may_be_taken:
            task.avoid = instance.id
            self._leases.lose(task, may_be_taken=may_be_taken)

    def _note_manners(self, instance: Instance, outcome: Outcome) -> None:
        if outcome.verdict in {Verdict.TAKEN, Verdict.REFUSED}:
            instance.failures = 0
            return
        instance.failures += 1
        pause_s = outcome.retry_after_s
        if pause_s is None:
            pause_s = min(MAX_BACKOFF_S, MIN_BACKOFF_S * 2 ** min(instance.failures - 1, 8))
        instance.not_before_s = self._clock.now_s() + pause_s
        self._clock.later(pause_s + 0.001, self.wake)

    # Fetches

    async def fetch(self, instance: Instance, wait_s: float) -> Offer | None:
        """Return an offer for an agent that asks for one; None when there is none in that time.

        Cancelled, it has given none.

        Raises:
            StorageError: the offer cannot be written down.
        """
        waiter: asyncio.Future[Fetched | None] = asyncio.get_running_loop().create_future()
        self._fetchers.setdefault(instance.id, deque()).append(waiter)
        instance.fetches += 1
        self.dispatch()
        try:
            await _wait_for(waiter, wait_s)
            fetched = waiter.result() if waiter.done() else None
            if fetched is not None:
                await asyncio.shield(fetched.saved)
        except BaseException:
            self._give_back(waiter)
            raise
        finally:
            self._forget_fetch(instance.id, waiter)
        if fetched is None or not fetched.task.is_current(fetched.offer.lease):
            return None
        fetched.task.may_be_taken, fetched.task.is_delivering = True, False
        self._counters.offers["fetched"] += 1
        return self._mark(fetched.task, instance, fetched.offer)

    def _forget_fetch(self, instance_id: str, waiter: asyncio.Future[Fetched | None]) -> None:
        if not waiter.done():
            waiter.set_result(None)
        waiters = self._fetchers.get(instance_id)
        if waiters is not None and waiter in waiters:
            waiters.remove(waiter)
            instance = self._registry.find(instance_id)
            if instance is not None:
                instance.fetches -= 1

    def _give_back(self, waiter: asyncio.Future[Fetched | None]) -> None:
        fetched = waiter.result() if waiter.done() and not waiter.cancelled() else None
        if fetched is not None and fetched.task.is_current(fetched.offer.lease):
            self._leases.lose(fetched.task, may_be_taken=False)


async def _wait_for(waiter: asyncio.Future[Fetched | None], wait_s: float) -> None:
    if not waiter.done():
        await asyncio.wait([waiter], timeout=wait_s)
