"""What the control plane takes and answers, as models: the source of ``/openapi.json``.

The hot path writes these documents by hand and never makes a model; a test holds the two together.
This module costs a pydantic import and is therefore imported with the first request for the API's
description. A member without a default is always
there.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from kagent_sdk.protocol.callback_url import MAX_URL_CHARS, URL_PATTERN
from kagent_sdk.protocol.envelope import MAX_CAPABILITY_CHARS, MAX_TIMEOUT_S
from kagent_sdk.protocol.headers import TASK_ID_PATTERN
from kagent_sdk.protocol.manifest import CapabilityManifest
from kagent_sdk.protocol.tasks import TaskState
from kagent_sdk.snapshots.manifest import Manifest

TaskId = Annotated[str, Field(pattern=TASK_ID_PATTERN)]


class Document(BaseModel):
    """An answer: frozen; a reader must ignore members that it does not know."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class TaskErrorDocument(Document):
    """Why a task failed."""

    code: str = Field(description="Stable name for programs, such as invalid_input or timeout.")
    message: str = Field(description="One sentence for people.")
    retryable: bool = Field(description="Whether the same request may succeed later.")
    details: Any = Field(
        description="JSON for programs; of invalid_input a list of {loc, msg, type}."
    )


class ProgressDocument(Document):
    """How far a task is, as it says itself."""

    fraction: float | None = Field(ge=0, le=1)
    message: str | None


class TaskSummaryDocument(Document):
    """A task without its output."""

    id: TaskId
    capability: str
    state: TaskState
    error: TaskErrorDocument | None
    progress: ProgressDocument | None
    attempt: int = Field(ge=0, description="How often it was started; 0 while it waits.")
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    trace_id: str | None = Field(description="Of the trace of the request (W3C Trace Context).")
    metadata: dict[str, Any] = Field(description="As the caller sent it.")


class TaskDocument(TaskSummaryDocument):
    """A task."""

    output: Any = Field(description="By the capability's schema; null unless it is completed.")


class TaskListDocument(Document):
    """One page of tasks, the newest first."""

    tasks: list[TaskSummaryDocument]
    next: str | None = Field(description="Value of `after` for the next page; null at the end.")


class TaskRequest(BaseModel):
    """What ``POST /v1/tasks`` takes. Optional members may be null."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    capability: str = Field(min_length=1, max_length=MAX_CAPABILITY_CHARS)
    input: Any = Field({}, description="By the capability's schema; {} if it is left out.")
    id: TaskId | None = Field(
        None, description="The idempotency key: the same id with the same input is the same task."
    )
    timeout_s: float | None = Field(
        None, gt=0, le=MAX_TIMEOUT_S, description="Seconds; the agent's limits apply."
    )
    metadata: dict[str, Any] | None = Field(
        None, description="Yours: kept with the task, given to the capability; up to 16 KiB."
    )
    callback_url: str | None = Field(
        None,
        max_length=MAX_URL_CHARS,
        pattern=URL_PATTERN,
        description="Told of the task's end, as a Standard Webhook; below a URL of callbacks.allow.",
    )


class CapabilityListDocument(Document):
    """What the agent can do; empty until its worker is ready."""

    capabilities: list[CapabilityManifest]


class ProbeDocument(Document):
    """What a probe answers."""

    status: str = Field(description="ok, ready, or in one word what is wrong.")
    detail: str | None = Field(description="The same as a sentence for people.")
    stack: str | None = Field(
        None,
        description="Where the stuck worker hangs; from /healthz, for callers who may read /status; "
        "else left out.",
    )


class EventDocument(Document):
    """One server-sent event of a task; after the one that is called ``task`` the stream ends."""

    id: str = Field(pattern="^[0-9]+$", description="Grows; for Last-Event-ID.")
    event: Literal["state", "progress", "event", "gap", "task"]
    data: str = Field(
        description="JSON: {state, attempt}, {fraction, message}, an item of the stream, "
        "{missed: how many events can no longer be replayed}, or the whole task.",
        json_schema_extra={"contentMediaType": "application/json"},
    )


class ShutdownDocument(Document):
    """The shutdown has begun."""

    lifecycle: Literal["draining"]


class SnapshotRequest(BaseModel):
    """What ``POST /v1/snapshots`` takes; no body at all will do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cache: bool | None = Field(
        None,
        description="Put the files of runtime/cache in; null: as snapshots.include_cache says.",
    )


class SnapshotDocument(Document):
    """A snapshot that was made."""

    name: str = Field(description="Under snapshots.destination.")
    size_bytes: int = Field(ge=0, description="As it is stored.")
    manifest: Manifest


class ProblemDocument(Document):
    """Why a request was not served (RFC 9457)."""

    type: str = Field(description="A URI: urn:kagent:problem:CODE, or about:blank.")
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    code: str = Field(description="Stable name for programs.")
    error: TaskErrorDocument | None = Field(
        None, description="When a task or its input is at fault; else left out."
    )
    nearest: list[str] | None = Field(
        None, description="When a name is unknown: those that look like it; else left out."
    )
