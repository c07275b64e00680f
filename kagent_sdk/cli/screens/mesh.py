"""How a mesh is doing, on one screen: what is wrong comes first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from kagent_sdk.cli.screens.mesh_fleet import fleet_problems, fleet_table
from kagent_sdk.cli.screens.style import (
    BAD,
    GOOD,
    NAME,
    QUIET,
    WARN,
    indented,
    joined,
    pairs,
    plain_table,
    styled,
    title,
    word,
)
from kagent_sdk.cli.text import clean_line, format_bytes, format_duration
from kagent_sdk.protocol.mesh_status import MeshStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from kagent_sdk.protocol.mesh_status import (
        MeshAgent,
        MeshCapability,
        MeshTasks,
        NatsStatus,
        OrchestratorInfo,
        ReplicaInfo,
    )

LABEL_WIDTH = 9
INSTANCE_CHARS = 8
"""Of a name that is random and long: enough to tell the replicas of one agent apart."""

MAX_PROBLEMS = 20
LATE_MS = 100.0
LIFECYCLE_STYLES = {"ready": GOOD, "stopped": QUIET, "failed": BAD}
REPLICA_STYLES = {"ready": GOOD, "busy": GOOD, "lost": BAD, "failed": BAD}


def mesh_screen(status: MeshStatus) -> Group:
    """Return the whole screen."""
    parts: list[RenderableType] = [_head(status), Text(), indented(_summary(status))]
    if problems := _problems(status):
        shown = problems[:MAX_PROBLEMS]
        if len(problems) > MAX_PROBLEMS:
            shown.append(styled(f"and {len(problems) - MAX_PROBLEMS} more", QUIET))
        parts += _part("problems", Group(*shown))
    if status.agents:
        parts += _part("agents", agent_table(status.agents))
    else:
        link = (status.fleet or {}).get("link")
        none = f"tasks go through {clean_line(link)}" if link else "none has registered"
        parts += _part("agents", styled(none, QUIET))
    if status.fleet and (table := fleet_table(status.fleet)) is not None:
        parts += _part("started here", table)
    parts += _part("tasks", _task_lines(status.tasks))
    if status.capabilities:
        parts += ["", indented(capability_table(status.capabilities))]
    return Group(*parts)


def nats_screen(status: NatsStatus) -> Group:
    """Return the agents that are linked to NATS, those with a problem first."""
    agents = status.agents
    mesh = MeshStatus(agents=agents)
    head = styled("NATS", NAME).append("  ").append(clean_line(status.url), QUIET)
    parts: list[RenderableType] = [head, indented(_count_agents(mesh))]
    if problems := _problems(mesh):
        parts += _part("problems", Group(*problems[:MAX_PROBLEMS]))
    content = agent_table(agents) if agents else styled("none has registered", QUIET)
    return Group(*parts, *_part("agents", content))


def agent_table(agents: Sequence[MeshAgent]) -> Table:
    """Return agents, one to a line, and below one with several replicas a line for each of them."""
    numbers = ("REPLICAS", "WORKING", "QUEUED")
    table = plain_table(
        "AGENT", "STATE", *numbers, "VERSION", "ADDRESS", right=numbers, fold=("ADDRESS",)
    )
    for agent in sorted(agents, key=lambda agent: agent.name):
        replicas = agent.replicas
        alone = replicas[0] if len(replicas) == 1 else None
        table.add_row(
            word(agent.name, NAME),
            Text() if alone is None else _state_of(alone),
            _share(_ready(replicas), len(replicas)),
            word(sum(one.working for one in replicas)),
            word(sum(one.queued for one in replicas)),
            word(", ".join(sorted({one.version for one in replicas})), QUIET),
            Text() if alone is None else _address(alone),
        )
        for one in replicas if alone is None else ():
            table.add_row(
                styled(f"  {clean_line(one.instance)[:INSTANCE_CHARS]}", QUIET),
                _state_of(one),
                Text(),
                word(one.working, QUIET),
                word(one.queued, QUIET),
                word(one.version, QUIET),
                _address(one),
            )
    return table


def capability_table(capabilities: Sequence[MeshCapability]) -> Table:
    """Return what the mesh can do, who does it, and how busy that is."""
    numbers = ("READY", "WORKING", "QUEUED")
    table = plain_table("CAPABILITY", *numbers, "AGENTS", right=numbers, fold=("AGENTS",))
    for capability in sorted(capabilities, key=lambda capability: capability.name):
        table.add_row(
            word(capability.name, NAME),
            styled(str(capability.ready), "" if capability.ready else BAD),
            word(capability.working),
            styled(str(capability.queued), WARN if capability.queued else ""),
            word(", ".join(capability.agents), QUIET),
        )
    return table


def _part(head: str, content: RenderableType) -> list[RenderableType]:
    return ["", title(head), indented(content)]


def _head(status: MeshStatus) -> Group:
    orchestrator = status.orchestrator
    style = LIFECYCLE_STYLES.get(orchestrator.lifecycle, WARN) if status.health.live else BAD
    line = styled("orchestrator", NAME).append("  ")
    line.append(f"● {clean_line(orchestrator.lifecycle)}", style)
    line.append(f"  up {format_duration(max(orchestrator.uptime_s, 0))}", QUIET)
    facts = [
        f"kagent-sdk {orchestrator.sdk_version}" if orchestrator.sdk_version else "",
        f"python {orchestrator.python_version}" if orchestrator.python_version else "",
        f"pid {orchestrator.pid}" if orchestrator.pid is not None else "",
        orchestrator.url or "",
    ]
    known = clean_line(" · ".join(filter(None, facts)))
    return Group(line, *([indented(styled(known, QUIET))] if known else []))


def _summary(status: MeshStatus) -> Table:
    rows: list[tuple[str, RenderableType]] = [("health", _health(status))]
    rows.append(("agents", _count_agents(status)))
    if usage := _usage(status.orchestrator):
        rows.append(("uses", usage))
    return pairs(rows, width=LABEL_WIDTH)


def _health(status: MeshStatus) -> Text:
    health = status.health
    if health.live and health.ready:
        return styled("live and ready", GOOD)
    text = styled("live", GOOD) if health.live else styled("not live", BAD)
    text.append(", ").append("ready" if health.ready else "not ready", WARN if health.live else BAD)
    why = health.detail or health.reason
    return text.append(f": {clean_line(why)}") if why else text


def _count_agents(status: MeshStatus) -> Text:
    replicas = [one for agent in status.agents for one in agent.replicas]
    parts = [styled(f"{len(status.agents)}"), _share(_ready(replicas), len(replicas))]
    parts[1].append(" replicas ready", QUIET)
    if status.lost_agents:
        parts.append(styled(f"{status.lost_agents} lost so far", WARN))
    return joined(parts)


def _usage(orchestrator: OrchestratorInfo) -> Text:
    memory = orchestrator.pss_bytes
    if memory is None:
        memory = orchestrator.rss_bytes
    parts = [] if memory is None else [styled(f"{format_bytes(memory)} of memory")]
    if orchestrator.cpu_s is not None:
        parts.append(styled(f"{format_duration(orchestrator.cpu_s)} of cpu", QUIET))
    if orchestrator.lag_ms is not None and orchestrator.lag_ms > LATE_MS:
        parts.append(styled(f"answers {orchestrator.lag_ms:.0f} ms late", WARN))
    return joined(parts)


def _problems(status: MeshStatus) -> list[Text]:
    """Return what somebody should look at, a line each, the worst first."""
    found = [
        _line(agent.name, "no replica is ready", BAD) for agent in status.agents if _dead(agent)
    ]
    found += fleet_problems(status.fleet or {})
    for agent in status.agents:
        found += [
            _line(_name(agent, one), why, BAD if one.state == "lost" else WARN)
            for one in agent.replicas
            if (why := _why(one))
        ]
    for capability in status.capabilities:
        if capability.queued and not capability.ready:
            found.append(
                _line(capability.name, f"{capability.queued} tasks wait for a ready replica", WARN)
            )
    return found


def _line(who: str, what: str, style: str) -> Text:
    return word(who, NAME).append("  ").append(clean_line(what), style)


def _name(agent: MeshAgent, replica: ReplicaInfo) -> str:
    return (
        agent.name
        if len(agent.replicas) == 1
        else f"{agent.name} {replica.instance[:INSTANCE_CHARS]}"
    )


def _dead(agent: MeshAgent) -> bool:
    return len(agent.replicas) != 1 and not _ready(agent.replicas)


def _why(replica: ReplicaInfo) -> str:
    """Return why a replica takes no tasks; empty when it does, or has left in order."""
    if replica.state == "lost":
        silent = (
            "" if replica.heard_s is None else f", silent for {format_duration(replica.heard_s)}"
        )
        return f"lost{silent}"
    if replica.state != "up" or _takes(replica):
        return ""
    return f"not ready: {replica.reason or replica.lifecycle or 'it does not say why'}"


def _takes(replica: ReplicaInfo) -> bool:
    return replica.state == "up" and replica.ready


def _ready(replicas: Sequence[ReplicaInfo]) -> int:
    return sum(map(_takes, replicas))


def _state_of(replica: ReplicaInfo) -> Text:
    name = replica.lifecycle or "up"
    if replica.state != "up":
        name = replica.state
    elif not replica.ready and name in {"ready", "busy"}:
        name = replica.reason or "not ready"
    return word(name.replace("_", " "), REPLICA_STYLES.get(name, WARN))


def _share(ready: int, count: int) -> Text:
    style = GOOD if count and ready == count else WARN if ready else BAD
    return styled(f"{ready} of {count}", style if count else QUIET)


def _address(replica: ReplicaInfo) -> Text:
    return word(replica.url, QUIET) if replica.url else styled(replica.delivery or "", QUIET)


def _task_lines(tasks: MeshTasks) -> Table:
    queued = f"{tasks.queued} queued"
    if tasks.oldest_queued_s is not None:
        queued += f" (for {format_duration(tasks.oldest_queued_s)})"
    now = [Text(f"{tasks.working} working"), Text(queued)]
    before = [
        styled(f"{tasks.completed} completed", GOOD if tasks.completed else QUIET),
        styled(f"{tasks.failed} failed", BAD if tasks.failed else QUIET),
        styled(f"{tasks.canceled} canceled", WARN if tasks.canceled else QUIET),
        styled(f"{tasks.rejected} rejected", WARN if tasks.rejected else QUIET),
    ]
    rows: list[tuple[str, RenderableType]] = [("now", joined(now)), ("so far", joined(before))]
    if tasks.retries or tasks.lost_leases:
        again = [
            styled(f"{tasks.lost_leases} leases lost", WARN if tasks.lost_leases else QUIET),
            styled(f"{tasks.retries} offered again", WARN if tasks.retries else QUIET),
            styled(f"{tasks.refused_reports} late reports refused", QUIET),
        ]
        rows.append(("retries", joined(again)))
    return pairs(rows, width=LABEL_WIDTH)
