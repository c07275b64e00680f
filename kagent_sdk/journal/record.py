"""One task as it is kept: everything that outlives the attempt that runs it."""

from __future__ import annotations

import json

from kagent_sdk.journal.events import EventLog
from kagent_sdk.protocol.headers import format_time
from kagent_sdk.protocol.manifest import CapabilityManifest
from kagent_sdk.protocol.tasks import FINAL_STATES, TaskFailure, TaskState

RECORD_OVERHEAD_BYTES = 1024
"""What a record costs beside its payloads; measured with `sys.getsizeof` over its members."""


class TaskRecord:
    """A task: its input, its state and, in the end, its output or its error.

    ``input``, ``output`` and ``metadata`` are raw JSON; times are seconds since the epoch.
    """

    __slots__ = (
        "attempt",
        "capability",
        "created_at",
        "digest",
        "events",
        "failure",
        "finished_at",
        "id",
        "input",
        "metadata",
        "output",
        "progress",
        "started_at",
        "state",
        "trace_id",
    )

    def __init__(
        self,
        task_id: str,
        capability: CapabilityManifest,
        input: bytes,
        *,
        created_at: float,
        metadata: bytes = b"{}",
        trace_id: str | None = None,
    ) -> None:
        self.id = task_id
        self.capability = capability
        self.input = input
        self.metadata = metadata
        self.trace_id = trace_id
        self.digest = b""
        self.state = TaskState.SUBMITTED
        self.attempt = 0
        self.created_at = created_at
        self.started_at: float | None = None
        self.finished_at: float | None = None
        self.output: bytes | None = None
        self.failure: TaskFailure | None = None
        self.progress: tuple[float | None, str | None] | None = None
        self.events: EventLog | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the state is final."""
        return self.state in FINAL_STATES

    @property
    def size_bytes(self) -> int:
        """Roughly what the record holds in memory."""
        size = RECORD_OVERHEAD_BYTES + len(self.input) + len(self.metadata)
        if self.output is not None:
            size += len(self.output)
        if self.events is not None:
            size += self.events.size_bytes
        return size

    def document(self, *, with_output: bool = True) -> bytes:
        """Return the task as the JSON document of the HTTP API.

        The raw JSON of output and metadata is spliced in as it is: both were checked when they
        came in.
        """
        progress = self.progress
        fields = {
            "id": self.id,
            "capability": self.capability.name,
            "state": self.state.value,
            "error": None if self.failure is None else self.failure.as_dict(),
            "progress": (
                None if progress is None else {"fraction": progress[0], "message": progress[1]}
            ),
            "attempt": self.attempt,
            "created_at": format_time(self.created_at),
            "started_at": _format(self.started_at),
            "finished_at": _format(self.finished_at),
            "trace_id": self.trace_id,
        }
        head = json.dumps(fields, separators=(",", ":")).encode()
        parts = [head[:-1], b',"metadata":', self.metadata]
        if with_output:
            parts += [b',"output":', self.output if self.output is not None else b"null"]
        parts.append(b"}")
        return b"".join(parts)


def _format(at_s: float | None) -> str | None:
    return None if at_s is None else format_time(at_s)
