"""The body of ``POST /v1/tasks``, read without building its input.

::

    {"capability": "digest", "input": …, "id"?: "…", "timeout_s"?: 30, "metadata"?: {…},
     "callback_url"?: "https://…"}

``input`` and ``metadata`` stay the bytes that the caller sent: the worker judges the input from
them, and the journal and the answer need no second opinion on what they say. A member
may be null, which is the same as leaving it out; only ``input`` keeps its null, and left out it is
``{}``, the input of a capability without parameters.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, TypeGuard

from kagent_sdk.protocol import problems
from kagent_sdk.protocol.headers import TASK_ID_RULE, is_task_id
from kagent_sdk.protocol.json_text import (
    JsonTextError,
    check_text,
    is_json,
    read_member,
    skip_blank,
    skip_value,
)
from kagent_sdk.protocol.problem import RequestError

__all__ = ["Envelope", "EnvelopeError", "is_json", "is_same_input", "parse_envelope"]

ENVELOPE_KEYS = ("callback_url", "capability", "id", "input", "metadata", "timeout_s")
_KEYS = {f'"{key}"'.encode(): key for key in ENVELOPE_KEYS}
MAX_CAPABILITY_CHARS = 64
MAX_TIMEOUT_S = 1e9
"""Some 30 years; what a deadline can be computed with. The agent's own limit is far lower."""
MAX_METADATA_BYTES = 16 * 1024
MAX_METADATA_DEPTH = 16
NO_INPUT = b"{}"
NO_METADATA = b"{}"

MAX_CANONICAL_BYTES = 8 * 1024
"""Of an input that is compared by what it says: that may take 2 ms of the loop at the most."""

_MAX_KEY_BYTES = 512
"""Over any key of ours, even with every character escaped."""
_MAX_NUMBER_BYTES = 400
"""Of timeout_s; the longest finite float written out in full has 309 digits."""


class EnvelopeError(RequestError):
    """The body is not an envelope: 400 when it is not JSON, 422 when members are wrong."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a caller asks for.

    Attributes:
        id: the task's id, if the caller chose one.
        capability: the name; it may be unknown.
        input: raw JSON, exactly as it was sent.
        timeout_s: above 0 and up to `MAX_TIMEOUT_S`; None for the capability's own.
        metadata: raw JSON of an object.
        callback_url: where to tell of the task's end; a URL, but perhaps not an allowed one.
    """

    id: str | None
    capability: str
    input: bytes
    timeout_s: float | None
    metadata: bytes
    callback_url: str | None = None


def parse_envelope(body: bytes) -> Envelope:
    """Read the body of ``POST /v1/tasks``.

    Call it in a thread for a body over `json_text.SMALL_BYTES`.

    Raises:
        EnvelopeError: with the problem to answer.
    """
    try:
        check_text(body)
        members = _split_members(body)
    except JsonTextError as exc:
        raise EnvelopeError(problems.invalid_json(str(exc))) from None
    wrong: list[dict[str, Any]] = []
    envelope = Envelope(
        _read_id(members.get("id"), wrong),
        _read_capability(members.get("capability"), wrong),
        members.get("input", NO_INPUT),
        _read_timeout(members.get("timeout_s"), wrong),
        _read_metadata(members.get("metadata"), wrong),
        _read_callback_url(members.get("callback_url"), wrong),
    )
    if wrong:
        raise EnvelopeError(problems.invalid_request(wrong))
    return envelope


def _split_members(body: bytes) -> dict[str, bytes]:
    """Return the raw value of every member of the object."""
    position = skip_blank(body, 0)
    if body[position : position + 1] != b"{":
        _check_end(body, skip_value(body, position))
        raise EnvelopeError(
            problems.invalid_request([_wrong("", "must be an object", "dict_type")])
        )
    members: dict[str, bytes] = {}
    position = skip_blank(body, position + 1)
    while body[position : position + 1] != b"}":
        start = position
        raw_key, raw, position = read_member(body, start)
        key = _KEYS.get(raw_key) or _read_key(raw_key)
        if key in members:
            raise JsonTextError(f"the key '{key}' comes twice, again", start)
        members[key] = raw
    _check_end(body, position + 1)
    return members


def _check_end(body: bytes, position: int) -> None:
    position = skip_blank(body, position)
    if position != len(body):
        raise JsonTextError("something follows the value", position)


def _read_key(raw: bytes) -> str:
    if len(raw) > _MAX_KEY_BYTES:
        raise EnvelopeError(problems.unknown_key(raw[1:].decode("utf-8", "replace"), ENVELOPE_KEYS))
    key = _read_text(raw)
    if key not in ENVELOPE_KEYS:
        raise EnvelopeError(problems.unknown_key(key, ENVELOPE_KEYS))
    return key


def _read_text(raw: bytes) -> str:
    """Decode a string that is known to be valid JSON."""
    if b"\\" not in raw:
        return raw[1:-1].decode()
    text: str = json.loads(raw)
    return text


