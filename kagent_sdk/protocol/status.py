"""The ``/status`` document: built by the host, published in ``/openapi.json``, read by the CLI.

Three rules hold everywhere in it. What is not known is null, never zero. Units stand in the names:
``_bytes``, ``_s`` (seconds), ``_ms``, ``_percent`` (100 is one core). Times are RFC 3339 in UTC.

Readers ignore members that they do not know, so an older command line can read a newer agent. This
module costs a pydantic import and is therefore kept off the host's start path.
"""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from kagent_sdk.protocol.last_exit import LastExit, WorkerExit
from kagent_sdk.protocol.manifest import LoopStatus
from kagent_sdk.protocol.sandbox import EgressInfo, SandboxInfo

Lifecycle = Literal["starting", "ready", "busy", "draining", "stopping", "stopped", "failed"]
"""The states of `kagent_sdk.host.lifecycle.LifecycleState`, in their order."""


class Part(BaseModel):
    """A part of the document: frozen, and tolerant of members that a newer host adds."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class AgentInfo(Part):
    """Who this agent is."""

    name: str
    version: str
    description: str = ""
    sdk_version: str
    python_version: str
    started_at: AwareDatetime = Field(description="When the host started.")
    uptime_s: float


class LifecycleInfo(Part):
    """Where the agent is in its life."""

    state: Lifecycle
    since: AwareDatetime = Field(description="When that state was entered.")


class StalledWorker(Part):
    """A worker whose event loop is silent, and where it hangs."""

    index: int
    pid: int | None = None
    silent_s: float = Field(description="Seconds since its last heartbeat.")
    stuck: bool = Field(description="Silent for so long that the worker is being replaced.")
    stack: str | None = Field(
        None, description="Stacks of its threads, the main one first, most recent call last."
    )


class HealthInfo(Part):
    """What the probes answer, and why."""

    live: bool = Field(description="/healthz answers 200.")
    ready: bool = Field(description="/readyz answers 200.")
    reason: str | None = Field(
        None,
        description="Why not ready, in one word: starting, restarting, draining, stopping, failed, "
        "stalled, full, memory, journal, link_down.",
    )
    detail: str | None = Field(None, description="The same as a sentence for people.")
    stalled: tuple[StalledWorker, ...] = ()


class ProcessInfo(Part):
    """One process of the agent: the host or a worker."""

    role: Literal["host", "worker"]
    index: int = Field(0, description="Which worker; 0 for the host.")
    pid: int | None = Field(None, description="null while a worker is not running.")
    state: str = Field(
        description="Of the host the lifecycle state; of a worker starting, ready, stalled, stuck, "
        "draining, stopping, backing_off or stopped."
    )
    rss_bytes: int | None = Field(None, description="Resident memory, shared pages included.")
    pss_bytes: int | None = Field(None, description="Resident memory, shared pages divided.")
    uss_bytes: int | None = Field(None, description="Resident memory that no other process shares.")
    cpu_percent: float | None = Field(None, description="Since the last sample; 100 is one core.")
    cpu_s: float | None = Field(None, description="User and system time since it started.")
    threads: int | None = None
    fds: int | None = Field(None, description="Open file descriptors.")
    lag_ms: float | None = Field(None, description="How late its event loop runs.")
    restarts: int = Field(0, description="How often this worker was replaced.")
    started_at: AwareDatetime | None = None
    running: int | None = Field(None, description="Tasks that it holds.")
    threads_busy: int | None = Field(None, description="Threads that run sync functions.")
    status_text: str | None = Field(
        None, description="What a program of worker.command says of itself (STATUS=)."
    )


class PressureInfo(Part):
    """Share of time that processes waited for a resource, in percent (kernel: PSI)."""

    some_avg10: float | None = Field(None, description="At least one waited; last 10 s.")
    some_avg60: float | None = None
    some_avg300: float | None = None
    some_total_s: float | None = Field(None, description="Total time that at least one waited.")
    full_avg10: float | None = Field(None, description="All of them waited; last 10 s.")
    full_avg60: float | None = None
    full_avg300: float | None = None
    full_total_s: float | None = None


class PressuresInfo(Part):
    """Pressure by resource."""

    scope: Literal["cgroup", "system"] | None = Field(
        None, description="Whether the numbers are the cgroup's or the whole machine's."
    )
    memory: PressureInfo | None = None
    cpu: PressureInfo | None = None
    io: PressureInfo | None = None


class ResourcesInfo(Part):
    """What the agent may use, and uses: the cgroup's numbers, or what the configuration says."""

    cgroup: Literal["v1", "v2", "hybrid"] | None = None
    memory_limit_bytes: int | None = Field(None, description="null: no limit, or not known.")
    memory_used_bytes: int | None = Field(
        None, description="Counted against the limit, without the cache that is free to go."
    )
    memory_ratio: float | None = Field(None, description="Used memory as a share of the limit.")
    memory_soft_ratio: float | None = Field(None, description="Share from which no task is taken.")
    memory_near_limit: bool = False
    oom_kills: int | None = Field(None, description="Processes that the kernel killed for memory.")
    cpu_limit_cores: float | None = Field(None, description="null: no limit, or not known.")
    cpu_usage_s: float | None = None
    cpu_throttled_periods: int | None = None
    cpu_throttled_s: float | None = None
    pids: int | None = Field(None, description="Processes and threads in the cgroup.")
    pids_limit: int | None = None
    pressure: PressuresInfo = PressuresInfo()


