"""What agents say to the orchestrator, and what it does about that."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence

from kagent_sdk.orchestrator.basis import Basis
from kagent_sdk.orchestrator.book import Book
from kagent_sdk.orchestrator.dispatcher import Dispatcher
from kagent_sdk.orchestrator.failures import unreadable_result
from kagent_sdk.orchestrator.leases import Leases
from kagent_sdk.orchestrator.registry import Instance, Registry
from kagent_sdk.orchestrator.reports import TOLD_BY_OTHERS, ReportIn, read_event, read_result
from kagent_sdk.orchestrator.task import Ending, OpenTask, Phase
from kagent_sdk.protocol.link import (
    Heartbeat,
    HeartbeatAnswer,
    Offer,
    Registered,
    Registration,
    ReportAnswer,
)
from kagent_sdk.protocol.tasks import TaskState

DOUBTED_HEARTBEATS = 2
"""How long an instance whose address another one claims may be silent. All agents show one token: a claim
alone must not take tasks from one that lives."""

STALL_S = 0.5
"""A lease that is looked at so much too late: it was the orchestrator that stood still, as with its
machine. What agents have said meanwhile is read behind that, so they get a heartbeat's time for it."""

LEASE_LOST = "lease_lost"
ENDED = "ended"
UNKNOWN = "unknown"
MALFORMED = "malformed"


class UnknownInstanceError(Exception):
    """No such instance is registered: it is to register again."""


class TooManyAgentsError(Exception):
    """As many instances are registered as may be, or with as many bytes."""


