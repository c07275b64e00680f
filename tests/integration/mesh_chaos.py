"""A mesh in which everything dies: faults by a seeded plan, while callers ask for tasks.

What carries the tasks is a `Middle`: the orchestrator of the package, or a NATS server.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import psutil

from tests.agents import RunningAgent, start_agent
from tests.integration.cables import Cable
from tests.integration.conftest import copy_ledger
from tests.integration.mesh_audit import count_refused
from tests.integration.mesh_load import Asked, Load
from tests.integration.mesh_processes import signal_tree, wait_gone

WEIGHTS = {
    "kill_agent": 6,
    "freeze_agent": 3,
    "cut": 3,
    "hush": 3,
    "kill_middle": 3,
    "freeze_middle": 1,
}
"""SIGKILL, SIGSTOP and SIGCONT; connections of one agent that break, or that fall silent."""

LONGEST_S = 4.0
"""Of a fault: twice a lease, so that some leases are lost and others are not."""

CALM_S = 5.0
"""What carries the tasks is left alone for so long after each fault of its own, or for an eighth of a
shorter run: over two leases, in which it learns which agents are lost. On a busy machine its starts
take longer than the plan allows for, and it would do nothing but start."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that breaks.

    Attributes:
        at_s: when, after the load has begun.
        kind: one of `WEIGHTS`, or of those of another plan.
        victim: which agent.
        lasts_s: until it is whole again.
    """

    at_s: float
    kind: str
    victim: int
    lasts_s: float


def plan_faults(
    seed: int,
    *,
    agents: int,
    seconds: float,
    every_s: float,
    weights: Mapping[str, int] = WEIGHTS,
) -> list[Fault]:
    """Return the faults of a run, the same ones for the same seed; every kind is among them."""
    chance = random.Random(seed)  # noqa: S311 - a plan of faults, no secret
    count = max(int(seconds / every_s), len(weights))
    more = chance.choices([*weights], [*weights.values()], k=count - len(weights))
    kinds = [*weights, *more]
    chance.shuffle(kinds)
    moments = sorted(chance.uniform(0, seconds) for _ in kinds)
    return [
        Fault(at_s, kind, chance.randrange(agents), chance.uniform(0.05, LONGEST_S))
        for at_s, kind in zip(moments, kinds, strict=True)
    ]


class Middle(Asked, Protocol):
    """What stands between callers and agents; started by ``async with``.

    Attributes:
        kills: how often it has died of `kill`.
    """

    kills: int

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    def find_port(self) -> int | None:
        """Return where it listens now; None while it does not."""
        ...

    def environment(self, url: str, delivery: str, address: str) -> dict[str, str]:
        """Return the environment of an agent that reaches it, and is reached, over cables."""
        ...

    async def start(self) -> None:
        """Start it, for the first time or after `kill`; return when it answers."""
        ...

    async def kill(self) -> None:
        """Kill it at once."""
        ...

    async def stop(self) -> int:
        """Ask it to end; return its exit code."""
        ...

    def send_signal(self, number: signal.Signals) -> int:
        """Send a signal to it; return how many processes got it."""
        ...

    async def wait_agents(self, count: int) -> None:
        """Wait until so many agents are there and take tasks."""
        ...

    def figures(self) -> Mapping[str, int]:
        """Return its own figures, summed over all its starts."""
        ...


class Member:
    """One agent of the mesh: the ledger, with cables to the middle and from it.

    Args:
        parent: its folder is made in there.
        number: which agent; every other one asks for its tasks itself.
        middle: of the mesh.
    """

    def __init__(self, parent: Path, number: int, middle: Middle) -> None:
        self.delivery = "pull" if number % 2 else "push"
        self.kills = 0
        self.busy = asyncio.Lock()
        parent.mkdir()
        self.directory = copy_ledger(parent)
        self._middle = middle
        self._out = Cable(middle.find_port)
        self._in = Cable(self._find_port)
        self._stack = AsyncExitStack()
        self.agent: RunningAgent | None = None

    async def __aenter__(self) -> Self:
        for cable in self.cables:
            await self._stack.enter_async_context(cable)
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.agent is not None
        signal_tree(self.agent.pid, signal.SIGKILL)
        await asyncio.to_thread(self.agent.kill)
        await self._stack.aclose()

    @property
    def cables(self) -> tuple[Cable, Cable]:
        """To the middle, and from it."""
        return self._out, self._in

    def start(self) -> None:
        """Start its host, at once."""
        env = self._middle.environment(self._out.url, self.delivery, self._in.url)
        # A worker that is killed again and again never gets old enough to count as stable by age.
        env["AGENT_WORKER__CRASH_LIMIT"] = "1000"
        self.agent = start_agent(self.directory, env=env)

    async def kill(self) -> None:
        """Kill its host and worker, and wait until they are gone."""
        assert self.agent is not None
        pids = _tree(self.agent.pid)
        signal_tree(self.agent.pid, signal.SIGKILL)
        self.kills += await asyncio.to_thread(self.agent.process.wait) == -signal.SIGKILL
        await asyncio.to_thread(wait_gone, pids)

    def count_refusals(self) -> int:
        """Return how many of its reports were refused, over all its starts: its log says so."""
        log = self.directory / "logs" / "runtime.log"
        return count_refused(log.read_bytes())

    def send_signal(self, number: signal.Signals) -> int:
        """Send a signal to its host and worker."""
        assert self.agent is not None
        return signal_tree(self.agent.pid, number)

    async def stop(self) -> int:
        """Ask it to end; return its exit code."""
        assert self.agent is not None
        return await asyncio.to_thread(self.agent.stop)

    def _find_port(self) -> int | None:
        if self.agent is None:
            return None
        with suppress(OSError, ValueError, KeyError):
            note = _read_note(self.directory / "runtime" / "host.json")
            if note["pid"] == self.agent.pid:
                return int(str(note["url"]).rstrip("/").rpartition(":")[2])
        return None


class Chaos:
    """One run of a load and of faults, side by side, until all tasks have ended.

    Args:
        middle: started.
        members: the agents.
        plan: what breaks, and when.
        seed: of the load.

    Attributes:
        load: of its callers.
        done: faults that took place, by their kinds.
        skipped: faults of the middle that did not: it was broken already.
    """

    def __init__(self, middle: Middle, members: list[Member], plan: list[Fault], seed: int) -> None:
        self.load = Load(middle, seed)
        self.done: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self._middle = middle
        self._members = members
        self._plan = plan
        self._middle_busy = asyncio.Lock()
        self._begun: set[str] = set()
        self._calm_s = CALM_S

    async def run(self, *, seconds: float, clients: int) -> None:
        """Load and break for so long; return when everything is whole and every task has ended."""
        self._calm_s = min(CALM_S, seconds / 8)
        faults = [self._break(fault) for fault in self._plan]
        await self.load.run(seconds=seconds, clients=clients, faults=faults)

    async def _break(self, fault: Fault) -> None:
        await asyncio.sleep(fault.at_s)
        is_agents = not fault.kind.endswith("middle")
        member = self._members[fault.victim]
        if not is_agents and self._middle_busy.locked() and fault.kind in self._begun:
            self.skipped[fault.kind] += 1
            return
        self._begun.add(fault.kind)
        lock = member.busy if is_agents else self._middle_busy
        async with lock:  # what is broken cannot be broken
            match fault.kind:
                case "kill_agent":
                    await member.kill()
                    await asyncio.sleep(fault.lasts_s / 4)
                    member.start()
                case "freeze_agent":
                    await _freeze(member, fault)
                case "cut" | "hush":
                    await _disconnect(member, fault)
                case "kill_middle":
                    await self._middle.kill()
                    await asyncio.sleep(fault.lasts_s / 4)
                    await self._middle.start()
                case _:
                    await _freeze(self._middle, fault)
            self.done[fault.kind] += 1
            if not is_agents:
                await asyncio.sleep(self._calm_s)


async def _freeze(target: Member | Middle, fault: Fault) -> None:
    assert target.send_signal(signal.SIGSTOP) > 0
    try:
        await asyncio.sleep(fault.lasts_s)
    finally:
        target.send_signal(signal.SIGCONT)


async def _disconnect(member: Member, fault: Fault) -> None:
    for cable in member.cables:
        cable.cut() if fault.kind == "cut" else cable.hush()
    await asyncio.sleep(fault.lasts_s)
    for cable in member.cables:
        cable.heal()


def _tree(pid: int) -> list[int]:
    with suppress(psutil.NoSuchProcess):
        host = psutil.Process(pid)
        return [pid, *(child.pid for child in host.children(recursive=True))]
    return [pid]


def _read_note(path: Path) -> dict[str, Any]:
    note: dict[str, Any] = json.loads(path.read_bytes())
    return note
