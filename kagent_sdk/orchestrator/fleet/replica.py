"""One replica: started, watched, started again, stopped."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kagent_sdk.errors import KagentError, OrchestratorError
from kagent_sdk.host.backoff import CrashHistory, restart_delay_s
from kagent_sdk.orchestrator.fleet.client import Address, ReplicaClient
from kagent_sdk.orchestrator.fleet.decisions import (
    BACKOFF_INITIAL_S,
    STABLE_S,
    UNREACHABLE,
    HealthLimits,
    Probe,
    State,
    assume_alive,
    describe_end,
    longest_wait_s,
    must_replace,
    resting_state,
)
from kagent_sdk.orchestrator.fleet.hosts import KILL_WAIT_S, end, find_running
from kagent_sdk.orchestrator.fleet.news import News, Tell
from kagent_sdk.orchestrator.fleet.process import HostProcess, Identity, identify, spawn
from kagent_sdk.orchestrator.fleet.releases import release_in
from kagent_sdk.orchestrator.fleet.tails import last_line

if TYPE_CHECKING:
    from pathlib import Path

    from kagent_sdk.orchestrator.fleet.layout import Place
    from kagent_sdk.orchestrator.fleet.preparation import Preparation
    from kagent_sdk.orchestrator.fleet.workplace import Workplace

STARTING_PROBE_S = 0.1
PROBE_S = 2.0
VAULT_LOOK_S = 3.0
"""How often the author's vault is compared with the copy."""

Remember = Callable[[int, "Identity | None"], Awaitable[None]]
"""Writes down which process a replica has, before anything else happens."""


@dataclass(slots=True)
class Facts:
    """What is known of a replica, for `/v1/fleet`.

    Attributes:
        since_s: when it came into its state, in seconds since the epoch.
        retry_in_s: from then to its next start; None: it does not wait for one.
    """

    state: State = State.STOPPED
    reason: str = ""
    release: str | None = None
    restarts: int = 0
    address: Address | None = None
    since_s: float = field(default_factory=time.time)
    retry_in_s: float | None = None

    def waits_s(self, now_s: float) -> float | None:
        """Return how long it is to its next start; None: it does not wait for one."""
        if self.retry_in_s is None:
            return None
        return round(min(max(self.since_s + self.retry_in_s - now_s, 0.0), self.retry_in_s), 1)


