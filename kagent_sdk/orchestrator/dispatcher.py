"""Brings waiting tasks to agents, and decides what becomes of those whose agents are lost.

Everything here runs in the event loop, and every change of a task's lease is made here.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from kagent_sdk.orchestrator.basis import Basis
from kagent_sdk.orchestrator.book import Book
from kagent_sdk.orchestrator.courier import Courier, Outcome, Verdict
from kagent_sdk.orchestrator.failures import (
    agent_lost,
    canceled,
    cannot_deliver,
    no_agent,
    timed_out,
)
from kagent_sdk.orchestrator.queues import Queues
from kagent_sdk.orchestrator.registry import Instance, Registry
from kagent_sdk.orchestrator.routing import Loss, choose, fitting, judge_drop, judge_loss
from kagent_sdk.orchestrator.task import Ending, OpenTask, Phase
from kagent_sdk.protocol.link import Held, Offer
from kagent_sdk.protocol.tasks import TaskState

MISSED_HEARTBEATS = 2
"""So many heartbeats in a row do not name a task, and the agent does not have it: the first may have
been on its way when the offer came."""

DEADLINE_GRACE_S = 2.0
"""An agent keeps the deadline too, and knows better what it has done until then."""

PUSH_PAUSES_S = (0.2, 1.0, 0.0)
"""Behind each try of one offer, as long as it is not clear whether the agent has it."""

MIN_BACKOFF_S = 0.5
MAX_BACKOFF_S = 10.0


class Fetched(NamedTuple):
    """What an agent that fetches is given; to be sent when ``saved`` is done."""

    task: OpenTask
    offer: Offer
    saved: asyncio.Future[None]


Spawn = Callable[[Coroutine[Any, Any, None]], None]
"""Runs a coroutine as a job that somebody owns."""


class Dispatcher:
    """Matches tasks and agents.

    Args:
        book: the tasks.
        registry: the agents.
        courier: speaks to those that take pushed tasks.
        spawn: runs a delivery.
        basis: clock, bounds and counters.
    """

    def __init__(
        self,
        book: Book,
        registry: Registry,
        courier: Courier,
        *,
        spawn: Spawn,
        basis: Basis,
    ) -> None:
        self._book = book
        self._registry = registry
        self._courier = courier
        self._spawn = spawn
        self._clock = basis.clock
        self._limits = basis.limits
        self._counters = basis.counters
        self._fetchers: dict[str, deque[asyncio.Future[Fetched | None]]] = {}
        self._is_due = False
        self.queues = Queues()
        self.is_stopped = False

    # Tasks that wait

    def enqueue(self, task: OpenTask, *, is_first: bool = False) -> None:
        """Let a task wait for an agent; offers are made soon."""
        task.phase = Phase.QUEUED
        self.queues.add(task, is_first=is_first)
        self._arm(task, "route", self._limits.route_timeout_s, self._check_route)
        self.wake()

    def watch_deadline(self, task: OpenTask) -> None:
        """End a task when its time is over."""
        left_s = task.record.deadline_at - self._clock.wall_s()
        self._arm(task, "deadline", max(0.0, left_s), self._note_deadline)

    def wake(self) -> None:
        """Make offers soon: something has changed."""
        if not self._is_due:
            self._is_due = True
            self._clock.later(0.0, self.dispatch)

    def dispatch(self) -> None:
        """Offer waiting tasks, one of each target in turns, until no agent has room."""
        self._is_due = False
        is_moving = not self.is_stopped
        while is_moving:
            is_moving = False
            for target in self.queues.turn():
                head = self.queues.head(target)
                if head is None:
                    continue
                now_s = self._clock.now_s()
                instance = choose(fitting(self._registry, target), now_s, avoid=head.avoid)
                if instance is not None:
                    self._offer(self.queues.take(target), instance)
                    is_moving = True

    def _check_route(self, task: OpenTask) -> None:
        if task.phase is not Phase.QUEUED:
            return
        if any(True for _ in fitting(self._registry, task.record.target)):
            self._arm(task, "route", self._limits.route_timeout_s, self._check_route)
        else:
            failure = no_agent(task.record.target, self._limits.route_timeout_s)
            self.end(task, Ending(TaskState.FAILED, failure=failure))

    def _note_deadline(self, task: OpenTask) -> None:
        if task.phase in {Phase.OFFERED, Phase.HELD}:
            self._arm(task, "deadline", DEADLINE_GRACE_S, self._end_late)
        else:
            self._end_late(task)

    def _end_late(self, task: OpenTask) -> None:
        if task.phase is not Phase.ENDING:
            self._tell_canceled(task)
            failure = timed_out(task.record.timeout_s or self._limits.max_task_s)
            self.end(task, Ending(TaskState.FAILED, failure=failure))

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
        task.may_be_taken = False
        instance.leases[record.lease] = task.id
        offer = self._write_offer(task)
        saved = self._book.note_offer(task)
        if instance.is_pushed:
            task.is_pushing = True
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
            if self._is_current(task, offer.lease):
                self.lose(task, may_be_taken=False)
            return
        outcome, may_be_taken = await self._try_to_push(task, instance, offer)
        if outcome is not None:
            self._note_manners(instance, outcome)
            if self._is_current(task, offer.lease):
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
            if not self._is_current(task, offer.lease):
                break
            task.may_be_taken = True
            outcome = await self._courier.deliver(instance, offer)
            self._counters.offers[outcome.verdict.name.lower()] += 1
            if outcome.verdict is not Verdict.UNCLEAR:
                break
            may_be_taken = True
            await asyncio.sleep(pause_s)
        return outcome, may_be_taken

    def _is_current(self, task: OpenTask, lease: str) -> bool:
        return task.phase is not Phase.ENDING and task.record.lease == lease

    def _note_outcome(
        self, task: OpenTask, instance: Instance, outcome: Outcome, *, may_be_taken: bool
    ) -> None:
        task.is_pushing = False
        if outcome.verdict is Verdict.TAKEN:
            self.acknowledge(task)
        elif outcome.verdict is Verdict.REFUSED:
            failure = outcome.failure or cannot_deliver()
            self.end(task, Ending(TaskState.FAILED, failure=failure))
        elif task.phase is Phase.HELD or outcome.verdict is Verdict.UNCLEAR:
            return  # the heartbeats tell whether the agent has it
        elif outcome.verdict is Verdict.UNREACHABLE or not may_be_taken:
            task.avoid = instance.id
            self.lose(task, may_be_taken=may_be_taken)

    def _note_manners(self, instance: Instance, outcome: Outcome) -> None:
        if outcome.verdict in {Verdict.TAKEN, Verdict.REFUSED}:
            instance.failures = 0
            return
        instance.failures += 1
        pause_s = outcome.retry_after_s
        if pause_s is None:
            pause_s = min(MAX_BACKOFF_S, MIN_BACKOFF_S * 2 ** min(instance.failures, 8))
        instance.not_before_s = self._clock.now_s() + pause_s
        self._clock.later(pause_s + 0.001, self.wake)

    def acknowledge(self, task: OpenTask) -> None:
        """Note that an agent has a task."""
        task.missed = 0
        task.may_be_taken = True
        task.disarm("return")
        if task.phase is not Phase.HELD:
            task.phase = Phase.HELD
            record = task.record
            if record.state is not TaskState.WORKING:
                record.state = TaskState.WORKING
                record.started_at = record.started_at or self._clock.wall_s()
                self._book.note_start(task)
            task.wake()
            if record.is_canceling:
                self._tell_canceled(task)

    # Fetches

    async def fetch(self, instance: Instance, wait_s: float) -> Fetched | None:
        """Return a task for an agent that asks for one; None when there is none in that time.

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
        if fetched is not None:
            fetched.task.may_be_taken = True
            self._counters.offers["fetched"] += 1
        return fetched

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
        if fetched is not None and self._is_current(fetched.task, fetched.offer.lease):
            self.lose(fetched.task, may_be_taken=False)

    # Leases

    def claim(self, instance: Instance, held: tuple[Held, ...]) -> list[Held]:
        """Keep the leases that an agent names; return those that are no more."""
        lost: list[Held] = []
        named: set[str] = set()
        for item in held:
            task = self._book.open.get(item.task)
            if task is None or not self._is_current(task, item.lease):
                lost.append(item)
                continue
            named.add(item.lease)
            if item.lease not in instance.leases:
                self._release(task)
                instance.leases[item.lease] = task.id
                task.record.agent, task.record.instance = instance.agent, instance.id
            self.acknowledge(task)
        for lease, task_id in list(instance.leases.items()):
            if lease not in named:
                self._note_unnamed(instance, lease, task_id)
        self.wake()
        return lost

    def _note_unnamed(self, instance: Instance, lease: str, task_id: str) -> None:
        task = self._book.open.get(task_id)
        if task is None or task.record.lease != lease:
            instance.leases.pop(lease, None)
            return
        if task.phase is Phase.ENDING or task.is_pushing:
            return
        task.missed += 1
        if task.missed >= MISSED_HEARTBEATS:
            self._settle_loss(
                task,
                judge_drop(
                    is_canceling=task.record.is_canceling,
                    is_held=task.phase is Phase.HELD,
                    is_idempotent=task.record.is_idempotent,
                    attempt=task.record.attempt,
                    max_attempts=task.record.max_attempts,
                ),
            )

    def canceling(self, instance: Instance) -> list[Held]:
        """Return the tasks of an agent whose callers want no more of them."""
        tasks = [(lease, self._book.open.get(task)) for lease, task in instance.leases.items()]
        return [
            Held(task=task.id, lease=lease)
            for lease, task in tasks
            if task is not None and task.record.is_canceling
        ]

    def lose_all(self, instance: Instance) -> None:
        """Note that an agent is gone."""
        for waiter in self._fetchers.pop(instance.id, ()):
            if not waiter.done():
                waiter.set_result(None)
        for task_id in list(instance.leases.values()):
            task = self._book.open.get(task_id)
            if task is not None and task.phase is not Phase.ENDING:
                task.avoid = instance.id
                self.lose(task, may_be_taken=task.may_be_taken)

    def lose(self, task: OpenTask, *, may_be_taken: bool) -> None:
        """Note that whoever has, or may have, a task is not to be heard of."""
        record = task.record
        self._settle_loss(
            task,
            judge_loss(
                is_canceling=record.is_canceling,
                may_be_taken=may_be_taken,
                is_idempotent=record.is_idempotent,
                attempt=record.attempt,
                max_attempts=record.max_attempts,
            ),
        )

    def _settle_loss(self, task: OpenTask, loss: Loss) -> None:
        self._counters.losses[loss.name.lower()] += 1
        task.is_pushing = False
        if loss is Loss.AWAIT:
            self._release(task)
            self.await_return(task, self._limits.return_s)
        elif loss is Loss.CANCEL:
            self.end(task, Ending(TaskState.CANCELED, failure=canceled()))
        elif loss is Loss.FAIL:
            self.end(task, Ending(TaskState.FAILED, failure=agent_lost(task.record.attempt)))
        else:
            self._requeue(task, is_counted=loss is Loss.RETRY)

    def _requeue(self, task: OpenTask, *, is_counted: bool) -> None:
        self._release(task)
        record = task.record
        record.lease = record.instance = record.agent = None
        record.state = TaskState.SUBMITTED
        record.attempt -= 0 if is_counted else 1
        task.disarm("return")
        self._book.note_return(task)
        self.enqueue(task, is_first=True)
        task.wake()

    def await_return(self, task: OpenTask, wait_s: float, *, is_restart: bool = False) -> None:
        """Let a task wait for its agent to come back, which names it with its lease.

        Args:
            task: the task.
            wait_s: how long.
            is_restart: it is the orchestrator that was away; afterwards the agent counts as lost.
        """
        task.phase = Phase.AWAY
        task.may_be_taken = True
        due = self._note_absent if is_restart else self._note_never_back
        self._arm(task, "return", wait_s, due)

    def _note_absent(self, task: OpenTask) -> None:
        if task.phase is Phase.AWAY:
            self.lose(task, may_be_taken=True)

    def _note_never_back(self, task: OpenTask) -> None:
        if task.phase is Phase.AWAY:
            self._settle_loss(task, Loss.FAIL)

    # The end

    async def cancel(self, task: OpenTask) -> None:
        """Cancel a task for its caller; it ends when its agent says so, or is lost.

        Raises:
            StorageError: the wish cannot be written down.
        """
        if task.phase in {Phase.QUEUED, Phase.AWAY}:
            self.end(task, Ending(TaskState.CANCELED, failure=canceled()))
        elif task.phase is not Phase.ENDING and not task.record.is_canceling:
            task.record.is_canceling = True
            await asyncio.shield(self._book.note_cancel(task))
            if task.phase is Phase.HELD:
                self._tell_canceled(task)

    def _tell_canceled(self, task: OpenTask) -> None:
        instance = self._registry.find(task.record.instance or "")
        if instance is not None and instance.is_pushed:
            self._spawn(self._courier.cancel(instance, task.id))

    def end(self, task: OpenTask, ending: Ending) -> None:
        """End a task, once: take it from whoever has it, and write its end."""
        self.queues.remove(task)
        self._release(task)
        for name in list(task.timers):
            task.disarm(name)
        self._book.end(task, ending, self.wake)

    def abandon(self, task: OpenTask) -> None:
        """Let go of a task that was never written down: nobody was told that it is taken."""
        self.queues.remove(task)
        self._release(task)
        for name in list(task.timers):
            task.disarm(name)
        task.phase = Phase.ENDING
        self._book.forget(task)

    def _release(self, task: OpenTask) -> None:
        record = task.record
        instance = self._registry.find(record.instance or "")
        if instance is not None and record.lease is not None:
            instance.leases.pop(record.lease, None)

    def _arm(
        self, task: OpenTask, name: str, delay_s: float, function: Callable[[OpenTask], None]
    ) -> None:
        task.disarm(name)
        task.timers[name] = self._clock.later(delay_s, function, task)


async def _wait_for(waiter: asyncio.Future[Fetched | None], wait_s: float) -> None:
    if not waiter.done():
        await asyncio.wait([waiter], timeout=wait_s)