class GpuInfo(Part):
    """One GPU, as its driver tells of it."""

    index: int = Field(description="By the driver's count, from 0.")
    name: str | None = None
    uuid: str | None = None
    memory_used_bytes: int | None = Field(None, description="By all processes, of whoever's.")
    memory_total_bytes: int | None = None
    utilization_ratio: float | None = Field(
        None, description="Share of the driver's last sampling period in which it was computing."
    )


class GpusInfo(Part):
    """GPUs: what the agent is to have, and what there is."""

    wanted: int = Field(0, description="limits.gpus.")
    found: int | None = Field(None, description="null: not known, or nobody asked.")
    note: str | None = Field(None, description="What is in the way of knowing, or missing.")
    devices: tuple[GpuInfo, ...] = ()


class TasksInfo(Part):
    """Tasks now, and since the host started."""

    working: int = Field(0, description="Tasks that run now.")
    working_limit: int | None = Field(None, description="Tasks that may run at a time.")
    queued: int = Field(0, description="Tasks that wait for a place.")
    queued_limit: int | None = None
    queued_bytes: int = Field(0, description="Bytes of their inputs.")
    submitted: int = Field(0, description="Taken since the start; not those rejected.")
    completed: int = 0
    failed: int = 0
    canceled: int = 0
    rejected: int = Field(0, description="Turned away: queue full, draining, no memory left.")
    kept: int = Field(0, description="Finished tasks whose results can still be read.")
    kept_bytes: int = 0


class CapabilityInfo(Part):
    """One capability's tasks."""

    name: str
    running: int = 0
    queued: int | None = None
    limit: int | None = Field(None, description="Tasks of it at a time; null: the agent's limit.")
    completed: int = 0
    failed: int = 0
    canceled: int = 0


class LoopInfo(LoopStatus):
    """One of the author's loops, and the worker that runs it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    worker: int = Field(0, description="Index of the worker.")


class WorkersInfo(Part):
    """The pool of workers."""

    count: int = 1
    ready: int = 0
    restarts: int = 0
    last_crash: WorkerExit | None = Field(
        None, description="How the last worker of this host ended that should not have."
    )


class ReloadOutcome(Part):
    """How a reload ended."""

    outcome: Literal["completed", "failed"]
    at: AwareDatetime = Field(description="When it was over.")
    took_s: float
    reason: str | None = Field(None, description="Why it failed; the workers before it go on.")
    traceback: str | None = Field(
        None, description="The last lines that the new worker wrote to stderr."
    )
    changed: tuple[str, ...] = Field((), description="Keys of the configuration that took effect.")
    needs_restart: tuple[str, ...] = Field(
        (), description="Changed keys that keep their value until the host starts anew."
    )


class ReloadInfo(Part):
    """Reloads: how workers were replaced by new ones while the agent served."""

    state: Literal["idle", "reloading"] = "idle"
    generation: int = Field(1, description="Of the workers that get the tasks; counts from 1.")
    retiring: int = Field(0, description="Generations before it that finish their last tasks.")
    last: ReloadOutcome | None = Field(None, description="null before the first reload.")


class SnapshotInfo(Part):
    """A snapshot that was made."""

    name: str
    created_at: AwareDatetime = Field(description="The moment that it shows.")
    size_bytes: int
    took_s: float


class SnapshotsInfo(Part):
    """Snapshots, since the host started."""

    running: bool = Field(default=False, description="One is being made.")
    last: SnapshotInfo | None = Field(None, description="The last one that was made.")
    last_error: str | None = Field(
        None, description="Why the last attempt made none; null when it did."
    )


class LogsInfo(Part):
    """Logging."""

    level: str | None = None
    file: str | None = Field(None, description="Relative to the agent's folder.")
    lines: int | None = Field(None, description="Records written since the start.")
    lost_lines: int | None = Field(None, description="Records that the disk did not take.")
    tee_lost_lines: int | None = Field(
        None, description="Records that stdout did not take in time."
    )
    dropped_events: int | None = Field(None, description="Of the host, as the log was too slow.")
    file_bytes: int | None = Field(None, description="Size of the current file.")
    rotations: int | None = None
    last_error: str | None = Field(None, description="Why writing the log failed last.")


class VaultInfo(Part):
    """The vault: names of keys only, never a value."""

    present: bool | None = None
    exposed: tuple[str, ...] = Field((), description="Keys that the worker may read.")
    loaded_at: AwareDatetime | None = Field(None, description="When the present values were read.")
    generation: int | None = Field(
        None, description="1 at the start; one more for every change that was taken."
    )
    error: str | None = Field(
        None, description="Why the file as it is now was not taken; the values before are kept."
    )


class StateProblem(Part):
    """A file that was put aside instead of being used or written over."""

    file: str = Field(description="Its name now, in runtime/; who moves it away ends the problem.")
    at: AwareDatetime = Field(description="When it was put aside.")
    reason: str = Field(description="What is wrong with it, where, and what to do.")


class StateInfo(Part):
    """The agent's durable memory."""

    keys: int = 0
    used_bytes: int = Field(0, description="Of keys and values.")
    quota_bytes: int | None = None
    version: int = Field(0, description="Grows with every change.")
    exported_version: int | None = Field(
        None, description="What runtime/memory_store.json holds; null: it was not written yet."
    )
    exported_at: AwareDatetime | None = Field(None, description="When that file was written.")
    export_error: str | None = Field(
        None, description="Why it could not be written last; the state itself is in the database."
    )
    problems: tuple[StateProblem, ...] = ()


