"""One task as it is kept: everything that outlives the attempt that runs it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from kagent_sdk.journal.events import EventLog
from kagent_sdk.protocol.headers import format_time
from kagent_sdk.protocol.manifest import CapabilityManifest
from kagent_sdk.protocol.tasks import FINAL_STATES, TaskFailure, TaskState

RECORD_OVERHEAD_BYTES = 1024
"""What a record costs beside its payloads; measured with `sys.getsizeof` over its members."""


class Ending(NamedTuple):
    """How a task ends, decided before it is on disk and shown to nobody until then.

    Attributes:
        at: seconds since the epoch.
        output: raw JSON; None for a task that failed, or a stream that is longer than what is kept.
    """

    state: TaskState
    at: float
    output: bytes | None = None
    failure: TaskFailure | None = None


class TaskRecord:
    """A task: its input, its state and, in the end, its output or its error.

    ``input``, ``output`` and ``metadata`` are raw JSON; times are seconds since the epoch.

    Attributes:
        sequence: order of arrival, across restarts.
        kept: it can be found by its id (a plain call cannot).
        is_durable: it is on disk and survives the host; else it is kept in memory at most.
        attempt: how often it was started, conflicts included.
        conflicts: how often it was done over because others changed the state that it had read.
        expires_at: its deadline; None for none.
        timeout_s: what the deadline was computed from; inf for none.
        lease: of the orchestrator that is told of its events and its end; None for nobody.
        hops: how many agents have passed it on.
        stored_bytes: what it counts for in the journal, from its end on.
        ending: how it ends, as soon as that is decided; the rest tells of it once it is safe.
    """

    __slots__ = (
        "attempt",
        "callback_url",
        "capability",
        "conflicts",
        "created_at",
        "ending",
        "events",
        "expires_at",
        "failure",
        "finished_at",
        "hops",
        "id",
        "input",
        "is_durable",
        "kept",
        "lease",
        "metadata",
        "output",
        "progress",
        "sequence",
        "started_at",
        "state",
        "stored_bytes",
        "timeout_s",
        "trace_id",
        "traceparent",
    )

    def __init__(
        self,
        task_id: str,
        capability: CapabilityManifest,
        input: bytes,
        *,
        created_at: float,
        sequence: int = 0,
    ) -> None:
        self.id = task_id
        self.capability = capability
        self.input = input
        self.sequence = sequence
        self.created_at = created_at
        self.metadata = b"{}"
        self.traceparent = ""
        self.trace_id: str | None = None
        self.callback_url: str | None = None
        self.lease: str | None = None
        self.hops = 0
        self.kept = False
        self.is_durable = False
        self.state = TaskState.SUBMITTED
        self.attempt = 0
        self.conflicts = 0
        self.hops = 0
        self.timeout_s = float("inf")
        self.expires_at: float | None = None
        self.started_at: float | None = None
        self.finished_at: float | None = None
        self.output: bytes | None = None
        self.failure: TaskFailure | None = None
        self.progress: tuple[float | None, str | None] | None = None
        self.events: EventLog | None = None
        self.stored_bytes = 0
        self.ending: Ending | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the state is final, and may be shown."""
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

    def close(self, ending: Ending) -> None:
        """Take over the ending: from here on it is shown."""
        self.ending = ending
        self.state, self.finished_at, self.output, self.failure = ending

    def document(self, *, with_output: bool = True, ending: Ending | None = None) -> bytes:
        """Return the task as the JSON document of the HTTP API.

        The raw JSON of output and metadata is spliced in as it is: both were checked when they
        came in.

        Args:
            with_output: leave out the output, as lists do.
            ending: show this one, which is not taken over yet.
        """
        state, finished_at, output, failure = ending or (
            self.state,
            self.finished_at,
            self.output,
            self.failure,
        )
        progress = self.progress
        error = "null" if failure is None else _dump(failure.as_dict())
        progressed = "null"
        if progress is not None:
            progressed = _dump({"fraction": progress[0], "message": progress[1]})
        # Not as one object for `json.dumps`: that takes four times as long, for every task.
        head = (
            f'{{"id":{_quote(self.id)},"capability":{_quote(self.capability.name)},'
            f'"state":"{state.value}","error":{error},"progress":{progressed},'
            f'"attempt":{self.attempt},"created_at":{_format(self.created_at)},'
            f'"started_at":{_format(self.started_at)},"finished_at":{_format(finished_at)},'
            f'"trace_id":{"null" if self.trace_id is None else _quote(self.trace_id)},"metadata":'
        )
        parts = [head.encode(), self.metadata]
        if with_output:
            parts += [b',"output":', output if output is not None else b"null"]
        parts.append(b"}")
        return b"".join(parts)


_quote = json.encoder.encode_basestring_ascii


def _dump(document: dict[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))


def _format(at_s: float | None) -> str:
    return "null" if at_s is None else f'"{format_time(at_s)}"'
