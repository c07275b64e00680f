"""Reloads: reads the agent's folder anew and lets new workers follow the present ones."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kagent_sdk.config.models import AgentConfig
from kagent_sdk.errors import KagentError, ReloadError
from kagent_sdk.host.logs.pump import LogPump
from kagent_sdk.host.monitor import Monitor
from kagent_sdk.host.reconfiguration import Reconfiguration
from kagent_sdk.host.succession import Succession
from kagent_sdk.host.trial import Outcome, Stage

if TYPE_CHECKING:
    from kagent_sdk.host.sd_notify import ServiceManager


class Configurable(Protocol):
    """The parts of a host that a reload reads anew and configures."""

    def prepare(self, present: AgentConfig) -> Reconfiguration:
        """Read folder and vault, given the present configuration; called in a thread.

        Raises:
            KagentError: they are wrong; the reload fails for this reason.
        """
        ...

    def apply(self, config: AgentConfig) -> None:
        """Put a configuration in force in all parts that hold one; must not fail."""
        ...


@dataclass(frozen=True, slots=True)
class _Request:
    why: str
    outcome: asyncio.Future[Outcome]


class Reloader:
    """Carries out one reload at a time, and keeps one more in mind.

    A reload reads everything anew, so all that are asked for while one runs are the same next one.

    Args:
        succession: the workers.
        parts: what else a reload reads anew and configures.
        monitor: knows whether there is memory for two generations.
        pump: told of every outcome.
        service_manager: told that a reload is under way, if there is one.

    Attributes:
        last: how the last one ended; None before the first.
    """

    def __init__(
        self,
        succession: Succession,
        parts: Configurable,
        *,
        monitor: Monitor,
        pump: LogPump,
        service_manager: ServiceManager | None,
    ) -> None:
        self._succession = succession
        self._parts = parts
        self._monitor = monitor
        self._pump = pump
        self._service_manager = service_manager
        self._loop = asyncio.get_running_loop()
        self._asked = asyncio.Event()
        self._next: _Request | None = None
        self._work: asyncio.Task[Outcome] | None = None
        self._is_over = False
        self.last: Outcome | None = None

    @property
    def stage(self) -> Stage:
        """Whether a reload runs or is about to."""
        return Stage.RELOADING if self._work is not None or self._next is not None else Stage.IDLE

    def ask(self, why: str) -> asyncio.Future[Outcome]:
        """Ask for a reload; the future is done when it has ended, and never fails.

        Shield it when you wait for it: others may wait too.
        """
        if self._next is not None:
            return self._next.outcome
        request = _Request(why, self._loop.create_future())
        if self._is_over:
            request.outcome.set_result(_refusal())
        else:
            self._next = request
            self._asked.set()
        return request.outcome

    def abandon(self) -> None:
        """Give up: the agent stops."""
        self._is_over = True
        if self._work is not None:
            self._work.cancel()
        if self._next is not None:
            self._next.outcome.set_result(_refusal())
            self._next = None

    async def run(self) -> None:
        """Carry out what is asked for, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            request, self._next = self._next, None
            if request is not None:
                await self._serve(request)

    async def _serve(self, request: _Request) -> None:
        self._work = self._loop.create_task(self._carry_out(request.why), name="reload")
        if self._service_manager is not None:
            self._service_manager.reloading()
        try:
            await asyncio.wait([self._work])
            outcome = _refusal() if self._work.cancelled() else self._work.result()
        except asyncio.CancelledError:
            self._work.cancel()
            await asyncio.wait([self._work])
            raise
        finally:
            self._work = None
            if self._service_manager is not None:
                self._service_manager.reloaded()
        if not outcome.is_refused:
            self.last = outcome
        request.outcome.set_result(outcome)

    async def _carry_out(self, why: str) -> Outcome:
        began_s = self._loop.time()
        self._pump.log("info", "reload_started", why=why)
        try:
            plan = await self._reload()
        except KagentError as exc:
            return self._note_failure(exc, began_s)
        except Exception as exc:  # noqa: BLE001 - the agent must outlive a reload whatever happens
            self._pump.log_exception("reload_broke", exc)
            return self._note_failure(ReloadError("the agent's log says what went wrong"), began_s)
        took_s = self._loop.time() - began_s
        self._pump.log(
            "info",
            "reload_completed",
            generation=self._succession.pool.generation,
            took_s=round(took_s, 3),
            changed=list(plan.changed),
            needs_restart=list(plan.needs_restart),
        )
        return Outcome(
            is_completed=True,
            at=time.time(),
            took_s=took_s,
            changed=plan.changed,
            needs_restart=plan.needs_restart,
        )

    async def _reload(self) -> Reconfiguration:
        present = self._succession.pool
        pids = [place.pid for place in present.places if place.pid is not None]
        lack = await self._monitor.find_lack_of_room(pids)
        if lack:
            raise ReloadError(lack)
        plan = await asyncio.to_thread(self._parts.prepare, present.config)
        pool = await self._succession.try_out(plan.config)
        # One step of the loop from here: nobody sees a part of the new configuration.
        self._parts.apply(pool.config)
        self._succession.swap(pool)
        return plan

    def _note_failure(self, error: KagentError, began_s: float) -> Outcome:
        took_s = self._loop.time() - began_s
        self._pump.log("error", "reload_failed", reason=str(error), took_s=round(took_s, 3))
        return Outcome(
            is_completed=False,
            at=time.time(),
            took_s=took_s,
            reason=str(error),
            traceback_text=getattr(error, "traceback_text", ""),
        )


def _refusal() -> Outcome:
    return Outcome(
        is_completed=False, at=time.time(), reason="the agent is stopping", is_refused=True
    )
