"""The life of a task between agents: who has its lease, and what becomes of it when the lease is lost.

Everything here runs in the event loop, and every end of a task comes from here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from kagent_sdk.orchestrator.absences import Absences
from kagent_sdk.orchestrator.basis import Basis
from kagent_sdk.orchestrator.book import Book
from kagent_sdk.orchestrator.courier import Courier
from kagent_sdk.orchestrator.failures import agent_lost, canceled, no_agent, timed_out
from kagent_sdk.orchestrator.queues import Queues
from kagent_sdk.orchestrator.registry import Instance, Registry
from kagent_sdk.orchestrator.routing import Loss, fitting, judge_drop, judge_loss, may_come
from kagent_sdk.orchestrator.task import Ending, OpenTask, Phase
from kagent_sdk.protocol.headers import MISSED_BEATS
from kagent_sdk.protocol.link import Held
from kagent_sdk.protocol.tasks import TaskState

GRACE_LEASES = 2
"""After a restart agents have so many leases of time to come back."""

DEADLINE_GRACE_S = 2.0
"""An agent keeps the deadline too, and knows better what it has done until then."""

Spawn = Callable[[Coroutine[Any, Any, None]], None]
"""Runs a coroutine as a job that somebody owns."""


class Leases:
    """Moves tasks between those who wait, those who have them, and the end.

    Args:
        book: the tasks.
        registry: the agents.
        courier: tells agents that take pushed tasks what is not wanted any more.
        spawn: runs what the courier does.
        basis: clock, bounds and counters.

    Attributes:
        queues: the tasks that wait.
        listener: told when there is something to offer, or room for it.
    """

    def __init__(
        self, book: Book, registry: Registry, courier: Courier, *, spawn: Spawn, basis: Basis
    ) -> None:
        self._book = book
        self._registry = registry
        self._courier = courier
        self._spawn = spawn
        self._clock = basis.clock
        self._limits = basis.limits
        self._counters = basis.counters
        self._expects = basis.expects
        self._log = basis.log
        self._expected_back: dict[str, set[str]] = {}
        self._absences = Absences(book, basis.clock)
        self.queues = Queues()
        self.listener: Callable[[], None] = lambda: None

    # Waiting

    def enqueue(self, task: OpenTask, *, is_first: bool = False) -> None:
        """Let a task wait for an agent; offers are made soon."""
        task.phase = Phase.QUEUED
        self.queues.add(task, is_first=is_first)
        self._arm(task, "route", self._limits.route_timeout_s, self._check_route)
        self.listener()

    def _check_route(self, task: OpenTask) -> None:
        if task.phase is not Phase.QUEUED:
            return
        target, now_s = task.record.target, self._clock.now_s()
        is_there = any(True for _ in fitting(self._registry, target))
        if is_there or (
            not target.labels and may_come(self._registry, target, now_s, self._expects)
        ):
            self._arm(task, "route", self._limits.route_timeout_s, self._check_route)
        else:
            failure = no_agent(target, self._limits.route_timeout_s)
            self.end(task, Ending(TaskState.FAILED, failure=failure))

    # Having

    def acknowledge(self, task: OpenTask) -> None:
        """Note that an agent has a task."""
        task.missed = 0
        task.may_be_taken = True
        task.disarm("return")
        self._absences.end(task)
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

    def acknowledge_from(self, instance: Instance, task: OpenTask) -> None:
        """Note that an agent has a task, whoever was thought to have it."""
        lease, record = task.record.lease, task.record
        if lease is not None and lease not in instance.leases:
            self._release(task)
            self._expect_no_more(task)
            instance.leases[lease] = task.id
            record.agent, record.instance = instance.agent, instance.id
            task.offered_beat = 0
        self.acknowledge(task)

    def claim(self, instance: Instance, held: tuple[Held, ...], beat: int = 0) -> list[Held]:
        """Keep the leases that an agent names in a beat of it; return those that are no more."""
        lost: list[Held] = []
        named: set[str] = set()
        for item in held:
            task = self._book.open.get(item.task)
            if task is None or not task.is_current(item.lease):
                lost.append(item)
                continue
            named.add(item.lease)
            self.acknowledge_from(instance, task)
        self._find_again(instance)
        for lease, task_id in list(instance.leases.items()):
            if lease not in named:
                self._note_unnamed(instance, lease, task_id, beat)
        self.listener()
        return lost

    def _expect_no_more(self, task: OpenTask) -> None:
        expected = self._expected_back.get(task.record.instance or "")
        if expected is not None:
            expected.discard(task.id)
            if not expected:
                del self._expected_back[task.record.instance or ""]

    def _find_again(self, instance: Instance) -> None:
        """Take it that an agent that is back has what it had before the orchestrator's restart.

        What it does not name then is treated as at any other time: soon it counts as lost.
        """
        for task_id in self._expected_back.pop(instance.id, ()):
            task = self._book.open.get(task_id)
            if task is None or task.phase is not Phase.AWAY or task.record.lease is None:
                continue
            is_held = task.record.state is TaskState.WORKING
            task.phase = Phase.HELD if is_held else Phase.OFFERED
            task.missed = 0
            task.disarm("return")
            instance.leases[task.record.lease] = task.id

    def _note_unnamed(self, instance: Instance, lease: str, task_id: str, beat: int) -> None:
        task = self._book.open.get(task_id)
        if task is None or task.record.lease != lease:
            instance.leases.pop(lease, None)
            return
        if task.phase is Phase.ENDING or task.is_delivering:
            return
        if 0 < beat <= task.offered_beat:
            return  # it was overtaken on its way: it cannot know of the offer
        task.missed += 1
        if task.missed >= MISSED_BEATS:
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

    # Losing

    def lose_all(self, instance: Instance) -> None:
        """Note that an agent is gone."""
        for task_id in list(instance.leases.values()):
            task = self._book.open.get(task_id)
            if task is not None and task.phase is not Phase.ENDING:
                task.avoid = instance.id
                self.lose(
                    task,
                    may_be_taken=task.may_be_taken,
                    may_return=not instance.is_succeeded,
                )
        if instance.is_succeeded:
            self.give_up(instance.id, instance.agent)

    def give_up(self, instance_id: str, agent: str) -> None:
        """Wait no more for a process of an agent: the next one has its journal, and not these tasks."""
        for task_id in list(self._expected_back.get(instance_id, ())):
            task = self._book.open.get(task_id)
            if task is not None and task.phase is Phase.AWAY and task.record.agent == agent:
                self.lose(task, may_be_taken=True, may_return=False)

    def lose(self, task: OpenTask, *, may_be_taken: bool, may_return: bool = True) -> None:
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
                may_return=may_return,
            ),
        )

    def _settle_loss(self, task: OpenTask, loss: Loss) -> None:
        self._counters.losses[loss.name.lower()] += 1
        self._log(
            "info",
            "lease_lost",
            task_id=task.id,
            instance=task.record.instance,
            attempt=task.record.attempt,
            then=loss.name.lower(),
        )
        task.is_delivering = False
        if loss is Loss.AWAIT:
            self._release(task)
            self._await_return(task, self._limits.return_s, self._note_never_back)
        elif loss is Loss.CANCEL:
            self.end(task, Ending(TaskState.CANCELED, failure=canceled()))
        elif loss is Loss.FAIL:
            self.end(task, Ending(TaskState.FAILED, failure=agent_lost(task.record.attempt)))
        else:
            self._requeue(task, is_counted=loss is Loss.RETRY)

    def _requeue(self, task: OpenTask, *, is_counted: bool) -> None:
        self._release(task)
        self._expect_no_more(task)
        record = task.record
        record.lease = record.instance = record.agent = None
        record.state = TaskState.SUBMITTED
        record.attempt -= 0 if is_counted else 1
        record.away_at = None
        self._absences.forget(task)
        task.disarm("return")
        self._book.note_return(task)
        self.enqueue(task, is_first=True)
        task.wake()

    def take_up(self, tasks: Sequence[OpenTask]) -> None:
        """Go on with tasks that an orchestrator before this one has left: it was away, and not the agents.

        Those that agents have wait for them, for two leases in all of the orchestrator's starts. After
        that the agent counts as lost.
        """
        self._absences.take_up(task for task in tasks if task.record.lease is not None)
        grace_s = GRACE_LEASES * self._limits.lease_s
        for task in tasks:
            if task.record.lease is None:
                self.enqueue(task)
                self.watch_deadline(task)
            else:
                self._await_return(task, grace_s, self._note_absent)
                # Its agent may have kept the deadline, and have the result ready.
                left_s = max(0.0, grace_s - self._absences.waited_s(task))
                self.watch_deadline(task, not_before_s=left_s)

    def _await_return(
        self, task: OpenTask, within_s: float, due: Callable[[OpenTask], None]
    ) -> None:
        """Let a task wait for its agent to come back, which names it with its lease.

        Args:
            task: the task.
            within_s: since it began to wait, which may have been before the orchestrator's last restart.
            due: what happens then.
        """
        task.phase = Phase.AWAY
        task.may_be_taken = True
        self._absences.begin(task)
        if task.record.instance is not None:
            self._expected_back.setdefault(task.record.instance, set()).add(task.id)
        self._arm(task, "return", max(0.0, within_s - self._absences.waited_s(task)), due)

    def _note_absent(self, task: OpenTask) -> None:
        if task.phase is Phase.AWAY:
            self.lose(task, may_be_taken=True)

    def _note_never_back(self, task: OpenTask) -> None:
        if task.phase is Phase.AWAY:
            self._settle_loss(task, Loss.FAIL)

    # The end

    def watch_deadline(self, task: OpenTask, *, not_before_s: float = 0.0) -> None:
        """End a task when its time is over, and not within so long."""
        left_s = task.record.deadline_at - self._clock.wall_s()
        self._arm(task, "deadline", max(not_before_s, left_s), self._note_deadline)

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
        self._detach(task)
        self._book.end(task, ending, self.listener)

    def abandon(self, task: OpenTask) -> None:
        """Let go of a task that was never written down: nobody was told that it is taken."""
        self._detach(task)
        task.phase = Phase.ENDING
        self._book.forget(task)

    def _detach(self, task: OpenTask) -> None:
        if task.phase is Phase.QUEUED:
            self.queues.remove(task)
        self._release(task)
        self._absences.forget(task)
        self._expect_no_more(task)
        for name in list(task.timers):
            task.disarm(name)

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
