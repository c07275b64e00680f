"""The ``/status`` document of an orchestrator: built by it, published by it, read by the CLI.

The rules are those of an agent's (`kagent_sdk.protocol.status`): what is not known is null, never
zero; units stand in the names; times are RFC 3339 in UTC; readers ignore what they do not know. Its
``kind`` tells it from an agent's, which has none.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

MESH_KIND: Final = "orchestrator"
NATS_KIND: Final = "nats"


class MeshPart(BaseModel):
    """A part of the document: frozen, and tolerant of members that a newer orchestrator adds."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class OrchestratorInfo(MeshPart):
    """Which orchestrator this is."""

    id: str = Field("", description="Another one each time it starts.")
    sdk_version: str = ""
    python_version: str = ""
    pid: int | None = None
    url: str | None = Field(None, description="Where it listens.")
    started_at: AwareDatetime | None = None
    uptime_s: float = 0
    lifecycle: str = Field("ready", description="starting, ready, draining, stopping.")
    rss_bytes: int | None = Field(None, description="Resident memory, shared pages included.")
    pss_bytes: int | None = Field(None, description="Resident memory, shared pages divided.")
    cpu_s: float | None = Field(None, description="User and system time since it started.")
    lag_ms: float | None = Field(None, description="How late its event loop runs.")


class MeshHealth(MeshPart):
    """What the probes answer, and why."""

    live: bool = True
    ready: bool = True
    reason: str | None = Field(None, description="Why not ready, in one word.")
    detail: str | None = Field(None, description="The same as a sentence for people.")


class ReplicaInfo(MeshPart):
    """One registered host of an agent: who it is, and how it says it is."""

    instance: str = Field(description="The name of this start of the host.")
    version: str = ""
    sdk_version: str = ""
    delivery: Literal["push", "pull"] | None = None
    url: str | None = Field(None, description="Where it is reached; null with pull.")
    labels: dict[str, str] = {}
    state: Literal["up", "lost", "draining"] = Field(
        "up",
        description="lost: silent for longer than its lease, and nobody came in its place; "
        "draining: takes no more tasks.",
    )
    lifecycle: str = Field("", description="As it said last; see an agent's /status.")
    ready: bool = Field(default=False, description="It takes tasks.")
    reason: str | None = Field(None, description="Why not ready, in one word.")
    working: int = Field(0, description="Tasks that run in it, whoever sent them.")
    queued: int = Field(0, description="Tasks that wait in it.")
    leases: int = Field(0, description="Tasks of this orchestrator that it has.")
    max_concurrency: int | None = None
    memory_used_bytes: int | None = None
    cpu_percent: float | None = Field(None, description="100 is one core.")
    restarts: int = Field(0, description="Of its workers, since its host started.")
    registered_at: AwareDatetime | None = None
    heard_s: float | None = Field(None, description="Seconds since it was heard last.")


class MeshAgent(MeshPart):
    """An agent by its name, with all its replicas."""

    name: str
    capabilities: tuple[str, ...] = ()
    replicas: tuple[ReplicaInfo, ...] = ()


class MeshCapability(MeshPart):
    """A capability, over all the agents that offer it."""

    name: str
    agents: tuple[str, ...] = Field((), description="Names of those that offer it.")
    ready: int = Field(0, description="Replicas that take it now.")
    queued: int = Field(0, description="Tasks that wait for a replica.")
    working: int = 0


class MeshTasks(MeshPart):
    """Tasks now, and since the orchestrator started."""

    queued: int = Field(0, description="Tasks that wait for an agent.")
    working: int = Field(0, description="Tasks that an agent has.")
    submitted: int = Field(0, description="Taken since the start; not those rejected.")
    completed: int = 0
    failed: int = 0
    canceled: int = 0
    rejected: int = Field(0, description="Turned away: too many, or draining.")
    kept: int = Field(0, description="Finished tasks whose results can still be read.")
    oldest_queued_s: float | None = Field(
        None, description="Age of the task that waits longest; null when none waits."
    )
    leases: int = Field(0, description="Leases that are held.")
    retries: int = Field(0, description="Offers of a task that had been offered before.")
    lost_leases: int = Field(0, description="Leases that ended without a result.")
    refused_reports: int = Field(
        0, description="Results and events that came under a lease that is no more."
    )


class MeshStatus(MeshPart):
    """The whole document."""

    kind: Literal["orchestrator"] = MESH_KIND
    orchestrator: OrchestratorInfo = OrchestratorInfo()
    health: MeshHealth = MeshHealth()
    agents: tuple[MeshAgent, ...] = ()
    lost_agents: int = Field(0, description="Replicas that fell silent, since the start.")
    capabilities: tuple[MeshCapability, ...] = ()
    tasks: MeshTasks = MeshTasks()
    fleet: dict[str, Any] | None = Field(
        None, description="The agents that it has started itself; null: it starts none."
    )


class NatsStatus(MeshPart):
    """What NATS knows of its agents: ``kos-agent status --url nats://…`` asks no orchestrator."""

    kind: Literal["nats"] = NATS_KIND
    url: str = Field("", description="Of the server that was asked.")
    agents: tuple[MeshAgent, ...] = ()
