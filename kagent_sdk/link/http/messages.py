"""The messages of kLink over HTTP as bytes: written by hand where they hold raw JSON, read with care.

Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kagent_sdk.link.decisions import ContactError, Fault
from kagent_sdk.link.port import Report
from kagent_sdk.protocol.envelope import EnvelopeError, parse_envelope
from kagent_sdk.protocol.headers import format_time, parse_traceparent
from kagent_sdk.protocol.link import (
    ATTEMPT_HEADER,
    BEAT_HEADER,
    HOPS_HEADER,
    LEASE_HEADER,
    MAX_HOPS,
    WORD_PATTERN,
    Offer,
)
from kagent_sdk.protocol.problem import PROBLEM_CONTENT_TYPE
from kagent_sdk.protocol.tasks import TaskFailure, TaskState

M = TypeVar("M", bound=BaseModel)

MAX_CODE_BYTES = 64 * 1024

_is_word = re.compile(WORD_PATTERN).fullmatch
_is_count = re.compile(r"[0-9]{1,9}").fullmatch
_is_beat = re.compile(r"[0-9]{1,16}").fullmatch


@dataclass(frozen=True, slots=True)
class Answer:
    """What an orchestrator answered, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Problem(BaseModel):
    model_config = ConfigDict(extra="ignore")

    code: str = Field("", max_length=100)


def parse_answer(model: type[M], body: bytes) -> M:
    """Read an answer.

    Raises:
        ContactError: it is not what kLink says.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as exc:
        raise not_klink(_name_fault(exc)) from None


def not_klink(what: str) -> ContactError:
    """Return the error of an answer that is not what kLink says."""
    return ContactError(f"the orchestrator's answer is not kLink: {what}", Fault.REFUSED)


def _name_fault(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return "it is not JSON"
    # Names of our own models' members; of what the other side made up there is only the number.
    where = ".".join(str(part) for part in first["loc"][:4])
    return f"{where or 'the whole'} is wrong ({first['type']})"


def read_code(headers: Mapping[str, str], body: bytes) -> str:
    """Return the code of a problem document; empty when the answer is none."""
    content_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if content_type != PROBLEM_CONTENT_TYPE or len(body) > MAX_CODE_BYTES:
        return ""
    try:
        return _Problem.model_validate_json(body).code
    except ValidationError:
        return ""


def encode_reports(reports: Sequence[Report]) -> bytes:
    """Return the body of ``POST …/reports``; payloads stay the bytes that they are."""
    return b'{"items":[%b]}' % b",".join(map(_encode_report, reports))


def _encode_report(report: Report) -> bytes:
    head = {"id": report.id, "task": report.task, "lease": report.lease, "kind": report.kind}
    return b'%b,"payload":%b}' % (json.dumps(head).encode()[:-1], report.payload)


def parse_offer(headers: Mapping[str, str], body: bytes) -> Offer:
    """Read an offer from the answer to a fetch. Call it in a thread for a large body.

    Raises:
        ContactError: it is not what kLink says.
    """
    lease = headers.get(LEASE_HEADER, "")
    attempt = headers.get(ATTEMPT_HEADER, "1")
    hops = headers.get(HOPS_HEADER, "0")
    beat = headers.get(BEAT_HEADER, "0")
    if not _is_word(lease):
        raise not_klink(f"an offer's header {LEASE_HEADER} is missing or wrong")
    if not _is_count(attempt) or int(attempt) < 1:
        raise not_klink(f"an offer's header {ATTEMPT_HEADER} is wrong")
    if not _is_count(hops) or int(hops) > MAX_HOPS:
        raise not_klink(f"an offer's header {HOPS_HEADER} is wrong")
    if not _is_beat(beat):
        raise not_klink(f"an offer's header {BEAT_HEADER} is wrong")
    try:
        envelope = parse_envelope(body)
    except EnvelopeError as exc:
        raise not_klink(f"an offer's body is no task ({exc.problem.code})") from None
    if envelope.id is None:
        raise not_klink("an offer's task has no id")
    trace = parse_traceparent(headers.get("traceparent"))
    return Offer(
        task=envelope.id,
        lease=lease,
        capability=envelope.capability,
        input=envelope.input,
        timeout_s=envelope.timeout_s,
        metadata=envelope.metadata,
        traceparent="" if trace is None else trace.traceparent,
        attempt=int(attempt),
        hops=int(hops),
        beat=int(beat),
    )


def reject(offer: Offer, failure: TaskFailure, now_s: float) -> Report:
    """Return the report that this agent will never take an offer: its task is rejected."""
    now = format_time(now_s)
    trace = parse_traceparent(offer.traceparent)
    document = {
        "id": offer.task,
        "capability": offer.capability,
        "state": TaskState.REJECTED.value,
        "output": None,
        "error": failure.as_dict(),
        "progress": None,
        "attempt": 0,
        "created_at": now,
        "started_at": None,
        "finished_at": now,
        "trace_id": None if trace is None else trace.trace_id,
        "metadata": json.loads(offer.metadata),
    }
    payload = json.dumps(document).encode()
    return Report(f"rejected-{offer.lease}", offer.task, offer.lease, "result", payload)
