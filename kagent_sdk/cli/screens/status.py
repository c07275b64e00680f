"""How an agent is doing, on one screen: what is well is quiet, what is not stands out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from kagent_sdk.cli.screens.sandbox import sandbox_line
from kagent_sdk.cli.screens.status_exits import exit_lines
from kagent_sdk.cli.screens.status_gpus import gpu_lines
from kagent_sdk.cli.screens.status_link import link_line
from kagent_sdk.cli.screens.status_state import state_lines
from kagent_sdk.cli.screens.status_tables import (
    LABEL_WIDTH,
    capability_table,
    loop_table,
    process_table,
    task_lines,
)
from kagent_sdk.cli.screens.style import (
    BAD,
    GOOD,
    NAME,
    QUIET,
    WARN,
    bar,
    indented,
    joined,
    pairs,
    styled,
    title,
    word,
    words,
)
from kagent_sdk.cli.text import clean_line, format_bytes, format_duration

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import RenderableType

    from kagent_sdk.protocol.last_exit import WorkerExit
    from kagent_sdk.protocol.status import (
        PressuresInfo,
        ProcessInfo,
        ReloadInfo,
        ResourcesInfo,
        StalledWorker,
        Status,
    )

LIFECYCLE_STYLES = {
    "starting": WARN,
    "ready": GOOD,
    "busy": GOOD,
    "draining": WARN,
    "stopping": WARN,
    "stopped": QUIET,
    "failed": BAD,
}
WIDE = 100
MAX_TRACE_LINES = 15
NOTABLE_PRESSURE_PERCENT = 1.0
"""Below it nobody waits for long enough to be told."""


def status_screen(status: Status, now: datetime, *, width: int) -> Group:
    """Return the whole screen, for a terminal of that many columns."""
    parts: list[RenderableType] = [_head(status, now), Text(), indented(_summary(status))]
    parts += _part("processes", process_table(status.processes, is_narrow=width < WIDE))
    parts += [indented(_words_of(process)) for process in status.processes if process.status_text]
    parts += _part("tasks", task_lines(status.tasks))
    if status.capabilities:
        parts += ["", indented(capability_table(status.capabilities))]
    if status.loops:
        parts += _part("loops", loop_table(status.loops, now))
    if lines := state_lines(status.state, now):
        parts += _part("state", Group(*lines))
    for worker in status.health.stalled:
        parts += _part(*_stalled(worker))
    if status.workers.last_crash is not None:
        parts += _part("last crash", _crash(status.workers.last_crash, now))
    if ends := exit_lines(status, now):
        parts += _part("last exit", Group(*ends))
    return Group(*parts)


def _part(head: str, content: RenderableType) -> list[RenderableType]:
    return ["", title(head), indented(content)]


def _head(status: Status, now: datetime) -> Group:
    agent, lifecycle = status.agent, status.lifecycle
    style = LIFECYCLE_STYLES.get(lifecycle.state, "")
    if not status.health.live:
        style = BAD
    since_s = (now - lifecycle.since).total_seconds()
    line = word(agent.name, NAME).append(f" {clean_line(agent.version)}  ", QUIET)
    line.append(f"● {lifecycle.state}", style)
    line.append(f" for {format_duration(max(since_s, 0))}", QUIET)
    facts = (
        f"kagent-sdk {agent.sdk_version}",
        f"python {agent.python_version}",
        f"up {format_duration(agent.uptime_s)}",
    )
    rows: list[RenderableType] = [line]
    if agent.description:
        rows.append(indented(words(agent.description)))
    rows.append(indented(styled(clean_line(" · ".join(facts)), QUIET)))
    return Group(*rows)


def _summary(status: Status) -> RenderableType:
    rows: list[tuple[str, RenderableType]] = [("health", _health(status))]
    rows.append(("memory", _memory(status.resources)))
    if status.resources.oom_kills:
        rows.append(("", styled(f"{status.resources.oom_kills} processes killed for memory", BAD)))
    rows.append(("cpu", _cpu(status.resources)))
    if status.resources.pids is not None:
        limit = status.resources.pids_limit
        of = f" of {limit}" if limit is not None else ""
        rows.append(("pids", Text(f"{status.resources.pids}{of}")))
    rows += [("gpu" if at == 0 else "", line) for at, line in enumerate(gpu_lines(status.gpus))]
    pressure = _pressure(status.resources.pressure)
    if pressure:
        rows.append(("pressure", pressure))
    if status.snapshots.last_error:
        rows.append(
            ("snapshot", styled(f"not made: {clean_line(status.snapshots.last_error)}", BAD))
        )
    if status.vault.error:
        rows.append(("vault", styled(f"not reloaded: {clean_line(status.vault.error)}", BAD)))
    if status.sandbox.mode is not None:
        rows.append(("sandbox", sandbox_line(status.sandbox)))
    if link := link_line(status.link):
        rows.append(("link", link))
    reload = _reload(status.reload)
    if reload:
        rows.append(("reload", reload))
    return pairs(rows, width=LABEL_WIDTH)


def _health(status: Status) -> Text:
    health = status.health
    if health.live and health.ready:
        return styled("live and ready", GOOD)
    text = styled("live", GOOD) if health.live else styled("not live", BAD)
    text.append(", ").append(
        "ready" if health.ready else "not ready", BAD if not health.live else WARN
    )
    why = health.detail or health.reason
    return text.append(f": {clean_line(why)}") if why else text


def _memory(resources: ResourcesInfo) -> Text:
    used, limit = resources.memory_used_bytes, resources.memory_limit_bytes
    if used is None:
        return word(None)
    if limit is None:
        return Text(format_bytes(used)).append("  no limit", QUIET)
    ratio = used / limit if limit else 1.0
    soft = resources.memory_soft_ratio
    style = BAD if resources.memory_near_limit else GOOD
    text = bar(ratio, style).append(f"  {format_bytes(used)} of {format_bytes(limit)}")
    text.append(f"  {ratio * 100:.0f} %", style)
    if resources.memory_near_limit:
        text.append("  takes no tasks", BAD)
    elif soft is not None:
        text.append(f"  no tasks from {soft * 100:.0f} %", QUIET)
    return text


def _cpu(resources: ResourcesInfo) -> Text:
    cores = resources.cpu_limit_cores
    parts = [styled(f"{cores:g} cores", "") if cores is not None else styled("no limit", QUIET)]
    if resources.cpu_usage_s is not None:
        parts.append(styled(f"{format_duration(resources.cpu_usage_s)} used", QUIET))
    if resources.cpu_throttled_s:
        parts.append(styled(f"held back for {format_duration(resources.cpu_throttled_s)}", WARN))
    return joined(parts)


def _pressure(pressure: PressuresInfo) -> Text:
    parts = []
    for name, info in (("memory", pressure.memory), ("cpu", pressure.cpu), ("io", pressure.io)):
        percent = None if info is None else info.some_avg10
        if percent is not None and percent >= NOTABLE_PRESSURE_PERCENT:
            parts.append(styled(f"{name} {percent:.0f} %", WARN))
    if parts and pressure.scope == "system":
        parts.append(styled("of the whole machine", QUIET))
    return joined(parts)


def _words_of(process: ProcessInfo) -> Text:
    line = styled(f"worker {process.index}", NAME).append(" says ", QUIET)
    return line.append(clean_line(process.status_text))


def _reload(reload: ReloadInfo) -> Text:
    """Return what became of the last reload; empty when there was none."""
    parts = []
    if reload.state == "reloading":
        parts.append(styled("new workers are starting", WARN))
    if reload.retiring:
        parts.append(styled("older workers finish their tasks", WARN))
    if reload.last is not None and reload.last.outcome == "failed":
        parts.append(styled(f"failed: {clean_line(reload.last.reason)}", BAD))
    if reload.last is not None and reload.last.needs_restart:
        keys = clean_line(", ".join(reload.last.needs_restart))
        parts.append(styled(f"needs a restart: {keys}", WARN))
    if reload.generation > 1:
        parts.append(styled(f"generation {reload.generation}", QUIET))
    return joined(parts)


def _stalled(worker: StalledWorker) -> tuple[str, RenderableType]:
    head = f"worker {worker.index} is {'stuck' if worker.stuck else 'stalled'}"
    silent = styled(f"silent for {format_duration(worker.silent_s)}", BAD if worker.stuck else WARN)
    return head, Group(silent, _trace(worker.stack))


def _crash(crash: WorkerExit, now: datetime) -> RenderableType:
    age = format_duration(max((now - crash.at).total_seconds(), 0))
    line = Text(f"worker {crash.worker}: ").append(clean_line(crash.how), BAD)
    return Group(line.append(f"  {age} ago", QUIET), _trace(crash.traceback))


def _trace(text: str | None) -> Text:
    """Return the end of a stack or traceback: what happened stands there."""
    lines = (text or "").rstrip().splitlines()
    cut = ["…"] if len(lines) > MAX_TRACE_LINES else []
    return words("\n".join([*cut, *lines[-MAX_TRACE_LINES:]]), QUIET)
