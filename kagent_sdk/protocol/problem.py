"""The problem document (RFC 9457): how the control plane says that it did not do what was asked.

It has one shape: ``{type, title, status, detail, code}``, with ``error`` when a task or an input is
at fault (the four members of `TaskFailure`), and ``nearest`` when a name is unknown. The cases are
in `kagent_sdk.protocol.problems`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kagent_sdk.errors import KagentError

PROBLEM_CONTENT_TYPE = "application/problem+json"
URN_PREFIX = "urn:kagent:problem:"

MAX_DETAIL_DEPTH = 32
"""What nests deeper in an author's details is cut, once they are not plain JSON anyway."""
MAX_INT_BITS = 8192
"""Python refuses to write out longer integers somewhat above this (4300 digits)."""


class ProblemCode(StrEnum):
    """Codes of problems that are not a task's error. `ErrorCode` has the others."""

    INVALID_JSON = "invalid_json"
    UNKNOWN_KEY = "unknown_key"
    INVALID_REQUEST = "invalid_request"
    INVALID_HEADER = "invalid_header"
    INVALID_QUERY = "invalid_query"
    MALFORMED_REQUEST = "malformed_request"
    UNAUTHENTICATED = "unauthenticated"
    FOREIGN_ORIGIN = "foreign_origin"
    FOREIGN_LEASE = "foreign_lease"
    NO_ROUTE = "no_route"
    UNKNOWN_CAPABILITY = "unknown_capability"
    UNKNOWN_TASK = "unknown_task"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    REQUEST_TIMEOUT = "request_timeout"
    ID_CONFLICT = "id_conflict"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    QUEUE_FULL = "queue_full"
    OUTBOX_FULL = "outbox_full"
    STARTING = "starting"
    DRAINING = "draining"
    WORKER_DOWN = "worker_down"
    MEMORY = "memory"
    RELOAD_FAILED = "reload_failed"
    SNAPSHOT_RUNNING = "snapshot_running"
    SNAPSHOT_FAILED = "snapshot_failed"
    INTERNAL_ERROR = "internal_error"


@dataclass(frozen=True, slots=True)
class Problem:
    """One answer that says no.

    Attributes:
        status: the HTTP status, 400 to 599.
        title: the same words for every problem of this code.
        code: stable name for programs.
        detail: one sentence on this occurrence, for people, with the way out.
        extra: further members of the document: ``error``, ``nearest``.
        headers: what the answer must carry beside its content type.
        is_ours: whether the code is of our name space; an author's own code is not.
    """

    status: int
    title: str
    code: str
    detail: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    is_ours: bool = True

    @property
    def type(self) -> str:
        """The problem's type, a URI: ours by code, ``about:blank`` for an author's own."""
        return f"{URN_PREFIX}{self.code}" if self.is_ours else "about:blank"

    def to_bytes(self) -> bytes:
        """Return the document as ASCII JSON. Never fails, whatever an author put into details."""
        document = {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            **self.extra,
        }
        try:
            text = json.dumps(document, allow_nan=False, separators=(",", ":"))
        except (ValueError, TypeError, RecursionError):
            text = json.dumps(_to_plain(document, MAX_DETAIL_DEPTH), separators=(",", ":"))
        return text.encode()


class RequestError(KagentError):
    """A request cannot be served as it stands.

    Attributes:
        problem: the answer to it.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.status} {problem.code}: {problem.detail}")
        self.problem = problem


def _to_plain(value: object, depth: int) -> object:
    """Copy what JSON can say; the rest becomes null, and so does what nests too deeply."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if value.bit_length() <= MAX_INT_BITS else None
    if isinstance(value, str):
        return value
    if depth and isinstance(value, Mapping):
        return {str(key): _to_plain(member, depth - 1) for key, member in value.items()}
    if depth and isinstance(value, list | tuple):
        return [_to_plain(item, depth - 1) for item in value]
    return None
