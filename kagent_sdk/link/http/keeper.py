"""Keeps an agent registered: registration, heartbeats, and what the answers say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Literal

from kagent_sdk.link import decisions
from kagent_sdk.link.decisions import ContactError, Fault
from kagent_sdk.link.http.client import MAX_ANSWER_BYTES
from kagent_sdk.link.http.messages import parse_answer
from kagent_sdk.link.http.session import Grievance, LinkSession, wait_for_any
from kagent_sdk.protocol.link import (
    Goodbye,
    Heartbeat,
    HeartbeatAnswer,
    Registered,
)

BYTES_PER_HELD = 512
"""Of an answer that names a task that the agent holds: twice, with the longest ids there are."""

MAX_HEARTBEAT_ANSWER_BYTES = 32 * 1024 * 1024

GOODBYE_S = 2.0

_UNKNOWN = frozenset({Fault.UNKNOWN})


class Keeper:
    """Registers the agent, and stays in touch.

    Args:
        session: the agent's standing.
        clock: seconds, never set.
    """

    def __init__(self, session: LinkSession, clock: Callable[[], float] = time.monotonic) -> None:
        self._session = session
        self._host = session.host
        self._clock = clock
        self._registered_at_s: float | None = None
        self._has_named_tasks = False
        self._grievance = Grievance(session.host, "link_down")

    async def run(self) -> None:
        """Stay registered, until cancelled."""
        while True:
            await self.register()
            await self._stay()

    async def register(self) -> None:
        """Register the agent, however long that takes."""
        session = self._session
        await asyncio.sleep(
            decisions.registration_wait_s(self._clock(), self._registered_at_s, session.interval_s)
        )
        await session.persist(self._register, self._fail)
        self._registered_at_s = self._clock()
        self._grievance.settle()
        if session.is_draining:
            await self.say("draining", GOODBYE_S)

    async def _register(self) -> None:
        session = self._session
        self._host.changed.clear()
        registration = self._host.registration()
        body = registration.model_dump_json().encode()
        timeout_s = decisions.request_timeout_s(session.settings.timeout_s, session.interval_s)
        answer = await session.ask("", body, timeout_s=timeout_s)
        registered = parse_answer(Registered, answer.body)
        session.note_registration(registration.instance, registered)
        self._has_named_tasks = bool(registration.tasks)
        self._host.log(
            "info",
            "link_registered",
            orchestrator=registered.orchestrator,
            capabilities=len(registration.capabilities),
            tasks=len(registration.tasks),
        )

    def _fail(self, reason: str) -> None:
        self._session.note_failure(reason)
        self._grievance.complain(reason)

    async def _stay(self) -> None:
        """Send heartbeats until the agent must be registered again."""
        session = self._session
        orchestrator = session.status.orchestrator
        # The answer to a heartbeat is the first word of what became of the tasks that a host before
        # this one has left: some of them wait for it.
        pause_s = 0.0 if self._has_named_tasks else None
        while True:
            if pause_s is None:
                pause_s = decisions.spread_s(session.interval_s, session.settings.random)
            await wait_for_any(session.stale, self._host.changed, within_s=pause_s)
            if session.stale.is_set() or self._host.changed.is_set():
                return
            pause_s = None
            try:
                answer = await session.persist(self._beat, self._fail, give_up_on=_UNKNOWN)
            except ContactError:
                session.note_unknown(session.generation)
                return
            if self._grievance.settle():
                self._host.log("info", "link_up", orchestrator=answer.orchestrator)
            if answer.orchestrator != orchestrator:
                session.note_unknown(session.generation)
                return

    async def _beat(self) -> HeartbeatAnswer:
        session = self._session
        heartbeat = self._host.heartbeat()
        room_bytes = MAX_ANSWER_BYTES + BYTES_PER_HELD * len(heartbeat.tasks)
        answer = await session.ask(
            "heartbeat",
            heartbeat.model_dump_json().encode(),
            timeout_s=decisions.request_timeout_s(session.settings.timeout_s, session.interval_s),
            limit_bytes=min(room_bytes, MAX_HEARTBEAT_ANSWER_BYTES),
        )
        parsed = parse_answer(HeartbeatAnswer, answer.body)
        session.note_heartbeat(parsed)
        self._obey(heartbeat, parsed)
        return parsed

    def _obey(self, heartbeat: Heartbeat, answer: HeartbeatAnswer) -> None:
        named = {(held.task, held.lease) for held in heartbeat.tasks}
        lost = {(held.task, held.lease): held for held in answer.lost}
        for held in lost.values():
            self._host.lose(held)
        for key, held in {(held.task, held.lease): held for held in answer.cancel}.items():
            if key not in lost:
                self._host.cancel(held)
        self._host.confirm(
            [held for held in heartbeat.tasks if (held.task, held.lease) not in lost]
        )
        count = len(named & lost.keys())
        if count:
            self._session.status.lost += count
            self._host.log("warning", "link_leases_lost", tasks=count)

    async def say(self, phase: Literal["draining", "stopped"], within_s: float) -> None:
        """Say goodbye; heard or not."""
        body = Goodbye(phase=phase).model_dump_json().encode()
        try:
            await self._session.ask("goodbye", body, timeout_s=within_s)
        except ContactError as exc:
            self._host.log("debug", "link_goodbye_not_heard", phase=phase, reason=exc.reason)
