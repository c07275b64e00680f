"""`kos-agent up` in which everything dies: the command itself, its agents' hosts, and their workers."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import signal
import socket
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

import psutil

from kagent_sdk.orchestrator.fleet.layout import Layout, Place
from kagent_sdk.orchestrator.fleet.process import identify
from kagent_sdk.orchestrator.fleet.record import read_record
from tests.integration.auditing import Books, read_books
from tests.integration.mesh_audit import count_refused
from tests.integration.mesh_caller import BROKEN, OrchestratorCaller
from tests.integration.mesh_chaos import CALM_S, Fault
from tests.integration.mesh_load import Load
from tests.integration.mesh_processes import signal_tree, wait_gone
from tests.integration.meshes import RunningMesh, start_mesh

WEIGHTS = {
    "kill_up": 4,
    "freeze_up": 1,
    "kill_host": 4,
    "kill_replica": 2,
    "hang_replica": 1,
    "freeze_replica": 2,
    "kill_worker": 4,
    "freeze_worker": 2,
}
"""SIGKILL, and SIGSTOP with SIGCONT; a replica is its host and its worker, and one that hangs gets no
SIGCONT: the command has to see that."""

QUICK_WEIGHTS = {kind: weight for kind, weight in WEIGHTS.items() if kind != "hang_replica"}
"""What is over within seconds: one that hangs right after the command's restart has as long as a start."""

REPLICAS = {"till": 2, "books": 1}
MESH = """\
agents:
  till: {{path: ledger, replicas: 2, {limits}}}
  books: {{path: ledger, delivery: pull, {limits}}}
orchestrator: {{port: {port}, {times}, operator_token_file: operator.token}}
"""
LIMITS = "unhealthy_after_s: {}, start_timeout_s: 20, env: {{AGENT_WORKER__CRASH_LIMIT: 1000}}"
"""A worker that is killed again and again never gets old enough to count as stable by age."""

TIMES = "lease_s: 2, heartbeat_s: 0.4, return_s: 10"
"""What is lost on its way to an agent that dies, and must not be run twice, waits for the last of them."""

PORTS = range(20_000, 30_000)
"""Below those that connections get (ip(7), ip_local_port_range): while the command is dead, no connection
of a busy machine takes its port, where its agents look for it."""

UP_CALMS = 3
"""The command is left alone three times as long as others, 15 s in a long run: a task that waits for a lost
agent waits as long again after each restart, and would wait for ever under one that never lives so long."""

BACK_S = 90.0
"""Within this a replica is back, whatever has happened to it."""

POLL_S = 0.05
T = TypeVar("T")


def find_quiet_port() -> int:
    """Return a free loopback port that no outgoing connection will take."""
    for port in random.SystemRandom().sample(PORTS, 100):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("there is no free port")


