"""Builds the ``/status`` document from what the parts of the host know."""

from __future__ import annotations

import platform
import time
from dataclasses import asdict
from datetime import UTC, datetime

from kagent_sdk import __version__
from kagent_sdk.host.audit import HostAudit
from kagent_sdk.host.cgroup import CgroupSample
from kagent_sdk.host.cgroup_files import Pressure
from kagent_sdk.host.gpus import Gpus
from kagent_sdk.host.health import Verdict
from kagent_sdk.host.lifecycle import LifecycleState
from kagent_sdk.host.link_report import build_link_info
from kagent_sdk.host.monitor import Monitor
from kagent_sdk.host.parts import HostParts
from kagent_sdk.host.place import Place
from kagent_sdk.host.processes import ProcessSample
from kagent_sdk.host.state_keeper import StateKeeper
from kagent_sdk.host.trial import Outcome
from kagent_sdk.protocol import status
from kagent_sdk.protocol.last_exit import LastExit
from kagent_sdk.protocol.manifest import LoopStatus
from kagent_sdk.protocol.sandbox import ControlInfo, EgressInfo, SandboxInfo
from kagent_sdk.sandbox.audit.wire import encode_finding

LAST_ERROR_CHARS = 1000
"""The worker cuts what a loop raised at this length."""


def build_status(host: HostParts) -> status.Status:
    """Return the whole document; reads memory only, so sample before."""
    places, monitor = host.pool.places, host.monitor
    return status.Status(
        agent=_agent(host),
        lifecycle=status.LifecycleInfo(
            state=host.lifecycle.state.value, since=_time(host.lifecycle.since_s)
        ),
        health=_health(host),
        processes=(_host_process(host, monitor), *(_worker(host, monitor, p) for p in places)),
        resources=_resources(host, monitor),
        gpus=_gpus(monitor.gpus),
        tasks=_tasks(host),
        capabilities=_capabilities(host),
        loops=tuple(
            _loop(host, place, loop)
            for place in places
            if place.heartbeat is not None
            for loop in place.heartbeat.loops
        ),
        workers=_workers(host),
        reload=build_reload(host),
        snapshots=build_snapshots(host),
        logs=status.LogsInfo(
            level=host.config.logs.level,
            file="logs/runtime.log",
            **host.pump.statistics()._asdict(),
        ),
        vault=status.VaultInfo(
            present=host.keeper.vault.is_present,
            exposed=tuple(host.config.secrets.expose),
            loaded_at=_time(host.keeper.loaded_at),
            generation=host.keeper.generation,
            error=host.keeper.error,
        ),
        state=_state(host.state),
        outbox=_outbox(host),
        link=build_link_info(host),
        sandbox=_sandbox(host.audit),
        egress=EgressInfo.model_validate(host.egress.section()),
        last_exit=LastExit(host=host.exits.host, worker=host.exits.worker),
    )


def _gpus(gpus: Gpus) -> status.GpusInfo:
    found = None if gpus.sample.gpus is None else len(gpus.sample.gpus)
    note = gpus.sample.note
    if not note and found is not None and found < gpus.wanted:
        note = f"limits.gpus is {gpus.wanted}, and {found} can be seen"
    return status.GpusInfo(
        wanted=gpus.wanted,
        found=found,
        note=note or None,
        devices=tuple(status.GpuInfo(**asdict(gpu)) for gpu in gpus.sample.gpus or ()),
    )


def _sandbox(audit: HostAudit) -> SandboxInfo:
    controls = tuple(ControlInfo(**encode_finding(finding)) for finding in audit.findings)
    return SandboxInfo(
        mode=audit.policy.mode.value,
        isolation=audit.policy.isolation.value,
        checked_at=None if audit.checked_at is None else _time(audit.checked_at),
        holds=None if audit.checked_at is None else not any(one.is_open for one in controls),
        controls=controls,
    )


def _state(keeper: StateKeeper) -> status.StateInfo:
    exported_at_s = keeper.record.at_s
    return status.StateInfo(
        keys=keeper.usage.keys,
        used_bytes=keeper.usage.used_bytes,
        quota_bytes=keeper.quota_bytes,
        version=keeper.usage.version,
        exported_version=keeper.record.version,
        exported_at=None if exported_at_s is None else _time(exported_at_s),
        export_error=keeper.error,
        problems=tuple(
            status.StateProblem(file=one.file, at=_time(one.at_s), reason=one.reason)
            for one in keeper.problems
        ),
    )