class Replica:
    """Keeps one host running.

    Args:
        number: of the replica.
        place: its paths.
        preparation: makes its folder.
        client: asks it.
        remember: writes down its process.
        tell: told of what happens.
    """

    def __init__(
        self,
        number: int,
        place: Place,
        preparation: Preparation,
        client: ReplicaClient,
        *,
        remember: Remember,
        tell: Tell,
    ) -> None:
        self.number = number
        self.place = place
        self.facts = Facts()
        self._preparation = preparation
        self._driver = preparation.driver
        self._client = client
        self._remember = remember
        self._tell = tell
        self._history = CrashHistory()
        self._process: HostProcess | None = None
        self._job: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()
        self._limits = HealthLimits(
            preparation.spec.start_timeout_s, preparation.spec.unhealthy_after_s
        )

    @property
    def is_running(self) -> bool:
        """Whether it is kept running."""
        return self._job is not None

    @property
    def pid(self) -> int | None:
        """Of its host, if there is one."""
        return None if self._process is None else self._process.pid

    async def adopt(self, recorded: Identity | None) -> bool:
        """Take over the host that runs in its folder, if there is one; tell whether there is.

        Args:
            recorded: what an orchestrator before this one wrote down.
        """
        identity = await asyncio.to_thread(find_running, self.place, recorded)
        if identity is None:
            return False
        self._process = HostProcess(identity, None, adopted=True)
        await self._remember(self.number, identity)
        return not self._process.exited.done()

    def start(self, release: Path) -> None:
        """Keep it running from now on, with this release; an adopted host goes on with its own."""
        assert self._job is None
        self._history = CrashHistory()
        self.facts.state, self.facts.reason = State.STARTING, ""
        self._job = asyncio.create_task(self._live(release), name=f"replica-{self.number}")

    async def stop(self, within_s: float) -> None:
        """End it: politely first, by force when the time is over. Safe to call twice."""
        job, self._job = self._job, None
        if job is not None:
            job.cancel()
            await asyncio.wait([job])
        # Twice: beside its own there may be one that an orchestrator had started when it died, and had not
        # written down.
        for _ in range(2):
            if self._process is not None or await self.adopt(None):
                await self._end(within_s)
        if self.facts.state is not State.STOPPED:
            await self._show(State.STOPPED)

    async def _end(self, within_s: float) -> None:
        process = self._process
        assert process is not None
        await self._show(State.STOPPING)
        await end(process, within_s)
        await self._lose()

    def hurry(self, *, by_force: bool) -> None:
        """Repeat the signal: the host then cancels what it would have waited for. Or kill it."""
        if self._process is None or self.facts.state is not State.STOPPING:
            return
        if by_force:
            self._process.kill()
        else:
            self._process.signal(signal.SIGTERM)

    async def release(self) -> None:
        """Watch it no more, and let it run: for an orchestrator that ends without its fleet."""
        job, self._job = self._job, None
        if job is not None:
            job.cancel()
            await asyncio.wait([job])
        if self._process is not None:
            self._process.forget()
            self._process = None

    async def wait_ready(self, within_s: float) -> str | None:
        """Wait until it is ready; return why it is not when it fails, or the time is over."""
        try:
            async with asyncio.timeout(within_s), self._changed:
                await self._changed.wait_for(self._is_decided)
        except TimeoutError:
            why = f" ({self.facts.reason})" if self.facts.reason else ""
            return f"not ready within {within_s:g} s{why}"
        return None if self.facts.state is State.READY else self.facts.reason or "it ended"

    async def snapshot(self, timeout_s: float) -> tuple[str | None, str]:
        """Let it make a snapshot; return its name, or None and why there is none."""
        address = self.facts.address
        if address is None:
            return None, "it does not run"
        body = json.dumps({}).encode()
        answer = await self._client.request(
            "POST", address, "/v1/snapshots", timeout_s=timeout_s, body=body
        )
        name = answer.document.get("name")
        if answer.status == 201 and isinstance(name, str):
            return name, ""
        if answer.status == 0:
            return None, "no answer"
        return None, str(answer.document.get("detail", f"status {answer.status}"))[:500]

    def document(self) -> dict[str, Any]:
        """Return what is known of it, as JSON."""
        facts = self.facts
        return {
            "replica": self.number,
            "state": facts.state.value,
            "reason": facts.reason or None,
            "release": facts.release,
            "pid": self.pid,
            "url": None if facts.address is None else facts.address.url,
            "restarts": facts.restarts,
            "since": facts.since_s,
            "retry_in_s": facts.waits_s(time.time()),
        }

    async def _live(self, release: Path) -> None:
        while True:
            try:
                reason, was_stable = await self._run_once(release)
            except (OSError, KagentError) as exc:
                reason, was_stable = str(exc), False
            except Exception as exc:  # noqa: BLE001 - a bug of ours is no reason to give a replica up
                traceback.print_exc()
                reason, was_stable = f"internal error: {type(exc).__name__}", False
            self._history = self._history.after_crash(was_stable=was_stable)
            self.facts.restarts = self._history.total
            unstable = self._history.unstable
            wait_s = restart_delay_s(
                max(unstable, 1),
                initial_s=BACKOFF_INITIAL_S,
                max_s=longest_wait_s(unstable),
                random=lambda: 0.5 + random.random() / 2,  # noqa: S311 - jitter
            )
            await self._show(resting_state(unstable), reason, retry_in_s=round(wait_s, 1))
            await asyncio.sleep(wait_s)

    async def _run_once(self, release: Path) -> tuple[str, bool]:
        """Start the host, or take the one that runs, and watch it to its end.

        Returns:
            Why it ended, and whether it had proved that it works.
        """
        preparation = self._preparation
        if self._process is None and await self.adopt(None):
            await self._show(State.STARTING, adopted=True)
        if self._process is None:
            await self._show(State.STARTING)
            await asyncio.to_thread(self._driver.clear, self.place)
            workplace = await asyncio.to_thread(preparation.prepare, release, self.place)
            await self._restore(release, workplace)
            await self._spawn(release, workplace)
        else:
            workplace = await asyncio.to_thread(preparation.check, self.place.folder, self.place)
        process = self._process
        assert process is not None
        self.facts.release = await asyncio.to_thread(release_in, self.place.folder)
        watching = asyncio.create_task(self._watch(process, workplace))
        try:
            ends: set[asyncio.Future[Any]] = {watching, process.exited}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            watching.cancel()
            await asyncio.wait([watching])
        is_unhealthy = not process.exited.done()
        if is_unhealthy:
            await end(process, KILL_WAIT_S)
        ready_s = self._ready_for_s
        tail = await asyncio.to_thread(last_line, self.place.out)
        await self._lose()
        reason = describe_end(None if is_unhealthy else process.exited.result(), tail)
        if is_unhealthy:
            reason = f"did not answer its probe for {self._limits.unhealthy_s:g} s: replaced"
        return reason, ready_s >= STABLE_S

    async def _restore(self, release: Path, workplace: Workplace) -> None:
        restore = self._driver.restore
        name, wrong = await asyncio.to_thread(restore, release, self.place, workplace)
        if wrong is not None:
            self._say("snapshot_unusable", reason=wrong)
        if name is not None:
            self._say("snapshot_restored", snapshot=name)

    async def _spawn(self, release: Path, workplace: Workplace) -> None:
        command = self._driver.command
        words = await asyncio.to_thread(command, release, self.place, workplace)
        starting = asyncio.ensure_future(
            asyncio.to_thread(
                spawn, words, self.place.folder, workplace.environment, self.place.out
            )
        )
        try:
            popen = await asyncio.shield(starting)
        except asyncio.CancelledError:
            # It may have been started: then whoever cancels has to find it, to end it.
            with suppress(OSError):
                popen = await starting
                self._take(popen.pid, popen)
            raise
        self._take(popen.pid, popen)
        assert self._process is not None
        await self._remember(self.number, self._process.identity)

    def _take(self, pid: int, popen: Any) -> None:
        identity = identify(pid) or Identity(pid, 0, "")
        self._process = HostProcess(identity, popen, adopted=False)

    async def _lose(self) -> None:
        """Take note that its process is gone."""
        await asyncio.to_thread(self._driver.clear, self.place)
        self._process = None
        self.facts.address = None
        await self._remember(self.number, None)

    @property
    def _ready_for_s(self) -> float:
        is_ready = self.facts.state is State.READY
        return time.time() - self.facts.since_s if is_ready else 0.0

    async def _watch(self, process: HostProcess, workplace: Workplace) -> None:
        """Probe it until it has been unwell for too long."""
        started_s = looked_s = time.monotonic()
        alive_s = assume_alive(started_s, is_adopted=process.adopted)
        while True:
            probe = await self._probe(process)
            now_s = time.monotonic()
            alive_s = now_s if probe.is_alive else alive_s
            await self._judge(probe)
            if must_replace(now_s, started_s=started_s, alive_s=alive_s, limits=self._limits):
                return
            if now_s - looked_s >= VAULT_LOOK_S:
                looked_s = now_s
                await self._refresh(workplace)
            is_settled = self.facts.state is State.READY or now_s - started_s > PROBE_S * 10
            await asyncio.sleep(PROBE_S if is_settled else STARTING_PROBE_S)

    async def _probe(self, process: HostProcess) -> Probe:
        address = self.facts.address
        if address is None:
            address = await asyncio.to_thread(self._driver.address_of, self.place, process.pid)
            if address is None:
                return UNREACHABLE
            self.facts.address = address
        return await self._client.probe(address)

    async def _judge(self, probe: Probe) -> None:
        before = self.facts.state
        if probe.is_ready:
            if before is not State.READY:
                address = self.facts.address
                await self._show(State.READY, url=None if address is None else address.url)
        elif before is State.READY:
            await self._show(State.NOT_READY, probe.reason)
        elif self.facts.address is not None:
            self.facts.reason = probe.reason

    async def _refresh(self, workplace: Workplace) -> None:
        try:
            if await asyncio.to_thread(self._preparation.refresh_vault, self.place, workplace):
                self._say("vault_copied")
        except OrchestratorError as exc:
            self._say("vault_not_copied", reason=str(exc))

    async def _show(self, state: State, reason: str = "", **values: Any) -> None:
        facts = self.facts
        facts.state, facts.reason, facts.since_s = state, reason, time.time()
        facts.retry_in_s = values.get("retry_in_s")
        if reason:
            values["reason"] = reason
        self._say(f"replica_{state.value}", **values)
        async with self._changed:
            self._changed.notify_all()

    def _say(self, event: str, **values: Any) -> None:
        self._tell(News(event, self._preparation.name, self.number, values))

    def _is_decided(self) -> bool:
        return self.facts.state in {State.READY, State.WAITING, State.FAILED, State.STOPPED}