class Up(OrchestratorCaller):
    """The command, over all its starts, and whoever asks it; used with ``async with``.

    Args:
        directory: of mesh.yaml, which is written, and of the agents' folder ``ledger``.
        unhealthy_s: so long a replica may stand still; longer than any is frozen.

    Attributes:
        kills: how often it has died of `kill`.
        starts: what was started, the present one last.
    """

    def __init__(self, directory: Path, unhealthy_s: float) -> None:
        token = secrets.token_urlsafe(24)
        super().__init__(self._say_url, token)
        self.kills = 0
        self.starts: list[RunningMesh] = []
        self.layout = Layout(directory / ".kos-mesh")
        self._directory = directory
        self._limits = LIMITS.format(unhealthy_s)
        self._marker = uuid.uuid4().hex
        self._port = find_quiet_port()
        file = directory / "operator.token"
        file.touch(0o600)
        file.write_text(token)

    async def __aenter__(self) -> Self:
        text = MESH.format(limits=self._limits, times=TIMES, port=self._port)
        (self._directory / "mesh.yaml").write_text(text)
        await super().__aenter__()
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._mesh.kill_all)
        await super().__aexit__()

    async def start(self) -> None:
        """Start it, for the first time or after `kill`; return when it answers."""
        words = ("--port", str(self._port))
        mesh = await asyncio.to_thread(
            start_mesh, self._directory, marker=self._marker, arguments=words
        )
        self.starts.append(mesh)
        while await self.ask("/healthz") is None:
            assert mesh.process.poll() is None, mesh.text
            await asyncio.sleep(POLL_S)

    async def kill(self) -> None:
        """Kill the command alone."""
        await asyncio.to_thread(self._mesh.kill_orchestrator)
        self.kills += 1

    async def stop(self) -> int:
        """Ask it to end; return its exit code. Nothing of it is left."""
        code = await asyncio.to_thread(self._mesh.stop)
        await asyncio.to_thread(self._mesh.assert_nothing_left)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the command alone."""
        self._mesh.process.send_signal(number)

    def count_told(self, event: str) -> int:
        """Return how often it has told of something, over all its starts."""
        return sum(len(mesh.told(event)) for mesh in self.starts)

    async def ask(self, path: str) -> dict[str, Any] | None:
        """Read a document; None when nobody answers."""
        try:
            async with self._client.get(f"{self._say_url()}{path}") as answer:
                document: dict[str, Any] = await answer.json(content_type=None)
                return document if answer.status == 200 else None
        except (*BROKEN, json.JSONDecodeError):
            return None

    def _say_url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def _mesh(self) -> RunningMesh:
        return self.starts[-1]


class Stand:
    """One replica: found by what the command has written down, so that it is found without it too.

    Args:
        up: the command.
        agent: of which agent.
        number: which replica of it.
    """

    def __init__(self, up: Up, agent: str, number: int) -> None:
        self.busy = asyncio.Lock()
        self.place: Place = up.layout.place(agent, str(number))
        self._up = up
        self._agent = agent
        self._number = number

    def count_refusals(self) -> int:
        """Return how many of its reports were refused."""
        return count_refused(self.place.log.read_bytes())

    def read_books(self) -> Books:
        """Return what it has left on disk; it has ended."""
        (self.place.runtime / "data" / "marks").touch()  # one that was given no task has made none
        return read_books(self.place.folder)

    async def find_pid(self) -> int:
        """Return the host that runs, as soon as one does."""
        return await self._until(self._running_pid, "has no host")

    async def find_workers(self) -> list[psutil.Process]:
        """Return what its host has started, as soon as that is something."""

        async def look() -> list[psutil.Process] | None:
            with suppress(psutil.NoSuchProcess):
                return psutil.Process(await self.find_pid()).children(recursive=True) or None
            return None

        return await self._until(look, "has no worker")

    async def wait_ready(self, *, after: int | None = None) -> int:
        """Wait until it is ready, with another host than that one; return the host that it has."""

        async def look() -> int | None:
            pid = await self._ready_pid()
            return None if pid == after else pid

        return await self._until(look, f"is not ready with another host than {after}")

    async def _until(self, look: Callable[[], Awaitable[T | None]], wrong: str) -> T:
        try:
            async with asyncio.timeout(BACK_S):
                while (found := await look()) is None:  # noqa: ASYNC110 - it is another program's
                    await asyncio.sleep(POLL_S)
                return found
        except TimeoutError:
            told = "".join(mesh.text for mesh in self._up.starts)
            raise AssertionError(f"{self.place.folder} {wrong}\n{told}") from None

    async def _running_pid(self) -> int | None:
        agent = read_record(self._up.layout.record).agents.get(self._agent)
        found = None if agent is None else agent.processes.get(str(self._number))
        # Its number alone may be another program's by now.
        return found.pid if found is not None and identify(found.pid) == found.identity else None

    async def _ready_pid(self) -> int | None:
        document = await self._up.ask(f"/v1/fleet/{self._agent}")
        for one in [] if document is None else document["replicas"]:
            if one["replica"] == self._number and one["state"] == "ready":
                pid: int = one["pid"]
                return pid
        return None


class UpChaos:
    """One run of a load and of faults, side by side, until all tasks have ended.

    Args:
        up: started.
        stands: its replicas.
        plan: what breaks, and when.
        seed: of the load.

    Attributes:
        load: of its callers.
        done: faults that took place, by their kinds.
        skipped: faults that did not: what they would break was broken already.
        kills: processes that were killed, by what they were.
    """

    def __init__(self, up: Up, stands: Sequence[Stand], plan: Sequence[Fault], seed: int) -> None:
        self.load = Load(up, seed)
        self.done: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()
        self._up = up
        self._up_busy = asyncio.Lock()
        self._stands = stands
        self._plan = plan
        self._begun: set[str] = set()
        self._calm_s = CALM_S

    async def run(self, *, seconds: float, clients: int) -> None:
        """Load and break for so long; return when everything is whole and every task has ended."""
        self._calm_s = min(CALM_S, seconds / 16)
        faults = [self._break(fault) for fault in self._plan]
        await self.load.run(seconds=seconds, clients=clients, faults=faults)

    async def _break(self, fault: Fault) -> None:
        await asyncio.sleep(fault.at_s)
        stand = self._stands[fault.victim]
        lock = self._up_busy if fault.kind.endswith("_up") else stand.busy
        if lock.locked() and fault.kind in self._begun:
            self.skipped[fault.kind] += 1
            return
        self._begun.add(fault.kind)
        async with lock:  # what is broken cannot be broken
            match fault.kind:
                case "kill_up":
                    await self._kill_up(stand, fault)
                case "freeze_up":
                    self._up.send_signal(signal.SIGSTOP)
                    await asyncio.sleep(fault.lasts_s)
                    self._up.send_signal(signal.SIGCONT)
                case "kill_host" | "kill_replica" | "hang_replica":
                    await self._end_host(stand, fault.kind)
                case "freeze_replica":
                    await _freeze([psutil.Process(await stand.find_pid())], fault.lasts_s)
                case "kill_worker":
                    workers = await stand.find_workers()
                    self.kills["worker"] += sum(_signal(one, signal.SIGKILL) for one in workers)
                    await asyncio.to_thread(wait_gone, [one.pid for one in workers])
                case _:
                    await _freeze(await stand.find_workers(), fault.lasts_s)
            self.done[fault.kind] += 1
            await asyncio.sleep(self._calm_s * (UP_CALMS if lock is self._up_busy else 1))

    async def _kill_up(self, untouched: Stand, fault: Fault) -> None:
        """Kill the command; the next one goes on with a replica to which nothing else happens."""
        whole = [stand for stand in self._stands if not stand.busy.locked()]
        untouched = whole[0] if whole else untouched
        async with untouched.busy:
            pid = await untouched.wait_ready()
            await self._up.kill()
            await asyncio.sleep(fault.lasts_s / 4)
            await self._up.start()
            assert await untouched.wait_ready() == pid, self._up.starts[-1].text

    async def _end_host(self, stand: Stand, kind: str) -> None:
        """Kill a host, or stop it for good; wait until the command has started another one."""
        pid = await stand.find_pid()
        if kind == "hang_replica":
            assert signal_tree(pid, signal.SIGSTOP) > 0
        elif kind == "kill_replica":
            assert signal_tree(pid, signal.SIGKILL) > 0
        else:
            assert _signal(psutil.Process(pid), signal.SIGKILL)
        self.kills["host"] += 1
        await stand.wait_ready(after=pid)
        assert identify(pid) is None


async def _freeze(targets: Sequence[psutil.Process], lasts_s: float) -> None:
    """Stop processes, and what they have started, for so long; they may be replaced meanwhile."""
    every = [*targets]
    for target in targets:
        with suppress(psutil.NoSuchProcess):
            every += target.children(recursive=True)
    frozen = [one for one in every if _signal(one, signal.SIGSTOP)]
    assert frozen
    await asyncio.sleep(lasts_s)
    for target in frozen:
        _signal(target, signal.SIGCONT)


def _signal(process: psutil.Process, number: signal.Signals) -> bool:
    """Signal a process; tell whether it was there. One that has got its number is left alone."""
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return False
    return True
