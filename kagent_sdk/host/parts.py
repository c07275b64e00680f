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
from kagent_sdk.host.audit import HostAudit
from kagent_sdk.host.callbacks import Callbacks
from kagent_sdk.host.children import Children
from kagent_sdk.host.counters import Counters
from kagent_sdk.host.durability import JOURNAL, Durability, build_journal
from kagent_sdk.host.egress import Egress
from kagent_sdk.host.engine import Engine
from kagent_sdk.host.entrypoint_worker import EntrypointWorkers
from kagent_sdk.host.exits import Exits
from kagent_sdk.host.folder import AgentFolder
from kagent_sdk.host.health import AwakeClock, Health
from kagent_sdk.host.http.auth import load_token
from kagent_sdk.host.lifecycle import Lifecycle
from kagent_sdk.host.link import HostLink, LinkSources
from kagent_sdk.host.link_checks import load_link_token, token_files
from kagent_sdk.host.logs.pump import LogPump
from kagent_sdk.host.memory import MemoryVerdict
from kagent_sdk.host.monitor import Monitor
from kagent_sdk.host.place import Place
from kagent_sdk.host.pool import Pool
from kagent_sdk.host.reception import Keepers, Reception
from kagent_sdk.host.reconfiguration import Reconfiguration
from kagent_sdk.host.reloader import Reloader
from kagent_sdk.host.snapshots import Snapshots
from kagent_sdk.host.state_keeper import StateKeeper
from kagent_sdk.host.succession import Succession
from kagent_sdk.host.task import Worker
from kagent_sdk.host.vault import Vault
from kagent_sdk.host.vault_keeper import VaultKeeper
from kagent_sdk.host.watchdog import TICK_S, Watchdog
from kagent_sdk.host.worker_kind import WorkerKind
from kagent_sdk.host.worker_sandbox import WorkerSandbox
from kagent_sdk.host.worker_start import WorkerStart
from kagent_sdk.storage.thread import Storage

if TYPE_CHECKING:
    from kagent_sdk.host.debug_desk import DebugDesk
    from kagent_sdk.host.program_files import ProgramFiles
    from kagent_sdk.host.sd_notify import ServiceManager
    from kagent_sdk.link.port import Link

EGRESS_TOKEN = "egress_token"  # noqa: S105 - how the log calls it
"""It stands in the environment of workers, and in URLs that HTTP clients write to the log."""

CLOCK_TOLERANCE_S = 1.0
"""The host may be this late with its own ticks before the workers' silence stops counting."""


@dataclass(frozen=True, slots=True)
class HostParts:
    """Everything that one host owns. `kagent_sdk.host.host.Host` gives it its life.

    Attributes:
        directory: the agent's folder.
        started_at: seconds since the epoch.
        service_manager: systemd or podman, if one started the host and wants to hear of it.
        debug: the debug socket, where debugging is on.
    """

    directory: Path
    keeper: VaultKeeper
    started_at: float
    lifecycle: Lifecycle
    counters: Counters
    durability: Durability
    pump: LogPump
    exits: Exits
    engine: Engine
    children: Children
    succession: Succession
    reloader: Reloader
    snapshots: Snapshots
    watchdog: Watchdog
    monitor: Monitor
    callbacks: Callbacks
    audit: HostAudit
    egress: Egress
    link: HostLink
    service_manager: ServiceManager | None
    debug: DebugDesk | None

    @property
    def pool(self) -> Pool:
        """The generation of workers that gets the tasks."""
        return self.succession.pool

    @property
    def state(self) -> StateKeeper:
        """Who keeps the agent's state."""
        return self.durability.state

    @property
    def config(self) -> AgentConfig:
        """The configuration in force: that of this generation."""
        return self.succession.pool.config

    def pids(self) -> list[int]:
        """Return the process ids of the host and its workers."""
        return _pids(self.succession)


