"""Every case in which the control plane says no, as a function that returns its `Problem`.

No text here holds a traceback, a secret or a path. What the caller sent is shown shortened, in
printable ASCII alone, so that a log or a terminal may show it.
"""

from __future__ import annotations

import math
import re
from difflib import get_close_matches
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from kagent_sdk.protocol.problem import Problem, ProblemCode
from kagent_sdk.protocol.tasks import ErrorCode, TaskFailure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CHALLENGE = 'Bearer realm="kagent"'
"""What an answer 401 asks for (RFC 9110, 11.6.1; RFC 6750, 3)."""

MAX_SHOWN_CHARS = 80
MAX_RETRY_AFTER_S = 3600
MAX_NAME_CHARS = 64
"""As `manifest.NAME_PATTERN` allows; a longer name has no neighbours."""
MAX_COMPARED_NAMES = 30
"""difflib takes some 20 µs a name: one wrong name must not cost the loop more than 1 ms."""

_CASES: Mapping[str, tuple[int, str]] = {
    ProblemCode.INVALID_JSON: (400, "Body is not valid JSON"),
    ProblemCode.UNKNOWN_KEY: (400, "Request has an unknown member"),
    ProblemCode.INVALID_HEADER: (400, "Header is not valid"),
    ProblemCode.INVALID_QUERY: (400, "Query is not valid"),
    ProblemCode.MALFORMED_REQUEST: (400, "Request is not valid HTTP"),
    ProblemCode.UNAUTHENTICATED: (401, "Authentication is required"),
    ProblemCode.FOREIGN_ORIGIN: (403, "Request comes from elsewhere"),
    ProblemCode.FOREIGN_LEASE: (403, "Lease is not yours to give"),
    ProblemCode.NO_ROUTE: (404, "No such route"),
    ProblemCode.UNKNOWN_CAPABILITY: (404, "No such capability"),
    ProblemCode.UNKNOWN_TASK: (404, "No such task"),
    ProblemCode.METHOD_NOT_ALLOWED: (405, "Method is not allowed"),
    ProblemCode.REQUEST_TIMEOUT: (408, "Request took too long to arrive"),
    ProblemCode.ID_CONFLICT: (409, "Id belongs to another task"),
    ProblemCode.RELOAD_FAILED: (409, "Reload failed"),
    ProblemCode.SNAPSHOT_RUNNING: (409, "A snapshot is being made"),
    ProblemCode.BODY_TOO_LARGE: (413, "Body is too large"),
    ProblemCode.UNSUPPORTED_MEDIA_TYPE: (415, "Body is not JSON"),
    ProblemCode.INVALID_REQUEST: (422, "Request does not validate"),
    ProblemCode.QUEUE_FULL: (429, "Queue is full"),
    ProblemCode.OUTBOX_FULL: (429, "Outbox is full"),
    ProblemCode.INTERNAL_ERROR: (500, "Internal error"),
    ProblemCode.SNAPSHOT_FAILED: (500, "Snapshot failed"),
    ProblemCode.STARTING: (503, "Agent takes no tasks now"),
    ProblemCode.DRAINING: (503, "Agent takes no tasks now"),
    ProblemCode.WORKER_DOWN: (503, "Agent takes no tasks now"),
    ProblemCode.MEMORY: (503, "Agent takes no tasks now"),
}