class OutboxInfo(Part):
    """Callbacks: messages that wait to be delivered, and what became of others."""

    pending: int | None = Field(None, description="Not delivered yet; they survive a restart.")
    pending_bytes: int | None = None
    oldest_s: float | None = Field(None, description="Age of the oldest; null when none waits.")
    delivered: int = Field(0, description="Taken by a receiver since the start.")
    failed: int = Field(0, description="Attempts that failed since the start.")
    dropped: int | None = Field(None, description="Given up, in all of the journal's life.")
    last_error: str | None = Field(
        None, description="Why an attempt failed last, or why none is made."
    )
    last_drop: str | None = Field(None, description="Why a message was given up last.")


class LinkInfo(Part):
    """The link to an orchestrator."""

    state: Literal["off", "connecting", "up", "down", "draining", "gone"] = Field(
        "off", description="off: orchestrator.url is not set; down: it is tried again and again."
    )
    since: AwareDatetime | None = Field(None, description="When that state was entered.")
    url: str | None = None
    delivery: Literal["push", "pull"] | None = None
    instance: str | None = Field(None, description="The name of this start of the host.")
    orchestrator: str | None = Field(None, description="Which one has taken note of the agent.")
    last_contact_at: AwareDatetime | None = Field(None, description="When it answered last.")
    last_error: str | None = Field(None, description="Why the last attempt failed.")
    registrations: int = Field(0, description="Since the host started.")
    tasks: int = Field(0, description="Tasks of the link whose end it has not been told.")
    pending: int | None = Field(None, description="Reports that wait; they survive a restart.")
    dropped: int = Field(
        0,
        description="Reports that were given up as too many waited, in all of the journal's life.",
    )
    reported: int = Field(0, description="Reports that it took, since the host started.")
    refused: int = Field(0, description="Reports that it refused: the task was another's by then.")
    lost: int = Field(0, description="Leases that were lost.")


class Status(Part):
    """The whole document."""

    agent: AgentInfo
    lifecycle: LifecycleInfo
    health: HealthInfo
    processes: tuple[ProcessInfo, ...] = ()
    resources: ResourcesInfo = ResourcesInfo()
    gpus: GpusInfo = GpusInfo()
    tasks: TasksInfo = TasksInfo()
    capabilities: tuple[CapabilityInfo, ...] = ()
    loops: tuple[LoopInfo, ...] = ()
    workers: WorkersInfo = WorkersInfo()
    reload: ReloadInfo = ReloadInfo()
    snapshots: SnapshotsInfo = SnapshotsInfo()
    logs: LogsInfo = LogsInfo()
    vault: VaultInfo = VaultInfo()
    state: StateInfo = StateInfo()
    outbox: OutboxInfo = OutboxInfo()
    link: LinkInfo = LinkInfo()
    sandbox: SandboxInfo = SandboxInfo()
    egress: EgressInfo = EgressInfo()
    last_exit: LastExit = LastExit()
