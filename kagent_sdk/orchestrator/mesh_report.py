"""What ``/status`` tells of the mesh: its agents, what they can do, and its tasks."""

from __future__ import annotations

import asyncio
import os
import platform
import resource
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kagent_sdk import __version__
from kagent_sdk.orchestrator.broker import Broker
from kagent_sdk.orchestrator.registry import Instance, Registry
from kagent_sdk.orchestrator.task import Phase
from kagent_sdk.protocol.mesh_status import (
    MeshAgent,
    MeshCapability,
    MeshHealth,
    MeshStatus,
    MeshTasks,
    OrchestratorInfo,
    ReplicaInfo,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kagent_sdk.orchestrator.report import Figures, Identity
    from kagent_sdk.orchestrator.task import OpenTask

STATM = Path("/proc/self/statm")
PAGE_BYTES = os.sysconf("SC_PAGESIZE")


def build_status(
    broker: Broker,
    figures: Figures,
    identity: Identity,
    *,
    trouble: str | None,
) -> dict[str, Any]:
    """Return ``/status``, a `kagent_sdk.protocol.mesh_status.MeshStatus` as JSON, without ``fleet``.

    Args:
        broker: of whom is told.
        figures: of this moment.
        identity: which orchestrator this is.
        trouble: why its database takes no writes, if so.
    """
    is_draining = broker.stopping.is_set()
    now_s = asyncio.get_running_loop().time()
    tasks = list(broker.book.open.values())
    waiting = [task for task in tasks if task.phase is Phase.QUEUED]
    return MeshStatus(
        orchestrator=_describe(identity, "draining" if is_draining else "ready"),
        health=_health(trouble, is_draining=is_draining),
        agents=_agents(broker.registry, now_s),
        lost_agents=figures.agents_lost,
        capabilities=_capabilities(broker.registry, tasks),
        tasks=_tasks(figures, waiting, time.time()),
    ).model_dump(mode="json")


def _describe(identity: Identity, lifecycle: str) -> OrchestratorInfo:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return OrchestratorInfo(
        id=identity.id,
        sdk_version=__version__,
        python_version=platform.python_version(),
        pid=os.getpid(),
        url=identity.url,
        started_at=datetime.fromtimestamp(identity.started_at, UTC),
        uptime_s=round(max(time.time() - identity.started_at, 0), 3),
        lifecycle=lifecycle,
        rss_bytes=_rss_bytes(),
        cpu_s=round(usage.ru_utime + usage.ru_stime, 3),
    )


def _health(trouble: str | None, *, is_draining: bool) -> MeshHealth:
    """Return what the probes answer, and why."""
    if is_draining:
        return MeshHealth(ready=False, reason="draining", detail="it is shutting down")
    if trouble is not None:
        return MeshHealth(
            ready=False, reason="storage", detail=f"its database takes no tasks: {trouble}"
        )
    return MeshHealth()


def _agents(registry: Registry, now_s: float) -> tuple[MeshAgent, ...]:
    """Return the agents with their replicas; an agent that has left stays a while, without any."""
    capabilities: defaultdict[str, set[str]] = defaultdict(set)
    for agent, capability in registry.names(now_s):
        capabilities[agent].add(capability)
    agents = capabilities.keys() | set(registry.agents())  # some offer nothing
    agents |= registry.missing.agents(now_s)
    return tuple(
        MeshAgent(
            name=agent,
            capabilities=tuple(sorted(capabilities.get(agent, ()))),
            replicas=tuple(_replicas(registry, agent, now_s)),
        )
        for agent in sorted(agents)
    )


def _replicas(registry: Registry, agent: str, now_s: float) -> Iterator[ReplicaInfo]:
    present = registry.instances_of(agent)
    for one in present:
        yield _replica(one, now_s)
    for missing in registry.missing.of(agent, (one.registered_s for one in present), now_s):
        yield ReplicaInfo(
            instance=missing.instance,
            version=missing.version,
            sdk_version=missing.sdk_version,
            delivery=missing.delivery,
            url=missing.url,
            state="lost",
            heard_s=round(max(now_s - missing.seen_s, 0), 3),
        )


def _replica(instance: Instance, now_s: float) -> ReplicaInfo:
    registration, status = instance.registration, instance.status
    return ReplicaInfo(
        instance=instance.id,
        version=registration.version,
        sdk_version=registration.sdk_version,
        delivery=registration.delivery,
        url=registration.url,
        labels=dict(registration.labels),
        state=instance.phase,
        lifecycle=status.lifecycle,
        ready=instance.is_ready,
        reason=status.reason,
        working=status.working,
        queued=status.queued,
        leases=len(instance.leases),
        max_concurrency=registration.limits.max_concurrency,
        memory_used_bytes=status.memory_used_bytes,
        cpu_percent=status.cpu_percent,
        restarts=status.restarts,
        heard_s=round(max(now_s - instance.seen_s, 0), 3),
    )


def _capabilities(registry: Registry, tasks: Iterable[OpenTask]) -> tuple[MeshCapability, ...]:
    """Return the capabilities that agents offer, or that tasks wait for."""
    agents: defaultdict[str, set[str]] = defaultdict(set)
    ready: Counter[str] = Counter()
    for instance in registry:
        for name in instance.capabilities:
            agents[name].add(instance.agent)
            ready[name] += instance.is_ready
    queued: Counter[str] = Counter()
    working: Counter[str] = Counter()
    for task in tasks:
        counts = queued if task.phase is Phase.QUEUED else working
        counts[task.record.target.capability] += 1
    return tuple(
        MeshCapability(
            name=name,
            agents=tuple(sorted(agents.get(name, ()))),
            ready=ready[name],
            queued=queued[name],
            working=working[name],
        )
        for name in sorted(agents.keys() | queued.keys())
    )


def _tasks(figures: Figures, waiting: Iterable[OpenTask], now: float) -> MeshTasks:
    """Return the tasks now and so far; ``now`` is in seconds since the epoch."""
    oldest = min((task.record.created_at for task in waiting), default=None)
    return MeshTasks(
        queued=figures.waiting,
        working=sum(n for phase, n in figures.phases.items() if phase != "queued"),
        submitted=figures.submitted,
        completed=figures.ended["completed"],
        failed=figures.ended["failed"],
        canceled=figures.ended["canceled"],
        kept=figures.kept,
        oldest_queued_s=None if oldest is None else round(max(now - oldest, 0), 3),
        leases=sum(figures.phases[name] for name in ("offered", "held", "away")),
        retries=figures.retries,
        lost_leases=sum(figures.losses.values()),
        refused_reports=sum(n for reason, n in figures.reports.items() if reason != "taken"),
    )


def _rss_bytes() -> int | None:
    """Read the second number of ``/proc/self/statm``: pages that are resident (proc(5))."""
    try:
        return int(STATM.read_text().split()[1]) * PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return None
