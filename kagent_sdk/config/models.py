"""config.yaml as frozen models. Every key has a default: no file at all is fine."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from kagent_sdk.config.orchestrator import OrchestratorConfig
from kagent_sdk.config.sandbox import SandboxConfig
from kagent_sdk.config.section import MEBIBYTE, Section

MAX_THREADS = 64
"""faulthandler writes the stacks of 100 threads at most, the main one last: it must be there."""


class WorkerConfig(Section):
    """The processes that run the author's code."""

    count: int = Field(1, ge=1, le=64, description="How many workers share the tasks.")
    threads: int | None = Field(
        None,
        ge=1,
        le=MAX_THREADS,
        description="Threads for sync functions; if unset tasks.max_concurrency, at most 64.",
    )
    start_timeout_s: float = Field(
        60, gt=0, description="A worker that is not ready by then is replaced."
    )
    heartbeat_s: float = Field(0.5, gt=0, le=60, description="How often a worker shows its pulse.")
    stable_s: float = Field(
        2, gt=0, description="A worker that was ready this long, or finished a task, is stable."
    )
    crash_limit: int = Field(
        5, ge=1, description="Crashes in a row without a stable worker: then exit code 75."
    )
    backoff_initial_s: float = Field(0.1, gt=0, description="Wait before the first restart.")
    backoff_max_s: float = Field(10, gt=0, description="The longest wait before a restart.")
    command: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="Any program and its arguments, to run in place of the entrypoint; "
        "its folder is the agent's.",
    )
    user: Literal["agent", "keep"] = Field(
        "agent",
        description="Started by root, host and worker become user and group 1000; keep: stay root, "
        "without capabilities.",
    )
    isolation: Literal["process", "bwrap"] = Field(
        "process",
        description="process: by the kernel's own means; bwrap: in namespaces made by bubblewrap "
        "as well, without a network interface.",
    )
    notify: bool = Field(
        default=True,
        description="With command: ready when the program says READY=1 (sd_notify(3)); "
        "false: as soon as it runs.",
    )
    watchdog_s: float | None = Field(
        None,
        gt=0,
        le=86_400,
        description="With command: the longest silence between two WATCHDOG=1 of the program; "
        "if unset none is expected.",
    )

    @field_validator("command")
    @classmethod
    def _be_argv(cls, command: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if command is not None and (not command[0] or any("\0" in word for word in command)):
            raise ValueError('should be a program and its arguments, such as ["sh", "serve.sh"]')
        return command

    @model_validator(mode="after")
    def _expect_a_pulse_of_commands_only(self) -> Self:
        if self.watchdog_s is not None and self.command is None:
            raise ValueError("watchdog_s is for worker.command; the entrypoint has heartbeat_s")
        return self


class TasksConfig(Section):
    """How many tasks, for how long, and what is kept of them."""

    max_concurrency: int = Field(
        16, ge=1, le=10_000, description="Tasks that one worker runs at a time."
    )
    max_queue: int = Field(1000, ge=0, description="Tasks that wait for a place; more get 429.")
    max_queue_bytes: int = Field(
        64 * MEBIBYTE, ge=0, description="Input bytes that wait for a place; more get 429."
    )
    default_timeout_s: float | None = Field(
        300, gt=0, description="For a task whose caller and capability set none; null: no limit."
    )
    max_timeout_s: float = Field(86_400, gt=0, description="The longest that a caller may ask for.")
    cancel_grace_s: float = Field(
        5, gt=0, description="Between the steps of a cancellation: ask, interrupt, kill."
    )
    max_output_bytes: int = Field(
        8 * MEBIBYTE, ge=1024, description="The largest output of a task."
    )
    max_events: int = Field(
        10_000, ge=1, description="Events of a task that can be replayed; older ones are dropped."
    )
    max_event_bytes: int = Field(
        4 * MEBIBYTE, ge=1024, description="Bytes of a task's events that can be replayed."
    )
    durability: Literal["process", "power", "none"] = Field(
        "process",
        description="What an acknowledged task survives: the death of every process; a power cut "
        "too (each commit waits for the disk); none: nothing, tasks and state are in memory.",
    )
    retention_s: float = Field(3600, ge=0, description="How long a finished task stays readable.")
    retention_count: int = Field(10_000, ge=0, description="How many finished tasks stay readable.")
    retention_bytes: int = Field(
        64 * MEBIBYTE, ge=0, description="Bytes of finished tasks that stay readable."
    )


class TlsConfig(Section):
    """TLS for the control plane; all paths are relative to the agent's folder."""

    certificate: str = Field(description="PEM file with the certificate chain.")
    key: str = Field(description="PEM file with the private key.")
    client_ca: str | None = Field(
        None, description="PEM file; if set, a client must show a certificate signed by it."
    )


class HttpConfig(Section):
    """The control plane."""

    host: str | None = Field(
        None, description="Address to listen on; 0.0.0.0 in a container, else 127.0.0.1."
    )
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    auth: Literal["token", "none"] | None = Field(
        None,
        description="token: a bearer token is required; none: anyone may call. "
        "Unset: token when there is one, and only on loopback without.",
    )
    tls: TlsConfig | None = Field(None, description="Serve HTTPS.")
    max_body_bytes: int = Field(8 * MEBIBYTE, ge=1024, description="The largest request body.")
    max_connections: int = Field(1000, ge=1, description="Connections at a time.")
    read_timeout_s: float = Field(
        30,
        gt=0,
        description="A client that takes longer to send a request, or to read an event, is cut off.",
    )


class HealthConfig(Section):
    """When a worker counts as stuck."""

    stall_warn_s: float = Field(
        5, gt=0, description="Silence after which the stuck stack is logged and readiness falls."
    )
    stall_fail_s: float = Field(
        60, gt=0, description="Silence after which /healthz fails and the worker is replaced."
    )

    @model_validator(mode="after")
    def _warn_before_fail(self) -> Self:
        if self.stall_warn_s > self.stall_fail_s:
            raise ValueError("stall_warn_s must not be greater than stall_fail_s")
        return self


class LimitsConfig(Section):
    """What the agent may use."""

    memory_bytes: int | None = Field(
        None, ge=16 * MEBIBYTE, description="Memory of host and workers; unset: the cgroup's limit."
    )
    memory_soft_ratio: float = Field(
        0.9, gt=0, le=1, description="Share of the memory limit from which no task is taken."
    )
    gpus: int = Field(0, ge=0, le=64, description="GPUs that the agent is given where it runs.")


class ShutdownConfig(Section):
    """How the agent stops."""

    grace_s: float = Field(25, gt=0, description="From the signal to the exit, all steps included.")


class SecretsConfig(Section):
    """What of secrets/vault.json reaches the worker."""

    file: str = Field("secrets/vault.json", description="Relative to the agent's folder.")
    expose: tuple[str, ...] = Field((), description="Keys of the vault that the worker may read.")
    required: tuple[str, ...] = Field(
        (), description="Keys that the vault must have; without one the agent does not start."
    )
    read_only_mount: bool | None = Field(
        None,
        description="Refuse a vault that the agent's own user could change; "
        "unset: where the agent's folder is /agent, as in the images.",
    )
    guard_results: bool = Field(
        False,  # noqa: FBT003 - a default, as for every other key
        description="Fail a task whose output or events hold a secret, and redact its errors.",
    )


class StateConfig(Section):
    """The agent's durable memory."""

    quota_bytes: int = Field(
        256 * MEBIBYTE, ge=1024, description="Keys and values; a change that needs more is refused."
    )
    export_s: float = Field(
        30,
        gt=0,
        description="runtime/memory_store.json is written this long after a change at the latest.",
    )


class SnapshotsConfig(Section):
    """Where snapshots go."""

    destination: str = Field(
        "runtime/snapshots",
        description="A folder, inside the agent's if relative; or, with the extra [snapshots], "
        "s3://, gs:// or az:// and a bucket's name and prefix; or, with the extra [nats], "
        "nats://HOST:PORT.",
    )
    keep: int = Field(10, ge=1, le=10_000, description="Snapshots in a folder; older ones go.")
    include_cache: bool = Field(
        default=False, description="Put runtime/cache into snapshots that do not say."
    )
    max_bytes: int = Field(
        4096 * MEBIBYTE, ge=MEBIBYTE, description="The largest snapshot, unpacked."
    )


class CallbacksConfig(Section):
    """Webhooks: where a task's ``callback_url`` may point, and how often delivery is tried."""

    allow: tuple[str, ...] = Field(
        (),
        description="Beginnings of URLs, such as https://hooks.example.com/; none: no callbacks.",
    )
    secret: str = Field(
        "webhook_secret", description="Key of the vault that signs them (whsec_ and base64)."
    )
    timeout_s: float = Field(15, gt=0, le=300, description="For one delivery.")
    retry_max_s: float = Field(300, gt=0, description="The longest wait between two tries.")
    give_up_s: float = Field(
        86_400, gt=0, description="A message that could not be delivered for so long is dropped."
    )
    max_pending_bytes: int = Field(
        256 * MEBIBYTE,
        ge=1024,
        description="Messages that wait to be delivered; more tasks with a callback get 429.",
    )

    @field_validator("allow")
    @classmethod
    def _be_urls(cls, allow: tuple[str, ...]) -> tuple[str, ...]:
        if allow:
            from kagent_sdk.protocol.callback_url import parse_allowed  # noqa: PLC0415 - few have any

            for entry in allow:
                parse_allowed(entry)
        return allow


class LogsConfig(Section):
    """Logging."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe line that is written; what is printed always is."
    )
    tee: Literal["auto", "text", "json", "none"] = Field(
        "auto",
        description="Show the log on stdout too; auto: as text on a terminal, else as JSON lines.",
    )
    max_line_bytes: int = Field(
        64 * 1024, ge=256, le=16 * MEBIBYTE, description="Longer lines are cut, and say so."
    )
    max_file_bytes: int = Field(
        10 * MEBIBYTE, ge=4096, description="logs/runtime.log is rotated at this size."
    )
    keep_files: int = Field(5, ge=1, le=1000, description="Rotated log files that are kept.")
    configure: bool = Field(
        default=True,
        description="Set up logging, warnings and structlog in the worker; false: leave them alone.",
    )


class DebugConfig(Section):
    """Looking into a living worker: `kos-agent debug`."""

    enabled: bool = Field(
        default=False, description="Listen on the debug socket; whoever may attach can run code."
    )
    socket: str | None = Field(
        None,
        description="Path of the socket, relative to the agent's folder; unset: /debug/socket where "
        "that folder can be written, else runtime/debug.sock.",
    )
    max_sessions: int = Field(4, ge=1, le=64, description="Sessions at a time; more are refused.")


class AgentConfig(Section):
    """The whole of config.yaml."""

    model_config = ConfigDict(defer_build=False)

    name: (
        Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")] | None
    ) = Field(None, description="The agent's name; the folder's name if unset.")
    version: str = Field("0.1.0", max_length=100, description="The agent's version.")
    description: str = Field("", max_length=10_000, description="One sentence on the agent.")
    entrypoint: str = Field("entrypoint.py", description="The worker's script, inside the folder.")
    worker: WorkerConfig = WorkerConfig.model_construct()
    tasks: TasksConfig = TasksConfig.model_construct()
    http: HttpConfig = HttpConfig.model_construct()
    health: HealthConfig = HealthConfig.model_construct()
    limits: LimitsConfig = LimitsConfig.model_construct()
    shutdown: ShutdownConfig = ShutdownConfig.model_construct()
    secrets: SecretsConfig = SecretsConfig.model_construct()
    state: StateConfig = StateConfig.model_construct()
    snapshots: SnapshotsConfig = SnapshotsConfig.model_construct()
    callbacks: CallbacksConfig = CallbacksConfig.model_construct()
    orchestrator: OrchestratorConfig = OrchestratorConfig.model_construct()
    sandbox: SandboxConfig = SandboxConfig.model_construct()
    logs: LogsConfig = LogsConfig.model_construct()
    debug: DebugConfig = DebugConfig.model_construct()

    @field_validator("entrypoint")
    @classmethod
    def _stay_inside(cls, entrypoint: str) -> str:
        path = PurePosixPath(entrypoint)
        if path.is_absolute() or ".." in path.parts or path.name == "" or "\0" in entrypoint:
            raise ValueError("should be a file inside the agent's folder, such as entrypoint.py")
        return entrypoint

    @model_validator(mode="after")
    def _run_one_thing(self) -> Self:
        if self.worker.command is not None and "entrypoint" in self.model_fields_set:
            raise ValueError("entrypoint and worker.command exclude each other; keep one")
        return self
