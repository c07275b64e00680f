"""What an orchestrator says of a task that this agent sent: read without building the output. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from kagent_sdk.link.decisions import ContactError, is_code, judge_status
from kagent_sdk.link.http.messages import Answer, not_klink, read_code
from kagent_sdk.link.port import OutgoingCall
from kagent_sdk.protocol.json_text import JsonTextError, check_text, read_member, skip_blank
from kagent_sdk.protocol.tasks import FINAL_STATES, ErrorCode, TaskFailure, TaskState

MAX_MESSAGE_CHARS = 4096
MAX_MEMBERS = 100

QUEUE_FULL_STATUS = 429


@dataclass(frozen=True, slots=True)
class RemoteTask:
    """A task at the orchestrator.

    Attributes:
        output: raw JSON, of a task that is completed.
        failure: of one that has ended otherwise.
    """

    state: TaskState
    output: bytes = b"null"
    failure: TaskFailure | None = None

    @property
    def is_finished(self) -> bool:
        """Whether it has ended."""
        return self.state in FINAL_STATES


class _Failure(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    code: str
    message: str = ""
    retryable: bool = False
    details: Any = None


class _ProblemDocument(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    code: str
    detail: str = ""
    error: _Failure | None = None


def encode_call(call: OutgoingCall, timeout_s: float | None) -> bytes:
    """Return the body of ``POST /v1/tasks``.

    Args:
        call: what to send.
        timeout_s: what is left of its time by now.
    """
    name = call.capability if call.agent is None else f"{call.agent}/{call.capability}"
    head: dict[str, Any] = {"id": call.task, "capability": name}
    if timeout_s is not None:
        head["timeout_s"] = timeout_s
    if call.labels:
        head["labels"] = dict(call.labels)
    return b'%b,"input":%b}' % (json.dumps(head).encode()[:-1], call.input or b"{}")


def parse_task(body: bytes) -> RemoteTask:
    """Read a task document. Call it in a thread for a large one.

    Raises:
        ContactError: it is none.
    """
    try:
        members = _split(body)
        state = TaskState(members.get("state", b"").decode().strip('"'))
    except JsonTextError as exc:
        raise not_klink(f"a task is not JSON ({exc.reason})") from None
    except ValueError:
        raise not_klink("a task has no state") from None
    if state is TaskState.COMPLETED:
        return RemoteTask(state, members.get("output", b"null"))
    if state in FINAL_STATES:
        return RemoteTask(state, failure=_read_failure(state, members.get("error", b"null")))
    return RemoteTask(state)


def _split(body: bytes) -> dict[str, bytes]:
    """Return the raw values of an object's members; of a name that comes twice, the last."""
    check_text(body)
    position = skip_blank(body, 0)
    if body[position : position + 1] != b"{":
        raise JsonTextError("an object is expected", position)
    members: dict[str, bytes] = {}
    position = skip_blank(body, position + 1)
    while body[position : position + 1] != b"}":
        raw_key, raw, position = read_member(body, position)
        members[raw_key[1:-1].decode()] = raw
        if len(members) > MAX_MEMBERS:
            raise JsonTextError("too many members", position)
    return members


def _read_failure(state: TaskState, raw: bytes) -> TaskFailure:
    try:
        error = _Failure.model_validate_json(raw)
    except ValidationError:
        code = ErrorCode.CANCELED if state is TaskState.CANCELED else ErrorCode.INTERNAL_ERROR
        return TaskFailure(code, f"the task has ended as {state.value}, and nobody says why")
    return _to_failure(error, 500)


def _to_failure(error: _Failure, status: int) -> TaskFailure:
    code = error.code if is_code(error.code) else ErrorCode.INTERNAL_ERROR.value
    message = error.message[:MAX_MESSAGE_CHARS]
    return TaskFailure(code, message, error.retryable, error.details, status)


def read_refusal(answer: Answer) -> TaskFailure | None:
    """Return why the orchestrator will not take a call; None when it may take it later, or has.

    A queue that is full is the caller's business: it knows whether to wait.
    """
    code = read_code(answer.headers, answer.body)
    error = judge_status(answer.status, code)
    if error is None or (answer.status != QUEUE_FULL_STATUS and is_passing(error)):
        return None
    if not code or answer.status in {401, 403}:
        return unreachable(error)
    try:
        problem = _ProblemDocument.model_validate_json(answer.body)
    except ValidationError:
        return unreachable(error)
    return _from_problem(problem, answer.status)


def is_passing(error: ContactError) -> bool:
    """Whether the same request may be taken in a moment."""
    return error.status is None or error.status >= 500 or error.status in {408, 425, 429}


def _from_problem(problem: _ProblemDocument, status: int) -> TaskFailure:
    if problem.error is not None:
        return _to_failure(problem.error, status)
    is_full = status == QUEUE_FULL_STATUS
    return _to_failure(
        _Failure(code=problem.code, message=problem.detail, retryable=is_full), status
    )


def unreachable(error: ContactError) -> TaskFailure:
    """Return the failure of a call that the orchestrator does not take as it should."""
    return TaskFailure(ErrorCode.UNREACHABLE, error.reason, retryable=True, status=502)


def timed_out(call: OutgoingCall, last_error: str) -> TaskFailure:
    """Return the failure of a call whose time is over."""
    why = f"; the orchestrator could not be asked: {last_error}" if last_error else ""
    message = f"no result of {call.capability} within {call.timeout_s or 0:g} s{why}"
    return TaskFailure(ErrorCode.TIMEOUT, message, retryable=True, status=504)


def lost_items() -> TaskFailure:
    """Return the failure of a streamed call of which items are gone for good."""
    return TaskFailure(ErrorCode.INTERRUPTED, "items of the stream are lost: they came too fast")
