"""What the payload of each frame holds.

======== ========= ==================================================================
kind     to        payload
======== ========= ==================================================================
WELCOME  worker    JSON of `manifest.Welcome`
RUN      worker    `encode_run`: how to run it, then the task's input as raw JSON
CANCEL   worker    the reason in UTF-8: ``caller``, ``timeout``, ``disconnect``, ``shutdown``
INTERRUPT worker   empty: inject `TaskInterrupted` into the sync function's thread
ACK      worker    u32: how many events of this task the host has taken since the last ACK
ANSWER   worker    number = the CALL's number; JSON ``{"output": …}`` or ``{"error": …}``
CALL_ITEM worker   number = the CALL's number; one streamed item as raw JSON
STOP     worker    f64: seconds for ``on_shutdown``; the worker then closes and exits
HELLO    host      JSON of `manifest.Hello`
READY    host      empty: ``on_startup`` is done
HEARTBEAT host     JSON of `manifest.Heartbeat`
RESULT   host      the task's output as raw JSON; empty for a capability that streams
ERROR    host      `encode_failure`
PROGRESS host      JSON ``{"fraction": 0..1 or null, "message": str or null}``
EVENT    host      one streamed item as raw JSON
CALL     host      number = the worker's own; `encode_call`: for whom, then the input as raw JSON
CALL_CANCEL host   number = the CALL's number; empty: nobody wants its answer any more
CALL_ACK host      number = the CALL's number; u32: how many of its items were taken
======== ========= ==================================================================

A task may have a window of events under way that were not acknowledged, in number (`manifest.Welcome`)
and in size (`EVENT_WINDOW_BYTES`), and a call that streams one of items (`CALL_WINDOW`,
`CALL_WINDOW_BYTES`). A window is full when either is reached: so one item may go beyond the size.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn

from kagent_sdk.errors import ProtocolError
from kagent_sdk.protocol.tasks import TaskFailure

RUN_HEAD = struct.Struct("!HHdH")
"""Capability's index in the manifest, attempt, seconds left (inf: none), length of the text."""

COUNT = struct.Struct("!I")
SECONDS = struct.Struct("!d")
MAX_RUN_TEXT_BYTES = 0xFFFF
MAX_CALL_HEAD_BYTES = 0xFFFF
MAX_CALL_LABELS = 32
CALL_WINDOW = 64
CALL_WINDOW_BYTES = 4 * 1024 * 1024
"""What a worker holds at the most of a stream that its code does not read, and one item."""

EVENT_WINDOW_BYTES = 1024 * 1024
"""Well below ``tasks.max_event_bytes``: what no reader has taken must not fall out of a task's events."""

MAX_MESSAGE_CHARS = 10_000
MAX_DETAILS_DEPTH = 255
"""What pydantic can write at most; the host writes details with `json`, whose limit is higher."""


class Run(NamedTuple):
    """A RUN frame, decoded. ``metadata`` and ``input`` are raw JSON.

    A tuple, because one is made for every task: three times as fast as a frozen dataclass.
    """

    capability_index: int
    attempt: int
    timeout_s: float
    task_id: str
    traceparent: str
    metadata: bytes
    input: bytes


def encode_run(  # noqa: PLR0913 - the fields of the frame, without an object per task
    capability_index: int,
    attempt: int,
    timeout_s: float,
    *,
    task_id: str,
    traceparent: str,
    metadata: bytes,
    input: bytes,
) -> bytes:
    """Return the payload of a RUN frame.

    ``task_id`` and ``traceparent`` must be free of newlines (the control plane checks both);
    text and metadata together must fit `MAX_RUN_TEXT_BYTES`.
    """
    text = b"%b\n%b\n%b" % (task_id.encode(), traceparent.encode(), metadata)
    return RUN_HEAD.pack(capability_index, attempt, timeout_s, len(text)) + text + input


def decode_run(payload: bytes) -> Run:
    """Read the payload of a RUN frame.

    Raises:
        ProtocolError: the payload is shorter than it says or lacks a separator.
    """
    try:
        index, attempt, timeout_s, text_bytes = RUN_HEAD.unpack_from(payload)
        start = RUN_HEAD.size
        stop = start + text_bytes
        task_id, traceparent, metadata = payload[start:stop].split(b"\n", 2)
        run = Run(
            index,
            attempt,
            timeout_s,
            task_id.decode(),
            traceparent.decode(),
            metadata,
            payload[stop:],
        )
    except (struct.error, ValueError) as exc:
        raise ProtocolError(f"malformed RUN frame: {exc}") from exc
    if stop > len(payload):
        raise ProtocolError("malformed RUN frame: text is cut short")
    return run


is_label = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?").fullmatch
"""Whether a text may be key or value of a label: as in ``orchestrator.labels``."""

NO_LABELS: Mapping[str, str] = MappingProxyType({})


class CallHead(NamedTuple):
    """Where a CALL goes, and for how long.

    Attributes:
        agent: by name; None for any agent that offers the capability.
        task: the call number of the task that sends it; 0: it is none of a task's, but of a loop's.
        labels: all of them must be the agent's.
        stream: items are wanted as they come.
        id: of the task that is sent, if the author has chosen one.
    """

    agent: str | None
    capability: str
    timeout_s: float | None = None
    traceparent: str | None = None
    task: int = 0
    labels: Mapping[str, str] = NO_LABELS
    stream: bool = False
    id: str | None = None