def _loop(host: HostParts, place: Place, loop: LoopStatus) -> status.LoopInfo:
    values = loop.model_dump()
    if loop.last_error is not None:
        values["last_error"] = host.keeper.redactor.redact_cut(loop.last_error, LAST_ERROR_CHARS)
    return status.LoopInfo(**values, worker=place.index)


def build_reload(host: HostParts) -> status.ReloadInfo:
    """Return the part about reloads, which ``POST /v1/reload`` answers with too."""
    last = host.reloader.last
    return status.ReloadInfo(
        state=host.reloader.stage.value,
        generation=host.pool.generation,
        retiring=host.succession.retiring,
        last=None if last is None else _reload_outcome(last),
    )


def build_snapshots(host: HostParts) -> status.SnapshotsInfo:
    """Return the part about snapshots, which ``POST /v1/snapshots`` may answer with too."""
    outcome = host.snapshots.last
    last = None
    if outcome is not None and outcome.made is not None:
        last = status.SnapshotInfo(
            name=outcome.made.name,
            created_at=outcome.made.manifest.created_at,
            size_bytes=outcome.made.size_bytes,
            took_s=outcome.took_s,
        )
    return status.SnapshotsInfo(
        running=host.snapshots.is_running, last=last, last_error=host.snapshots.last_error
    )


def _reload_outcome(outcome: Outcome) -> status.ReloadOutcome:
    return status.ReloadOutcome(
        outcome="completed" if outcome.is_completed else "failed",
        at=_time(outcome.at),
        took_s=outcome.took_s,
        reason=outcome.reason or None,
        traceback=outcome.traceback_text or None,
        changed=outcome.changed,
        needs_restart=outcome.needs_restart,
    )


def _time(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)


def _agent(host: HostParts) -> status.AgentInfo:
    return status.AgentInfo(
        name=host.config.name or "agent",
        version=host.config.version,
        description=host.config.description,
        sdk_version=__version__,
        python_version=platform.python_version(),
        started_at=_time(host.started_at),
        uptime_s=time.time() - host.started_at,
    )


def _health(host: HostParts) -> status.HealthInfo:
    health = host.watchdog.health()
    stalled = tuple(
        status.StalledWorker(
            index=place.index,
            pid=place.pid,
            silent_s=host.watchdog.silent_s(place) or 0.0,
            stuck=host.watchdog.verdict(place) is Verdict.STUCK,
            stack=place.stack,
        )
        for place in host.pool.places
        if host.watchdog.verdict(place) in (Verdict.STALLED, Verdict.STUCK)
    )
    return status.HealthInfo(
        live=health.live,
        ready=health.ready,
        reason=None if health.reason is None else health.reason.value,
        detail=health.detail or health.live_detail or None,
        stalled=stalled,
    )


def _measured(sample: ProcessSample | None) -> dict[str, float | int | None]:
    if sample is None:
        return {}
    return {
        "rss_bytes": sample.rss_bytes,
        "pss_bytes": sample.pss_bytes,
        "uss_bytes": sample.uss_bytes,
        "cpu_percent": sample.cpu_percent,
        "cpu_s": sample.cpu_s,
        "threads": sample.threads,
        "fds": sample.fds,
    }


def _host_process(host: HostParts, monitor: Monitor) -> status.ProcessInfo:
    pid = host.pids()[0]
    return status.ProcessInfo(
        role="host",
        pid=pid,
        state=host.lifecycle.state.value,
        lag_ms=host.watchdog.lag_ms,
        started_at=_time(host.started_at),
        **_measured(monitor.processes.get(pid)),
    )


def _worker(host: HostParts, monitor: Monitor, place: Place) -> status.ProcessInfo:
    beat = place.heartbeat
    return status.ProcessInfo(
        role="worker",
        index=place.index,
        pid=place.pid,
        state=_worker_state(host, place),
        lag_ms=None if beat is None else beat.lag_ms,
        restarts=place.restarts,
        status_text=place.status_text,
        started_at=_time(place.started_at) if place.pid is not None else None,
        running=None if place.connection is None else len(place.connection.calls),
        threads_busy=None if beat is None else beat.threads_busy,
        **_measured(None if place.pid is None else monitor.processes.get(place.pid)),
    )


def _worker_state(host: HostParts, place: Place) -> str:
    if place.pulse is None:
        return "stopped" if host.lifecycle.is_ending else "backing_off"
    if host.lifecycle.state is LifecycleState.STOPPING:
        return "stopping"
    verdict = host.watchdog.verdict(place)
    return "ready" if verdict is Verdict.ALIVE else str(verdict)