def build_parts(folder: AgentFolder, vault: Vault, sandbox: WorkerSandbox) -> HostParts:
    """Put a host together; nothing is started. Called in the event loop."""
    config, directory = sandbox.first.config, folder.path
    started_at = time.time()
    lifecycle = Lifecycle(started_at)
    pump = LogPump(
        directory / "logs" / "runtime.log", agent=config.name or "agent", config=config.logs
    )
    keeper = _keeper(directory, sandbox, vault, pump)
    clock = AwakeClock(asyncio.get_running_loop().time(), TICK_S + CLOCK_TOLERANCE_S)
    children = Children()

    later = _Later()
    durability = _durability(directory, config, pump, later)
    engine = durability.engine
    callbacks = _callbacks(durability, config, keeper, pump)
    exits = Exits(directory, pump=pump, places=lambda: _places(succession), started_at=started_at)
    files = _program_files(directory, config, keeper, pump)
    keepers = Keepers(keeper, durability.state, later.link)
    succession = PoolBuilder(
        sandbox, engine, children, pump, keepers, exits, files, clock, later.refresh
    ).begin()
    keeper.listeners.append(succession.share_secrets)
    watchdog = Watchdog(succession, lifecycle=lifecycle, engine=engine, pump=pump, clock=clock)
    later.succession, later.watchdog, later.durability = succession, watchdog, durability
    service_manager = _service_manager(pump, lifecycle, watchdog.health)
    monitor = _monitor(config, engine, succession, later, pump)
    reloader = Reloader(
        succession,
        _Configurable(folder, keeper, engine, monitor, callbacks, pump, sandbox.egress),
        monitor=monitor,
        pump=pump,
        service_manager=service_manager,
    )
    return HostParts(
        directory=directory,
        keeper=keeper,
        started_at=started_at,
        lifecycle=lifecycle,
        counters=engine.counters,
        durability=durability,
        pump=pump,
        exits=exits,
        engine=engine,
        children=children,
        succession=succession,
        reloader=reloader,
        snapshots=_snapshots(directory, durability, succession, keeper, pump),
        watchdog=watchdog,
        monitor=monitor,
        callbacks=callbacks,
        audit=_audit(sandbox.first, succession, pump),
        egress=sandbox.egress,
        link=_link(later, directory, keeper, pump, lifecycle, monitor),
        service_manager=service_manager,
        debug=_debug(directory, config, succession, pump),
    )


class _Later:
    """What the first parts call of those that come last, and that are made with the first.

    The engine kills workers through the succession, and what changes its gate is told to the
    watchdog.
    """

    succession: Succession
    watchdog: Watchdog
    durability: Durability
    host_link: HostLink

    def is_idle(self) -> bool:
        return self.durability.engine.dispatcher.is_idle

    def kill(self, worker: Worker, reason: str) -> None:
        self.succession.kill(worker, reason)

    def note_memory(self, verdict: MemoryVerdict) -> None:
        self.watchdog.note_memory(verdict.message)

    def note_trouble(self, trouble: str | None) -> None:
        self.durability.note_trouble(trouble)
        self.watchdog.note_journal(trouble or "")

    def refresh(self) -> None:
        self.watchdog.refresh()

    def link(self) -> Link | None:
        return self.host_link.current()


@dataclass(frozen=True, slots=True)
class _Configurable:
    """The parts outside the generations that a reload reads anew or configures."""

    folder: AgentFolder
    keeper: VaultKeeper
    engine: Engine
    monitor: Monitor
    callbacks: Callbacks
    pump: LogPump
    egress: Egress

    def prepare(self, present: AgentConfig) -> Reconfiguration:
        plan = self.folder.prepare_reload(present)
        self.keeper.read_anew(plan.config.secrets)
        if plan.config.sandbox.network.allow:
            self.keeper.guard(EGRESS_TOKEN, self.egress.mark)
        return plan

    def apply(self, config: AgentConfig) -> None:
        self.engine.configure(config.tasks)
        self.monitor.configure(config.limits)
        self.pump.configure(config.logs)
        self.keeper.configure(config.secrets)
        self.callbacks.configure(config.callbacks)


@dataclass(frozen=True, slots=True)
class PoolBuilder:
    """What all generations of workers have in common.

    Attributes:
        files: of programs; None where an entrypoint runs.
        on_change: called when a worker of any of them became ready, recovered or was lost.
    """

    sandbox: WorkerSandbox
    engine: Engine
    children: Children
    pump: LogPump
    keepers: Keepers
    exits: Exits
    files: ProgramFiles | None
    clock: AwakeClock
    on_change: Callable[[], None]

    def begin(self) -> Succession:
        """Return the first generation, and what builds those that follow it; nothing is started."""
        first = self.build_with(self.sandbox.first)
        return Succession(first, build=self.build, engine=self.engine, pump=self.pump)

    def build(self, config: AgentConfig) -> Pool:
        """Return a generation that runs by this configuration; nothing is started.

        Raises:
            SandboxError: its workers cannot be confined as it says.
        """
        return self.build_with(self.sandbox.start_by(config))

    def build_with(self, start: WorkerStart) -> Pool:
        """Return a generation that is started this way; nothing is."""
        config = start.config

        def note_change() -> None:
            pool.changed.set()
            self.on_change()

        reception = Reception(
            config,
            keepers=self.keepers,
            engine=self.engine,
            pump=self.pump,
            clock=self.clock,
            on_change=note_change,
        )
        pool = Pool(
            config,
            kind=self._kind(start, reception),
            reception=reception,
            children=self.children,
            pump=self.pump,
            exits=self.exits,
        )
        pool.on_end = lambda: self.sandbox.egress.withdraw(start.grant)
        return pool

    def _kind(self, start: WorkerStart, reception: Reception) -> WorkerKind:
        if self.files is None:
            return EntrypointWorkers(start, reception=reception)
        from kagent_sdk.host.command_worker import CommandWorkers  # noqa: PLC0415 - few need it

        return CommandWorkers(
            start,
            files=self.files,
            pump=self.pump,
            clock=self.clock,
            on_change=reception.on_change,
        )