def _is_given(raw: bytes | None) -> TypeGuard[bytes]:
    return raw is not None and raw != b"null"


def _wrong(key: str, message: str, kind: str) -> dict[str, Any]:
    """Describe what is wrong with a member, in pydantic's words."""
    return {"loc": [key] if key else [], "msg": message, "type": kind}


def _read_id(raw: bytes | None, wrong: list[dict[str, Any]]) -> str | None:
    if not _is_given(raw):
        return None
    if not raw.startswith(b'"'):
        wrong.append(_wrong("id", "must be a string", "string_type"))
        return None
    text = _read_text(raw)
    if not is_task_id(text):
        wrong.append(_wrong("id", f"must be {TASK_ID_RULE}", "string_pattern_mismatch"))
    return text


def _read_capability(raw: bytes | None, wrong: list[dict[str, Any]]) -> str:
    if not _is_given(raw):
        wrong.append(_wrong("capability", "is required", "missing"))
    elif not raw.startswith(b'"'):
        wrong.append(_wrong("capability", "must be a string", "string_type"))
    else:
        text = _read_text(raw)
        if 0 < len(text) <= MAX_CAPABILITY_CHARS:
            return text
        message = f"must have 1 to {MAX_CAPABILITY_CHARS} characters"
        wrong.append(
            _wrong("capability", message, "string_too_long" if text else "string_too_short")
        )
    return ""


def _read_timeout(raw: bytes | None, wrong: list[dict[str, Any]]) -> float | None:
    if not _is_given(raw):
        return None
    if raw[0] not in b"-0123456789":
        wrong.append(_wrong("timeout_s", "must be a number of seconds", "float_type"))
        return None
    seconds = float(raw) if len(raw) <= _MAX_NUMBER_BYTES else math.inf
    if seconds <= 0:
        wrong.append(_wrong("timeout_s", "must be greater than 0", "greater_than"))
    elif seconds > MAX_TIMEOUT_S:
        message = f"must not be over {MAX_TIMEOUT_S:g} seconds"
        wrong.append(_wrong("timeout_s", message, "less_than_equal"))
    return seconds


def _read_metadata(raw: bytes | None, wrong: list[dict[str, Any]]) -> bytes:
    if not _is_given(raw):
        return NO_METADATA
    if not raw.startswith(b"{"):
        wrong.append(_wrong("metadata", "must be an object", "dict_type"))
    elif len(raw) > MAX_METADATA_BYTES:
        message = f"must not be over {MAX_METADATA_BYTES} bytes of JSON"
        wrong.append(_wrong("metadata", message, "bytes_too_long"))
    else:
        try:
            skip_value(raw, 0, max_depth=MAX_METADATA_DEPTH)
        except JsonTextError:
            message = f"must not nest deeper than {MAX_METADATA_DEPTH} levels"
            wrong.append(_wrong("metadata", message, "recursion_loop"))
    return raw


def _read_callback_url(raw: bytes | None, wrong: list[dict[str, Any]]) -> str | None:
    if not _is_given(raw):
        return None
    if not raw.startswith(b'"'):
        wrong.append(_wrong("callback_url", "must be a string", "string_type"))
        return None
    from kagent_sdk.protocol.callback_url import (  # noqa: PLC0415 - few agents take one
        CallbackUrlError,
        parse_callback_url,
    )

    text = _read_text(raw)
    try:
        parse_callback_url(text)
    except CallbackUrlError as exc:
        wrong.append(_wrong("callback_url", str(exc), "url_parsing"))
    return text


def is_same_input(one: bytes, other: bytes) -> bool:
    """Tell whether two requests ask for the same.

    Two inputs that differ in white space, in the order of keys or in how a string is escaped alone
    are the same. Numbers count as they are written: 1 is not 1.0, because a capability may tell the
    two apart. An input that is over `MAX_CANONICAL_BYTES`, or no JSON, counts byte by byte: a client
    that asks again sends the same bytes, and comparing must not stall the host.
    """
    if one == other:
        return True
    if max(len(one), len(other)) > MAX_CANONICAL_BYTES:
        return False
    try:
        return _canonical(one) == _canonical(other)
    except (ValueError, RecursionError):
        return False


def _canonical(raw: bytes) -> str:
    # As text: comparing what was decoded would recurse as deep as the input nests.
    return json.dumps(_DECODER.decode(raw.decode()))


def _tag_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Sorting is stable: of a key that comes twice, the order counts.
    return {"object": sorted(pairs, key=_first)}


def _first(pair: tuple[str, Any]) -> str:
    return pair[0]


def _tag_number(text: str) -> dict[str, Any]:
    # Only `_tag_object` makes other objects, and theirs has another key: no input can forge this.
    return {"number": text}


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_tag_object,
    parse_float=_tag_number,
    parse_int=_tag_number,
    parse_constant=_refuse_constant,
)
