"""The parts of a host, and how they are put together."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kagent_sdk.config.models import AgentConfig
from kagent_sdk.host.children import Children
from kagent_sdk.host.counters import Counters
from kagent_sdk.host.engine import Engine
from kagent_sdk.host.folder import AgentFolder
from kagent_sdk.host.health import AwakeClock
from kagent_sdk.host.lifecycle import Lifecycle
from kagent_sdk.host.logs.pump import LogPump
from kagent_sdk.host.memory import MemoryVerdict
from kagent_sdk.host.monitor import Monitor
from kagent_sdk.host.pool import Pool
from kagent_sdk.host.reception import Reception
from kagent_sdk.host.reloader import Reloader
from kagent_sdk.host.succession import Succession
from kagent_sdk.host.task import Worker
from kagent_sdk.host.vault import Vault
from kagent_sdk.host.watchdog import TICK_S, Watchdog
from kagent_sdk.journal.memory import MemoryJournal

CLOCK_TOLERANCE_S = 1.0
"""The host may be this late with its own ticks before the workers' silence stops counting."""


@dataclass(frozen=True, slots=True)
class HostParts:
    """Everything that one host owns. `kagent_sdk.host.host.Host` gives it its life.

    Attributes:
        directory: the agent's folder.
        started_at: seconds since the epoch.
    """

    directory: Path
    vault: Vault
    started_at: float
    lifecycle: Lifecycle
    counters: Counters
    pump: LogPump
    engine: Engine
    children: Children
    succession: Succession
    reloader: Reloader
    watchdog: Watchdog
    monitor: Monitor

    @property
    def pool(self) -> Pool:
        """The generation of workers that gets the tasks."""
        return self.succession.pool

    @property
    def config(self) -> AgentConfig:
        """The configuration in force: that of this generation."""
        return self.succession.pool.config

    def pids(self) -> list[int]:
        """Return the process ids of the host and its workers."""
        return _pids(self.succession)


def build_parts(folder: AgentFolder, config: AgentConfig, vault: Vault) -> HostParts:
    """Put a host together; nothing is started. Called in the event loop."""
    directory = folder.path
    started_at = time.time()
    lifecycle = Lifecycle(started_at)
    counters = Counters()
    pump = LogPump(directory / "logs" / "runtime.log", agent=config.name or "agent")
    clock = AwakeClock(asyncio.get_running_loop().time(), TICK_S + CLOCK_TOLERANCE_S)
    children = Children()

    # The engine kills workers through the succession, and the pools tell the watchdog: both come
    # later.
    def kill(worker: Worker, reason: str) -> None:
        succession.kill(worker, reason)

    def note_memory(verdict: MemoryVerdict) -> None:
        watchdog.note_memory(verdict.message)

    def refresh() -> None:
        watchdog.refresh()

    def apply(config: AgentConfig) -> None:
        engine.configure(config.tasks)
        monitor.configure(config.limits)

    engine = Engine(config, _journal(config), counters, kill)
    pools = PoolBuilder(directory, engine, children, pump, clock, refresh)
    first = pools.build(config, vault.exposed(config.secrets.expose))
    succession = Succession(first, build=pools.build, engine=engine, pump=pump)
    watchdog = Watchdog(succession, lifecycle=lifecycle, engine=engine, pump=pump, clock=clock)
    monitor = Monitor(
        config, engine=engine, pids=lambda: _pids(succession), on_memory=note_memory, pump=pump
    )
    reloader = Reloader(
        succession, prepare=folder.prepare_reload, apply=apply, monitor=monitor, pump=pump
    )
    return HostParts(
        directory=directory,
        vault=vault,
        started_at=started_at,
        lifecycle=lifecycle,
        counters=counters,
        pump=pump,
        engine=engine,
        children=children,
        succession=succession,
        reloader=reloader,
        watchdog=watchdog,
        monitor=monitor,
    )


@dataclass(frozen=True, slots=True)
class PoolBuilder:
    """What all generations of workers have in common.

    Attributes:
        on_change: called when a worker of any of them became ready, recovered or was lost.
    """

    directory: Path
    engine: Engine
    children: Children
    pump: LogPump
    clock: AwakeClock
    on_change: Callable[[], None]

    def build(self, config: AgentConfig, secrets: dict[str, object]) -> Pool:
        """Return a generation that runs by this configuration; nothing is started."""

        def note_change() -> None:
            pool.changed.set()
            self.on_change()

        reception = Reception(
            config,
            secrets=secrets,
            engine=self.engine,
            pump=self.pump,
            clock=self.clock,
            on_change=note_change,
        )
        pool = Pool(
            self.directory,
            config,
            reception=reception,
            children=self.children,
            pump=self.pump,
            clock=self.clock,
        )
        return pool


def _journal(config: AgentConfig) -> MemoryJournal:
    return MemoryJournal(
        retention_s=config.tasks.retention_s,
        retention_count=config.tasks.retention_count,
        retention_bytes=config.tasks.retention_bytes,
    )


def _pids(succession: Succession) -> list[int]:
    places = [place for pool in succession.pools for place in pool.places]
    return [os.getpid(), *(place.pid for place in places if place.pid is not None)]