_FAILURES: Mapping[str, tuple[int, str]] = {
    ErrorCode.INVALID_JSON: (400, "Input is not valid JSON"),
    # The workers that a reload brought do not have it any more.
    ErrorCode.UNKNOWN_CAPABILITY: (404, "No such capability"),
    # Somebody else cancelled the task that this request asks for: a conflict with the state of the
    # resource. 499 is no registered status, and 410 would say that a result had been there.
    ErrorCode.CANCELED: (409, "Task was canceled"),
    ErrorCode.ID_CONFLICT: (409, "Id belongs to another task"),
    ErrorCode.INVALID_INPUT: (422, "Input does not validate"),
    ErrorCode.TOO_MANY_CALLS: (429, "Too many calls are under way"),
    ErrorCode.INTERNAL_ERROR: (500, "Capability failed"),
    ErrorCode.INVALID_OUTPUT: (500, "Output does not validate"),
    ErrorCode.OUTPUT_TOO_LARGE: (500, "Output is too large"),
    ErrorCode.SECRET_IN_OUTPUT: (500, "Output holds a secret"),
    # The host is the gateway to a worker that broke the connection (RFC 9110, 15.6.3).
    ErrorCode.WORKER_CRASHED: (502, "Worker crashed"),
    ErrorCode.UNREACHABLE: (502, "Another agent cannot be reached"),
    ErrorCode.ITEMS_LOST: (502, "Items of a stream were lost"),
    # As with HTTP's own circles (RFC 5842, 7.2).
    ErrorCode.TOO_MANY_HOPS: (508, "Agents call each other in a circle"),
    ErrorCode.STATE_CONFLICT: (503, "State changed meanwhile"),
    ErrorCode.JOURNAL_UNAVAILABLE: (503, "Journal takes no tasks"),
    ErrorCode.INTERRUPTED: (503, "Task was interrupted"),
    ErrorCode.TIMEOUT: (504, "Task timed out"),
    ErrorCode.STATE_QUOTA_EXCEEDED: (507, "State is full"),
}
_UNNAMED_STATUS = 500
"""`TaskFailure.status` of a failure that names no status of its own."""


def invalid_json(reason: str) -> Problem:
    """Answer 400: the body is not JSON; ``reason`` says what is wrong and where."""
    return _problem(ProblemCode.INVALID_JSON, reason)


def unknown_key(name: str, known: Sequence[str]) -> Problem:
    """Answer 400: the body has a member that the request does not know."""
    near = nearest_names(name, known)
    way_out = f"did you mean {_one_of(near)}?" if near else f"known are {', '.join(known)}"
    detail = f"unknown key {_shown(name)}; {way_out}"
    return _problem(ProblemCode.UNKNOWN_KEY, detail, {"nearest": near})


def invalid_header(name: str, reason: str) -> Problem:
    """Answer 400: a header that we know has a value that we do not understand."""
    return _problem(ProblemCode.INVALID_HEADER, f"header {name}: {reason}")


def invalid_query(name: str, reason: str, known: Sequence[str] = ()) -> Problem:
    """Answer 400: a query parameter is wrong, or unknown (then ``known`` are the right ones)."""
    near = nearest_names(name, known)
    way_out = f"; did you mean {_one_of(near)}?" if near else ""
    extra = {"nearest": near} if known else {}
    return _problem(
        ProblemCode.INVALID_QUERY, f"query parameter {_shown(name)}: {reason}{way_out}", extra
    )


def malformed_request() -> Problem:
    """Answer 400: the bytes on the connection are not HTTP."""
    return _problem(
        ProblemCode.MALFORMED_REQUEST,
        "the request cannot be read as HTTP/1.1",
        headers={"Connection": "close"},
    )


def unauthenticated(*, sent: bool) -> Problem:
    """Answer 401: the token is missing or, if one was ``sent``, wrong."""
    if not sent:
        # RFC 6750, 3.1: no error attribute when the request carried no credentials at all.
        detail = "a token is required; send the header Authorization: Bearer TOKEN"
        headers = {"WWW-Authenticate": CHALLENGE}
    else:
        detail = "the bearer token is wrong"
        headers = {"WWW-Authenticate": f'{CHALLENGE}, error="invalid_token"'}
    return _problem(ProblemCode.UNAUTHENTICATED, detail, headers=headers)


def foreign_origin() -> Problem:
    """Answer 403: the request comes from a web page, or by a name that is not this machine's."""
    return _problem(
        ProblemCode.FOREIGN_ORIGIN,
        "without a token only local programs may call: no Origin header, and a Host of localhost "
        "or a loopback address",
    )


def foreign_lease() -> Problem:
    """Answer 403: whoever offers a task with a lease is not the agent's orchestrator.

    An orchestrator meets it when another host listens there by now: the task is one for others then.
    """
    return _problem(
        ProblemCode.FOREIGN_LEASE,
        "tasks with a lease are taken from this agent's orchestrator alone; leave Klink-Lease out",
    )


def no_route() -> Problem:
    """Answer 404: no route has this path."""
    return _problem(ProblemCode.NO_ROUTE, "no such route; GET /openapi.json lists them all")


