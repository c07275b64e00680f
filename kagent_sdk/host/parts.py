"""The parts of a host, and how they are put together."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path

from kagent_sdk.config.models import AgentConfig
from kagent_sdk.host.children import Children
from kagent_sdk.host.counters import Counters
from kagent_sdk.host.engine import Engine
from kagent_sdk.host.exits import Exits
from kagent_sdk.host.health import AwakeClock
from kagent_sdk.host.lifecycle import Lifecycle
from kagent_sdk.host.logs.pump import LogPump
from kagent_sdk.host.memory import MemoryVerdict
from kagent_sdk.host.monitor import Monitor
from kagent_sdk.host.pool import Pool
from kagent_sdk.host.reception import Reception
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
    config: AgentConfig
    vault: Vault
    started_at: float
    lifecycle: Lifecycle
    counters: Counters
    pump: LogPump
    exits: Exits
    engine: Engine
    children: Children
    pool: Pool
    watchdog: Watchdog
    monitor: Monitor

    def pids(self) -> list[int]:
        """Return the process ids of the host and its workers."""
        return _pids(self.pool)


def build_parts(directory: Path, config: AgentConfig, vault: Vault) -> HostParts:
    """Put a host together; nothing is started. Called in the event loop."""
    started_at = time.time()
    lifecycle = Lifecycle(started_at)
    counters = Counters()
    pump = LogPump(directory / "logs" / "runtime.log", agent=config.name or "agent")
    clock = AwakeClock(asyncio.get_running_loop().time(), TICK_S + CLOCK_TOLERANCE_S)
    children = Children()

    # The engine kills workers through the pool, and the pool tells the watchdog: both come later.
    def kill(worker: Worker, reason: str) -> None:
        pool.kill(worker, reason)

    def refresh() -> None:
        watchdog.refresh()

    def note_memory(verdict: MemoryVerdict) -> None:
        watchdog.note_memory(verdict.message)

    exits = Exits(directory, pump=pump, places=lambda: pool.places, started_at=started_at)
    engine = Engine(config, _journal(config), counters, kill)
    reception = Reception(
        config,
        secrets=vault.exposed(config.secrets.expose),
        engine=engine,
        pump=pump,
        clock=clock,
        on_change=refresh,
    )
    pool = Pool(directory, config, reception=reception, children=children, pump=pump, exits=exits)
    watchdog = Watchdog(
        config, lifecycle=lifecycle, pool=pool, engine=engine, pump=pump, clock=clock
    )
    monitor = Monitor(
        config, engine=engine, pids=lambda: _pids(pool), on_memory=note_memory, pump=pump
    )
    return HostParts(
        directory=directory,
        config=config,
        vault=vault,
        started_at=started_at,
        lifecycle=lifecycle,
        counters=counters,
        pump=pump,
        exits=exits,
        engine=engine,
        children=children,
        pool=pool,
        watchdog=watchdog,
        monitor=monitor,
    )


def _journal(config: AgentConfig) -> MemoryJournal:
    return MemoryJournal(
        retention_s=config.tasks.retention_s,
        retention_count=config.tasks.retention_count,
        retention_bytes=config.tasks.retention_bytes,
    )


def _pids(pool: Pool) -> list[int]:
    return [os.getpid(), *(place.pid for place in pool.places if place.pid is not None)]