def encode_call(head: CallHead, input: bytes) -> bytes:
    """Return the payload of a CALL frame; ``input`` is raw JSON."""
    document = head._asdict() | {"labels": dict(head.labels)}
    return json.dumps(document, separators=(",", ":")).encode() + b"\n" + input


def decode_call(payload: bytes) -> tuple[CallHead, bytes]:
    """Read the payload of a CALL frame; its input is raw, and not looked at.

    Raises:
        ProtocolError: the payload does not begin with such a head.
    """
    text = payload[: MAX_CALL_HEAD_BYTES + 1].partition(b"\n")[0]
    if len(text) > MAX_CALL_HEAD_BYTES:
        raise ProtocolError("malformed CALL frame: its head is too large")
    head = decode_object(text)
    agent, capability = head.get("agent"), head.get("capability")
    timeout_s, traceparent = head.get("timeout_s"), head.get("traceparent")
    if (
        not isinstance(agent, str | None)
        or not isinstance(capability, str)
        or not _is_timeout(timeout_s)
        or not isinstance(traceparent, str | None)
    ):
        raise ProtocolError("malformed CALL frame")
    read = CallHead(agent, capability, timeout_s, traceparent, *_read_call_options(head))
    return read, payload[len(text) + 1 :]


def _is_timeout(value: object) -> bool:
    if value is None:
        return True
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 < value < math.inf  # type: ignore[operator]


def _read_call_options(head: dict[str, Any]) -> tuple[int, Mapping[str, str], bool, str | None]:
    task = 0 if head.get("task") is None else head["task"]
    labels = NO_LABELS if head.get("labels") is None else head["labels"]
    is_streamed, task_id = head.get("stream", False), head.get("id")
    if (
        type(task) is not int
        or task < 0
        or not isinstance(labels, Mapping)
        or len(labels) > MAX_CALL_LABELS
        or not all(is_label(key) and _is_label_value(value) for key, value in labels.items())
        or not isinstance(is_streamed, bool)
        or not isinstance(task_id, str | None)
    ):
        raise ProtocolError("malformed CALL frame")
    return task, labels, is_streamed, task_id


def _is_label_value(value: object) -> bool:
    return isinstance(value, str) and is_label(value) is not None


def decode_count(payload: bytes) -> int:
    """Read the payload of an ACK or CALL_ACK frame.

    Raises:
        ProtocolError: it is no such number.
    """
    try:
        (count,) = COUNT.unpack(payload)
    except struct.error as exc:
        raise ProtocolError(f"malformed count: {exc}") from exc
    return int(count)


def encode_failure(failure: TaskFailure) -> bytes:
    """Return the payload of an ERROR frame; details that are not JSON become their ``repr``.

    A lone surrogate (of a file name, say) becomes a question mark: most parsers refuse it.
    """
    document = {**failure.as_dict(), "status": failure.status}
    text = json.dumps(document, default=repr, skipkeys=True, ensure_ascii=False)
    return text.encode(errors="replace")


def decode_failure(payload: bytes) -> TaskFailure:
    """Read the payload of an ERROR frame, trusting nothing in it.

    Raises:
        ProtocolError: the payload is not such a document.
    """
    document = decode_object(payload)
    code, message = document.get("code"), document.get("message")
    retryable, status = document.get("retryable"), document.get("status")
    if (
        not isinstance(code, str)
        or not isinstance(message, str)
        or not isinstance(retryable, bool)
        or type(status) is not int
        or not 400 <= status <= 599
    ):
        raise ProtocolError("malformed ERROR frame")
    details = document.get("details")
    if _is_deeper(details, MAX_DETAILS_DEPTH):
        raise ProtocolError("malformed ERROR frame: details are nested too deeply")
    return TaskFailure(code[:100], message[:MAX_MESSAGE_CHARS], retryable, details, status)


def encode_progress(fraction: float | None, message: str | None) -> bytes:
    """Return the payload of a PROGRESS frame."""
    return json.dumps({"fraction": fraction, "message": message}).encode()


def decode_progress(payload: bytes) -> tuple[float | None, str | None]:
    """Read the payload of a PROGRESS frame: a fraction within 0 to 1, and a short message.

    Raises:
        ProtocolError: the payload is not such a document.
    """
    document = decode_object(payload)
    fraction, message = document.get("fraction"), document.get("message")
    if isinstance(fraction, bool) or not isinstance(fraction, int | float | None):
        raise ProtocolError("malformed PROGRESS frame: fraction is not a number")
    if fraction is not None and not 0 <= fraction <= 1:
        raise ProtocolError("malformed PROGRESS frame: fraction is not within 0 and 1")
    if not isinstance(message, str | None):
        raise ProtocolError("malformed PROGRESS frame: message is not a string")
    return fraction, message if message is None else message[:MAX_MESSAGE_CHARS]


def decode_object(payload: bytes) -> dict[str, Any]:
    """Read a small JSON object; NaN and Infinity are no JSON.

    Raises:
        ProtocolError: it is not one.
    """
    try:
        document = json.loads(payload, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise ProtocolError("payload is not JSON") from exc
    if not isinstance(document, dict):
        raise ProtocolError("payload is not a JSON object")
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _is_deeper(value: object, depth: int) -> bool:
    """Tell whether a JSON value nests deeper; level by level, for recursion would have a limit."""
    level = [value]
    for _ in range(depth + 1):
        containers = [each for each in level if isinstance(each, dict | list)]
        if not containers:
            return False
        level = [item for each in containers for item in _items(each)]
    return True


def _items(container: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container