def unknown_capability(name: str, known: Iterable[str]) -> Problem:
    """Answer 404: the agent has no capability of this name; gives the nearest names."""
    near = nearest_names(name, known)
    way_out = (
        f"did you mean {_one_of(near)}?" if near else "GET /v1/capabilities lists what there is"
    )
    detail = f"no capability {_shown(name)}; {way_out}"
    return _problem(ProblemCode.UNKNOWN_CAPABILITY, detail, {"nearest": near})


def unknown_task(task_id: str) -> Problem:
    """Answer 404: no task of this id is kept."""
    return _problem(
        ProblemCode.UNKNOWN_TASK,
        f"no task {_shown(task_id)}; it never existed, or its retention is over",
    )


def method_not_allowed(allow: str) -> Problem:
    """Answer 405: the route exists for other methods; ``allow`` is the value of header Allow."""
    return _problem(
        ProblemCode.METHOD_NOT_ALLOWED, f"this route takes {allow}", headers={"Allow": allow}
    )


def request_timeout(limit_s: float) -> Problem:
    """Answer 408: the client took too long to send its request."""
    return _problem(
        ProblemCode.REQUEST_TIMEOUT,
        f"the request did not arrive within {limit_s:g} s",
        headers={"Connection": "close"},
    )


def id_conflict(task_id: str) -> Problem:
    """Answer 409: the id is taken by a task with another capability or input."""
    return _problem(
        ProblemCode.ID_CONFLICT,
        f"id {_shown(task_id)} belongs to a task with another capability or input; "
        "take a new id for a new task",
    )


def reload_failed(reason: str) -> Problem:
    """Answer 409: the new workers did not come up, or the files are wrong; the old ones go on."""
    return _problem(
        ProblemCode.RELOAD_FAILED, f"{reason}; the agent goes on as it was before the reload"
    )


def snapshot_running() -> Problem:
    """Answer 409: one snapshot is made at a time."""
    return _problem(
        ProblemCode.SNAPSHOT_RUNNING,
        "a snapshot is being made; GET /status tells when it is done",
    )


def body_too_large(limit_bytes: int) -> Problem:
    """Answer 413: the body is over ``http.max_body_bytes``."""
    return _problem(
        ProblemCode.BODY_TOO_LARGE, f"the body is over the limit of {limit_bytes} bytes"
    )


def unsupported_media_type() -> Problem:
    """Answer 415: the body is not announced as JSON."""
    return _problem(
        ProblemCode.UNSUPPORTED_MEDIA_TYPE,
        "send JSON, with the header Content-Type: application/json",
        headers={"Accept": "application/json"},
    )


def invalid_request(details: Sequence[Mapping[str, Any]]) -> Problem:
    """Answer 422: members of the body are wrong; ``details`` are ``{loc, msg, type}``, one or more."""
    first = details[0]
    where = ".".join(str(part) for part in first["loc"]) or "body"
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    message = f"{where}: {first['msg']}{more}"
    failure = TaskFailure(ProblemCode.INVALID_REQUEST, message, details=[*details])
    return _problem(ProblemCode.INVALID_REQUEST, message, {"error": failure.as_dict()})


def callback_refused(reason: str) -> Problem:
    """Answer 422: a task may not have this callback."""
    return invalid_request([{"loc": ["callback_url"], "msg": reason, "type": "callback_refused"}])


def invalid_input(details: Sequence[Mapping[str, Any]]) -> Problem:
    """Answer 422: the input does not fit the capability; ``details`` are pydantic's."""
    message = "the input does not validate"
    return from_failure(TaskFailure(ErrorCode.INVALID_INPUT, message, details=[*details]))


def queue_full(retry_after_s: float) -> Problem:
    """Answer 429: no more tasks, or bytes of their inputs, may wait."""
    return _problem(
        ProblemCode.QUEUE_FULL,
        "as many tasks wait as may wait; try again later",
        headers=retry_after(retry_after_s),
    )


def outbox_full(retry_after_s: float) -> Problem:
    """Answer 429: no more callbacks may wait to be delivered."""
    return _problem(
        ProblemCode.OUTBOX_FULL,
        "as many callbacks wait to be delivered as may wait (callbacks.max_pending_bytes); send "
        "the task without callback_url, or try again later",
        headers=retry_after(retry_after_s),
    )