def _program_files(
    directory: Path, config: AgentConfig, keeper: VaultKeeper, pump: LogPump
) -> ProgramFiles | None:
    if config.worker.command is None:
        return None
    from kagent_sdk.host.program_files import ProgramFiles  # noqa: PLC0415 - few agents need it

    return ProgramFiles(directory, keeper, pump)


def _debug(
    directory: Path, config: AgentConfig, succession: Succession, pump: LogPump
) -> DebugDesk | None:
    if not config.debug.enabled:
        return None
    from kagent_sdk.host.debug_desk import DebugDesk  # noqa: PLC0415 - few agents are debugged

    return DebugDesk(directory, config.debug, succession=succession, pump=pump)


def _places(succession: Succession) -> list[Place]:
    return [place for pool in succession.pools for place in pool.places]


def _audit(start: WorkerStart, succession: Succession, pump: LogPump) -> HostAudit:
    vault = start.directory / start.config.secrets.file
    return HostAudit(start, vault, places=lambda: _places(succession), pump=pump)


def _monitor(
    config: AgentConfig, engine: Engine, succession: Succession, later: _Later, pump: LogPump
) -> Monitor:
    return Monitor(
        config,
        engine=engine,
        pids=lambda: _pids(succession),
        on_memory=later.note_memory,
        pump=pump,
    )


def _service_manager(
    pump: LogPump, lifecycle: Lifecycle, health: Callable[[], Health]
) -> ServiceManager | None:
    if "NOTIFY_SOCKET" not in os.environ:
        return None
    from kagent_sdk.host.sd_notify import find_service_manager  # noqa: PLC0415 - few have one

    return find_service_manager(os.environ, pump=pump, lifecycle=lifecycle, health=health)


def _keeper(directory: Path, sandbox: WorkerSandbox, vault: Vault, pump: LogPump) -> VaultKeeper:
    config = sandbox.first.config
    keeper = VaultKeeper(
        directory,
        config.secrets,
        vault,
        load_tokens=lambda vault: (
            load_token(vault, os.environ),
            load_link_token(vault, config.orchestrator, os.environ),
        ),
        token_files=token_files(config.orchestrator, os.environ),
        pump=pump,
    )
    if sandbox.first.grant is not None:
        keeper.guard(EGRESS_TOKEN, sandbox.egress.mark)
    return keeper


def _durability(directory: Path, config: AgentConfig, pump: LogPump, later: _Later) -> Durability:
    storage = Storage(directory / JOURNAL, config.tasks.durability, on_trouble=later.note_trouble)
    state = StateKeeper(storage, directory, config, pump=pump, is_idle=later.is_idle)
    journal = build_journal(storage, config.tasks, apply_state=state.apply)
    engine = Engine(config, journal, Counters(), later.kill)
    return Durability(storage, journal, state, engine=engine, pump=pump, on_change=later.refresh)


def _snapshots(
    directory: Path,
    durability: Durability,
    succession: Succession,
    keeper: VaultKeeper,
    pump: LogPump,
) -> Snapshots:
    return Snapshots(
        durability.storage,
        directory,
        config=lambda: succession.pool.config,
        keeper=keeper,
        pump=pump,
    )


def _link(
    later: _Later,
    directory: Path,
    keeper: VaultKeeper,
    pump: LogPump,
    lifecycle: Lifecycle,
    monitor: Monitor,
) -> HostLink:
    sources = LinkSources(
        directory,
        later.durability,
        keeper,
        pump,
        lifecycle,
        monitor,
        later.succession,
        later.watchdog,
    )
    later.host_link = link = HostLink(sources)
    later.durability.has_link = link.is_on
    sources.watchdog.find_link_fault = link.find_fault
    sources.watchdog.on_refresh = link.note_change
    return link


def _callbacks(
    durability: Durability, config: AgentConfig, keeper: VaultKeeper, pump: LogPump
) -> Callbacks:
    callbacks = Callbacks(durability.storage, config.callbacks, keeper, pump)
    durability.journal.listeners["webhook"] = callbacks.added
    keeper.listeners.append(callbacks.reconsider)
    return callbacks


def _pids(succession: Succession) -> list[int]:
    pids = (place.pid for place in _places(succession))
    return [os.getpid(), *(pid for pid in pids if pid is not None)]
