"""The parts of a host, and how they are put together."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kagent_sdk.config.models import AgentConfig
from kagent_sdk.host.children import Children
from kagent_sdk.host.counters import Counters
from kagent_sdk.host.engine import Engine
from kagent_sdk.host.entrypoint_worker import EntrypointWorkers
from kagent_sdk.host.exits import Exits
from kagent_sdk.host.health import AwakeClock, Health
from kagent_sdk.host.http.auth import TOKEN_FILE_VARIABLE, load_token
from kagent_sdk.host.lifecycle import Lifecycle
from kagent_sdk.host.logs.pump import LogPump
from kagent_sdk.host.memory import MemoryVerdict
from kagent_sdk.host.monitor import Monitor
from kagent_sdk.host.pool import Pool
from kagent_sdk.host.reception import Reception
from kagent_sdk.host.task import Worker
from kagent_sdk.host.vault import Vault
from kagent_sdk.host.vault_keeper import VaultKeeper
from kagent_sdk.host.watchdog import TICK_S, Watchdog
from kagent_sdk.host.worker_kind import WorkerKind
from kagent_sdk.journal.memory import MemoryJournal

if TYPE_CHECKING:
    from kagent_sdk.host.sd_notify import ServiceManager

CLOCK_TOLERANCE_S = 1.0
"""The host may be this late with its own ticks before the workers' silence stops counting."""


@dataclass(frozen=True, slots=True)
class HostParts:
    """Everything that one host owns. `kagent_sdk.host.host.Host` gives it its life.

    Attributes:
        directory: the agent's folder.
        started_at: seconds since the epoch.
        service_manager: systemd or podman, if one started the host and wants to hear of it.
    """

    directory: Path
    config: AgentConfig
    keeper: VaultKeeper
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
    service_manager: ServiceManager | None

    def pids(self) -> list[int]:
        """Return the process ids of the host and its workers."""
        return _pids(self.pool)


def build_parts(directory: Path, config: AgentConfig, vault: Vault) -> HostParts:
    """Put a host together; nothing is started. Called in the event loop."""
    started_at = time.time()
    lifecycle = Lifecycle(started_at)
    counters = Counters()
    pump = LogPump(
        directory / "logs" / "runtime.log", agent=config.name or "agent", config=config.logs
    )
    keeper = _keeper(directory, config, vault, pump)
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
        keeper=keeper,
        engine=engine,
        pump=pump,
        clock=clock,
        on_change=refresh,
    )
    kind = _worker_kind(directory, config, keeper, reception=reception, pump=pump, clock=clock)
    pool = Pool(config, kind=kind, reception=reception, children=children, pump=pump, exits=exits)
    keeper.listeners.append(lambda: reception.share_secrets(pool.places))
    watchdog = Watchdog(
        config, lifecycle=lifecycle, pool=pool, engine=engine, pump=pump, clock=clock
    )
    monitor = Monitor(
        config, engine=engine, pids=lambda: _pids(pool), on_memory=note_memory, pump=pump
    )
    return HostParts(
        directory=directory,
        config=config,
        keeper=keeper,
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
        service_manager=_service_manager(pump, lifecycle, watchdog.health),
    )


def _worker_kind(
    directory: Path,
    config: AgentConfig,
    keeper: VaultKeeper,
    *,
    reception: Reception,
    pump: LogPump,
    clock: AwakeClock,
) -> WorkerKind:
    if config.worker.command is None:
        return EntrypointWorkers(directory, config, reception=reception)
    from kagent_sdk.host.command_worker import CommandWorkers  # noqa: PLC0415 - few agents need it

    workers = CommandWorkers(
        directory,
        config,
        secrets=keeper.exposed,
        pump=pump,
        clock=clock,
        on_change=reception.on_change,
    )
    keeper.listeners.append(lambda: workers.share_secrets(keeper.exposed))
    return workers


def _service_manager(
    pump: LogPump, lifecycle: Lifecycle, health: Callable[[], Health]
) -> ServiceManager | None:
    if "NOTIFY_SOCKET" not in os.environ:
        return None
    from kagent_sdk.host.sd_notify import find_service_manager  # noqa: PLC0415 - few have one

    return find_service_manager(os.environ, pump=pump, lifecycle=lifecycle, health=health)


def _keeper(directory: Path, config: AgentConfig, vault: Vault, pump: LogPump) -> VaultKeeper:
    return VaultKeeper(
        directory,
        config.secrets,
        vault,
        load_token=lambda vault: load_token(vault, os.environ),
        token_file=os.environ.get(TOKEN_FILE_VARIABLE),
        pump=pump,
    )


def _journal(config: AgentConfig) -> MemoryJournal:
    return MemoryJournal(
        retention_s=config.tasks.retention_s,
        retention_count=config.tasks.retention_count,
        retention_bytes=config.tasks.retention_bytes,
    )


def _pids(pool: Pool) -> list[int]:
    return [os.getpid(), *(place.pid for place in pool.places if place.pid is not None)]