class Agents:
    """The orchestrator's side of the link.

    Args:
        registry: of the agents.
        book: of the tasks.
        leases: of both.
        dispatcher: has tasks for those that fetch.
        basis: clock, bounds and counters.
    """

    def __init__(
        self,
        registry: Registry,
        book: Book,
        leases: Leases,
        dispatcher: Dispatcher,
        basis: Basis,
    ) -> None:
        self._orchestrator = basis.orchestrator
        self._registry = registry
        self._book = book
        self._leases = leases
        self._dispatcher = dispatcher
        self._clock = basis.clock
        self._limits = basis.limits
        self._counters = basis.counters
        self._log = basis.log

    def register(self, registration: Registration, size_bytes: int = 0) -> Registered:
        """Take note of an agent, and of the tasks that it has.

        Args:
            registration: what it says of itself.
            size_bytes: how large that was.

        Raises:
            TooManyAgentsError: as many are registered as may be.
        """
        is_new = self._registry.find(registration.instance) is None
        if not self._registry.has_room(registration.instance, size_bytes):
            raise TooManyAgentsError
        now_s = self._clock.now_s()
        instance, superseded = self._registry.register(registration, now_s, size_bytes)
        self._leases.claim(instance, registration.tasks, registration.beat)
        self._registry.hear(instance, registration.status, now_s, registration.beat)
        self._counters.registrations += 1
        if is_new:
            self._watch(instance.id, self._limits.lease_s)
            self._log(
                "info",
                "agent_registered",
                registered=instance.agent,
                instance=instance.id,
                delivery=registration.delivery,
                held=len(registration.tasks),
            )
        for before in registration.before:
            self._succeed(instance, before)
        if superseded is not None:
            self._check_soon(superseded)
        return Registered(
            orchestrator=self._orchestrator,
            lease_s=self._limits.lease_s,
            heartbeat_s=self._limits.heartbeat_s,
        )

    def heartbeat(self, instance_id: str, heartbeat: Heartbeat) -> HeartbeatAnswer:
        """Keep an agent's lease and those of its tasks.

        Raises:
            UnknownInstanceError: it is not registered.
        """
        instance = self._find(instance_id)
        lost = self._leases.claim(instance, heartbeat.tasks, heartbeat.beat)
        self._registry.hear(instance, heartbeat.status, self._clock.now_s(), heartbeat.beat)
        return HeartbeatAnswer(
            orchestrator=self._orchestrator,
            lease_s=self._limits.lease_s,
            heartbeat_s=self._limits.heartbeat_s,
            lost=tuple(lost),
            cancel=tuple(self._leases.canceling(instance)),
        )

    async def fetch(self, instance_id: str, wait_s: float) -> Offer | None:
        """Return a task for an agent that pulls; None when there is none in that time.

        Raises:
            UnknownInstanceError: it is not registered.
            StorageError: the offer cannot be written down.
        """
        instance = self._find(instance_id)
        if instance.is_pushed:
            raise UnknownInstanceError
        instance.seen_s = self._clock.now_s()
        return await self._dispatcher.fetch(instance, wait_s)

    def goodbye(self, instance_id: str, *, is_gone: bool) -> None:
        """Note that an agent takes no more tasks, or is gone; one that is unknown is gone already."""
        instance = self._registry.find(instance_id)
        if instance is None:
            return
        self._counters.goodbyes += 1
        self._log(
            "info", "agent_said_goodbye", left=instance.agent, instance=instance.id, is_gone=is_gone
        )
        if is_gone:
            self._registry.remove(instance, self._clock.now_s())
            self._let_go(instance)
        else:
            self._registry.drain(instance)

    def _find(self, instance_id: str) -> Instance:
        instance = self._registry.find(instance_id)
        if instance is None:
            raise UnknownInstanceError
        return instance

    def _watch(self, instance_id: str, wait_s: float, *, is_extended: bool = False) -> None:
        due_s = math.inf if is_extended else self._clock.now_s() + wait_s
        self._clock.later(wait_s, self._check_lease, instance_id, due_s)

    def _check_lease(self, instance_id: str, due_s: float) -> None:
        instance = self._registry.find(instance_id)
        if instance is None:
            return
        now_s = self._clock.now_s()
        left_s = instance.seen_s + self._limits.lease_s - now_s
        if left_s > 0:
            self._watch(instance_id, left_s)
        elif now_s - due_s > STALL_S:
            # Once: one that is too busy to be in time must lose agents too.
            self._watch(instance_id, self._limits.heartbeat_s, is_extended=True)
        else:
            self._lose(instance)

    def _succeed(self, instance: Instance, before: str) -> None:
        """Wait no more for an instance whose journal another one has: what that does not name is lost."""
        other = self._registry.find(before)
        if other is None:
            self._leases.give_up(before, instance.agent)
        elif other is not instance and other.agent == instance.agent and not other.is_succeeded:
            self._registry.doubt(other)
            self._check_soon(other)

    def _check_soon(self, instance: Instance) -> None:
        wait_s = min(DOUBTED_HEARTBEATS * self._limits.heartbeat_s, self._limits.lease_s)
        self._clock.later(wait_s, self._check_doubt, instance)

    def _check_doubt(self, instance: Instance) -> None:
        if instance.is_doubted and self._registry.find(instance.id) is instance:
            self._lose(instance)

    def _lose(self, instance: Instance) -> None:
        self._counters.agents_lost += 1
        self._log(
            "warning",
            "agent_lost",
            lost=instance.agent,
            instance=instance.id,
            tasks=len(instance.leases),
        )
        self._registry.lose(instance, self._clock.now_s())
        self._let_go(instance)

    def _let_go(self, instance: Instance) -> None:
        self._dispatcher.dismiss(instance.id)
        self._leases.lose_all(instance)

    # Reports

    async def report(self, instance_id: str, reports: Sequence[ReportIn]) -> list[ReportAnswer]:
        """Take what an agent tells; what is answered is on disk.

        Raises:
            UnknownInstanceError: it is not registered.
            StorageError: the disk does not take it; nothing is answered.
        """
        instance = self._find(instance_id)
        instance.seen_s = self._clock.now_s()
        answers = [self._take(instance, report) for report in reports]
        # Together: when one fails, or the agent is gone, nobody is left waiting for the others.
        waiting = [answer for answer in answers if asyncio.isfuture(answer)]
        done = iter(await asyncio.gather(*waiting))
        settled = [next(done) if asyncio.isfuture(answer) else answer for answer in answers]
        result = []
        for report, found in zip(reports, settled, strict=True):
            reason = await self._explain(report) if found == UNKNOWN else found
            self._counters.reports[reason or "taken"] += 1
            result.append(
                ReportAnswer(id=report.id, outcome="refused" if reason else "taken", reason=reason)
            )
        return result

    def _take(
        self, instance: Instance, report: ReportIn
    ) -> asyncio.Future[str | None] | str | None:
        """Begin to take a report; return why it is refused, None when it is taken, or a future of it."""
        task = self._book.open.get(report.task)
        if task is None:
            return UNKNOWN
        if task.record.lease != report.lease:
            return LEASE_LOST
        if not report.is_result:
            return self._take_event(instance, task, report)
        if task.phase is Phase.ENDING:
            self._counters.duplicates += 1
            return asyncio.ensure_future(_after(task))
        ending = read_result(report.payload)
        if ending is None:
            # Nobody else will tell how it ended: the agent has let go of it.
            self._leases.end(task, Ending(TaskState.FAILED, failure=unreadable_result()))
            return MALFORMED
        self._leases.end(task, ending)
        return asyncio.ensure_future(_taken(task))

    def _take_event(
        self, instance: Instance, task: OpenTask, report: ReportIn
    ) -> asyncio.Future[str | None] | str | None:
        event = read_event(report.payload)
        if event is None:
            return MALFORMED
        if task.phase is Phase.ENDING:
            return ENDED
        if event.id <= task.last_agent_event:
            self._counters.duplicates += 1
            return None
        self._leases.acknowledge_from(instance, task)
        task.last_agent_event = event.id
        if event.kind in TOLD_BY_OTHERS:
            return None
        if event.kind == "progress":
            task.record.progress = json.loads(event.data)
        saved = self._book.add_event(task, event.kind, event.data, agent_id=event.id)
        return asyncio.ensure_future(_saved(saved))

    async def _explain(self, report: ReportIn) -> str:
        return ENDED if await self._book.is_kept(report.task) else UNKNOWN


async def _taken(task: OpenTask) -> None:
    await task.ended.wait()


async def _after(task: OpenTask) -> str:
    await task.ended.wait()
    return ENDED


async def _saved(saved: asyncio.Future[None]) -> None:
    await asyncio.shield(saved)