def _resources(host: HostParts, monitor: Monitor) -> status.ResourcesInfo:
    use = monitor.memory.use
    sample = monitor.cgroup
    limit = host.config.limits.memory_bytes
    facts = status.ResourcesInfo(
        memory_limit_bytes=limit if use is None else use.limit_bytes,
        memory_used_bytes=None if use is None else use.used_bytes,
        memory_ratio=monitor.memory.ratio,
        memory_soft_ratio=host.config.limits.memory_soft_ratio,
        memory_near_limit=monitor.memory.is_near_limit,
    )
    return facts if sample is None else facts.model_copy(update=_cgroup(facts, sample))


def _cgroup(facts: status.ResourcesInfo, sample: CgroupSample) -> dict[str, object]:
    memory, cpu, pids, pressure = sample.memory, sample.cpu, sample.pids, sample.pressure
    used, limit = facts.memory_used_bytes, facts.memory_limit_bytes
    return {
        "cgroup": sample.version,
        "memory_limit_bytes": memory.limit_bytes if limit is None else limit,
        "memory_used_bytes": memory.used_bytes if used is None else used,
        "oom_kills": memory.oom_kills,
        "cpu_limit_cores": cpu.limit_cores,
        "cpu_usage_s": cpu.usage_s,
        "cpu_throttled_periods": cpu.throttled_periods,
        "cpu_throttled_s": cpu.throttled_s,
        "pids": pids.current,
        "pids_limit": pids.limit,
        "pressure": status.PressuresInfo(
            scope=pressure.scope,
            memory=_pressure(pressure.memory),
            cpu=_pressure(pressure.cpu),
            io=_pressure(pressure.io),
        ),
    }


def _pressure(waited: Pressure | None) -> status.PressureInfo | None:
    if waited is None:
        return None
    return status.PressureInfo(
        some_avg10=waited.some.avg10,
        some_avg60=waited.some.avg60,
        some_avg300=waited.some.avg300,
        some_total_s=waited.some.total_s,
        full_avg10=waited.full.avg10,
        full_avg60=waited.full.avg60,
        full_avg300=waited.full.avg300,
        full_total_s=waited.full.total_s,
    )


def _tasks(host: HostParts) -> status.TasksInfo:
    engine, total = host.engine, host.counters.total()
    return status.TasksInfo(
        working=engine.dispatcher.running,
        working_limit=host.config.tasks.max_concurrency * host.config.worker.count,
        queued=len(engine.dispatcher.queue),
        queued_limit=host.config.tasks.max_queue,
        queued_bytes=engine.dispatcher.queue.size_bytes,
        submitted=total.submitted,
        completed=total.completed,
        failed=total.failed,
        canceled=total.canceled,
        rejected=total.rejected,
        kept=engine.journal.kept,
        kept_bytes=engine.journal.kept_bytes,
    )


def _capabilities(host: HostParts) -> tuple[status.CapabilityInfo, ...]:
    engine = host.engine
    waiting: dict[str, int] = engine.dispatcher.queue.count_by_name()
    return tuple(
        status.CapabilityInfo(
            name=name,
            running=engine.dispatcher.running_of(name),
            queued=waiting.get(name, 0),
            limit=manifest.max_concurrency,
            completed=counted.completed,
            failed=counted.failed,
            canceled=counted.canceled,
        )
        for name, manifest in engine.dispatcher.capabilities.items()
        for counted in (host.counters.capability(name),)
    )


def _outbox(host: HostParts) -> status.OutboxInfo:
    webhooks = host.callbacks.webhooks
    if webhooks is None:
        return status.OutboxInfo(pending=0 if host.callbacks.has_none else None)
    stats, tally = webhooks.stats, webhooks.tally
    return status.OutboxInfo(
        pending=None if stats is None else stats.pending,
        pending_bytes=None if stats is None else stats.pending_bytes,
        oldest_s=(
            None
            if stats is None or stats.oldest_at is None
            else max(0.0, time.time() - stats.oldest_at)
        ),
        delivered=tally.delivered,
        failed=tally.failed,
        dropped=None if stats is None else stats.dropped,
        last_error=tally.last_error,
        last_drop=None if stats is None else stats.last_drop,
    )


def _workers(host: HostParts) -> status.WorkersInfo:
    places = host.pool.places
    crashes = [place.last_crash for place in places if place.last_crash is not None]
    return status.WorkersInfo(
        count=len(places),
        ready=sum(place.is_ready for place in places),
        restarts=sum(place.restarts for place in places),
        last_crash=max(crashes, key=lambda crash: crash.at, default=None),
    )
