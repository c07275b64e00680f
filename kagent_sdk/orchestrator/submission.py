"""The body of ``POST /v1/tasks`` at an orchestrator: an agent's envelope, and a little more. Pure.

::

    {"capability": "agent/name" | "name", "input": …, "labels"?: {…}, and the rest as an agent takes it}
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from kagent_sdk.config.orchestrator import LABEL_PATTERN, MAX_LABELS
from kagent_sdk.orchestrator import raw_json
from kagent_sdk.orchestrator.task import Target
from kagent_sdk.protocol import problems
from kagent_sdk.protocol.envelope import Envelope, parse_envelope
from kagent_sdk.protocol.json_text import JsonTextError
from kagent_sdk.protocol.link import AGENT_PATTERN
from kagent_sdk.protocol.problem import RequestError

MAX_LABELS_BYTES = 16 * 1024
MAX_CAPABILITY_BYTES = 1024

_is_label = re.compile(LABEL_PATTERN).fullmatch
_is_agent = re.compile(AGENT_PATTERN).fullmatch


@dataclass(frozen=True, slots=True)
class Submission:
    """What a caller asks for.

    Attributes:
        envelope: as an agent would read it; its capability is the bare name.
        target: who may get it.
        traceparent, trace_id, hops: of the request's headers.
    """

    envelope: Envelope
    target: Target
    traceparent: str = ""
    trace_id: str | None = None
    hops: int = 0


def parse_submission(body: bytes) -> tuple[Envelope, Target]:
    """Read a body.

    Call it in a thread for a body over `json_text.SMALL_BYTES`.

    Raises:
        RequestError: with the problem to answer.
    """
    agent: str | None = None
    labels: dict[str, str] = {}
    try:
        found = raw_json.split(body)
        labels = _read_labels(found.pop("labels", b"null"))
        agent, found["capability"] = _split_name(found.get("capability", b"null"))
    except JsonTextError:
        # Read as an agent reads it: that says what is wrong, and in the same words.
        return parse_envelope(body), Target(None, "")
    envelope = parse_envelope(_join(found))
    if envelope.callback_url is not None:
        raise problem("callback_url", "an orchestrator makes no callbacks: wait, or follow events")
    return envelope, Target(agent, envelope.capability, tuple(sorted(labels.items())))


def problem(key: str, message: str) -> RequestError:
    """Return the refusal of a member."""
    return RequestError(
        problems.invalid_request([{"loc": [key], "msg": message, "type": "value_error"}])
    )


def _join(found: dict[str, bytes]) -> bytes:
    return b"{%b}" % b",".join(
        b"%b:%b" % (json.dumps(key).encode(), raw) for key, raw in found.items()
    )


def _split_name(raw: bytes) -> tuple[str | None, bytes]:
    if not raw.startswith(b'"') or len(raw) > MAX_CAPABILITY_BYTES or b"/" not in raw:
        return None, raw
    agent, _, name = json.loads(raw).partition("/")
    if not _is_agent(agent):
        raise problem("capability", "must be NAME or AGENT/NAME")
    return agent, json.dumps(name).encode()


def _read_labels(raw: bytes) -> dict[str, str]:
    if len(raw) > MAX_LABELS_BYTES:
        raise problem("labels", f"must not be over {MAX_LABELS_BYTES} bytes of JSON")
    labels: Any = raw_json.value(raw)
    if labels is None:
        return {}
    if not isinstance(labels, dict) or len(labels) > MAX_LABELS:
        raise problem("labels", f"must be an object of up to {MAX_LABELS} labels")
    for key, label in labels.items():
        if not isinstance(label, str) or not _is_label(key) or not _is_label(label):
            raise problem("labels", "keys and values must be words of up to 63 characters")
    return labels