def internal_error() -> Problem:
    """Answer 500: something of ours went wrong; what it was stands in the log alone."""
    return _problem(ProblemCode.INTERNAL_ERROR, "the agent's log says what went wrong")


def snapshot_failed(reason: str) -> Problem:
    """Answer 500: a snapshot could not be made; nothing is left of it."""
    return _problem(ProblemCode.SNAPSHOT_FAILED, reason)


def starting(retry_after_s: float) -> Problem:
    """Answer 503: no worker has been ready yet."""
    return _unavailable(ProblemCode.STARTING, "the agent is starting", retry_after_s)


def draining(retry_after_s: float) -> Problem:
    """Answer 503: the agent is shutting down and takes no new task."""
    return _unavailable(
        ProblemCode.DRAINING, "the agent finishes its tasks and takes no new ones", retry_after_s
    )


def worker_down(retry_after_s: float) -> Problem:
    """Answer 503: no worker is there to run a task."""
    return _unavailable(ProblemCode.WORKER_DOWN, "the worker is being restarted", retry_after_s)


def memory_short(retry_after_s: float) -> Problem:
    """Answer 503: the agent is near its memory limit and takes no new task."""
    return _unavailable(ProblemCode.MEMORY, "the agent is near its memory limit", retry_after_s)


def timed_out(timeout_s: float) -> Problem:
    """Answer 504: the task did not end within its timeout."""
    message = f"no result within {timeout_s:g} s"
    return from_failure(TaskFailure(ErrorCode.TIMEOUT, message, retryable=True))


def from_failure(failure: TaskFailure, retry_after_s: float = 1) -> Problem:
    """Return the fast path's answer for a failed task.

    The status is the failure's own, when it names one (not 500); else the code's: invalid_json
    400, canceled 409, invalid_input 422, worker_crashed and unreachable 502, interrupted,
    state_conflict and journal_unavailable 503, timeout 504, state_quota_exceeded 507, and 500 for every other.
    """
    status = failure.status
    case = _FAILURES.get(failure.code)
    if case is not None and status == _UNNAMED_STATUS:
        status = case[0]
    headers: Mapping[str, str] = {}
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        headers = retry_after(retry_after_s)
    elif status == HTTPStatus.UNAUTHORIZED:
        # RFC 9110, 15.5.2: an author's own 401 must carry a challenge too.
        headers = {"WWW-Authenticate": CHALLENGE}
    return Problem(
        status,
        _phrase(status) if case is None else case[1],
        str(failure.code),
        failure.message,
        {"error": failure.as_dict()},
        headers,
        is_ours=case is not None,
    )


def retry_after(seconds: float) -> dict[str, str]:
    """Return the header Retry-After: whole seconds, at least 1, at most an hour."""
    whole = 1 if math.isnan(seconds) else math.ceil(max(1.0, min(seconds, MAX_RETRY_AFTER_S)))
    return {"Retry-After": str(whole)}


def nearest_names(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return up to ``count`` known names that look like ``name``, the nearest first."""
    if len(name) > MAX_NAME_CHARS:
        return []
    folded = name.casefold()
    by_fold = {known_name.casefold(): known_name for known_name in known}
    compared = list(by_fold)
    if len(compared) > MAX_COMPARED_NAMES:
        letters = set(folded)
        compared.sort(key=lambda other: len(letters.symmetric_difference(other)))
        del compared[MAX_COMPARED_NAMES:]
    return [by_fold[near] for near in get_close_matches(folded, compared, count)]


def _problem(
    code: ProblemCode,
    detail: str,
    extra: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Problem:
    status, title = _CASES[code]
    return Problem(status, title, code.value, detail, extra or {}, headers or {})


def _unavailable(code: ProblemCode, detail: str, retry_after_s: float) -> Problem:
    return _problem(code, f"{detail}; try again later", headers=retry_after(retry_after_s))


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


_UNSHOWABLE = re.compile(r"[^ -~]")


def _shown(text: str) -> str:
    cut = f"{text[:MAX_SHOWN_CHARS]}..." if len(text) > MAX_SHOWN_CHARS else text
    return f"'{_UNSHOWABLE.sub('?', cut)}'"


def _one_of(names: Sequence[str]) -> str:
    return " or ".join(f"'{name}'" for name in names)
