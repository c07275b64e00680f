"""What a worker tells its host about itself: the capabilities and loops of the agent."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$"
"""Names of capabilities and loops: safe in a URL path, a metric label and a log line."""

MAX_CAPABILITIES = 1000
MAX_LOOPS = 100
PROTOCOL_VERSION = 1


class CapabilityManifest(BaseModel):
    """One capability: its name, what it takes and gives (JSON Schema 2020-12), and its options."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    description: str = Field("", max_length=10_000)
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    event_schema: dict[str, Any] | None = Field(
        None, description="Schema of one streamed item, for a capability that streams."
    )
    streams: bool = False
    idempotent: bool = False
    max_attempts: int = Field(3, ge=1, le=1000)
    timeout_s: float | None = Field(None, gt=0)
    max_concurrency: int | None = Field(None, ge=1)
    on_disconnect: Literal["cancel", "detach"] = "cancel"
    durable: bool = True
    tags: tuple[str, ...] = ()


class Hello(BaseModel):
    """The worker's first frame."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: int
    sdk_version: str = Field(max_length=100)
    python_version: str = Field(max_length=100)
    pid: int
    agent_name: str | None = Field(None, max_length=100)
    agent_version: str | None = Field(None, max_length=100)
    capabilities: Annotated[tuple[CapabilityManifest, ...], Field(max_length=MAX_CAPABILITIES)]
    loops: Annotated[tuple[str, ...], Field(max_length=MAX_LOOPS)] = ()


class Welcome(BaseModel):
    """The host's answer to `Hello`: what the worker may know of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    agent_name: str
    agent_version: str
    worker_index: int = Field(ge=0)
    log_level: str = "info"
    heartbeat_s: float = Field(0.5, gt=0)
    threads: int = Field(16, ge=1)
    max_output_bytes: int = Field(8 * 1024 * 1024, ge=1)
    event_window: int = Field(
        256, ge=1, description="Events that a task may send before the host acknowledges them."
    )
    secrets: dict[str, Any] = Field(
        default_factory=dict, repr=False, description="Only the vault keys that the config exposes."
    )


class LoopStatus(BaseModel):
    """One of the author's loops, as shown in ``/status``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(max_length=100)
    every_s: float | None = None
    state: Literal["waiting", "running", "backing_off", "stopped"] = "waiting"
    runs: int = Field(0, ge=0)
    crashes: int = Field(0, ge=0)
    last_error: str | None = Field(None, max_length=1000)
    last_started_at: str | None = Field(None, max_length=40)
    last_took_s: float | None = None


class Heartbeat(BaseModel):
    """The worker's pulse: sent from its event loop, so that silence means a blocked loop."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lag_ms: float = Field(ge=0, description="How late the loop ran the heartbeat's timer.")
    running: int = Field(ge=0, description="Tasks that the worker holds.")
    threads_busy: int = Field(0, ge=0)
    threads: int = Field(0, ge=0)
    loops: Annotated[tuple[LoopStatus, ...], Field(max_length=MAX_LOOPS)] = ()
