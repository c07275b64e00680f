"""Values of the state: an author's data → raw JSON, and back. Pure; no error of it holds a value."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json, to_jsonable_python

from kagent_sdk.context.adapters import adapter_of
from kagent_sdk.errors import StateValueError
from kagent_sdk.protocol.state import MAX_TTL_S, MAX_VALUE_BYTES

MAX_FAULTS = 3
"""How many places of a value that does not fit are told."""

_UNKNOWN_TYPE = "Unable to serialize unknown type"


def dump(key: str, value: object) -> bytes:
    """Return a value as JSON: a pydantic model, or anything that pydantic can write.

    Raises:
        StateValueError: it is not JSON (NaN and infinity are not), nests too deep to be read
            again, or is over `MAX_VALUE_BYTES`.
    """
    raw, reason = b"", ""
    try:
        # In two steps: written directly, a model would turn NaN and infinity into null.
        raw = to_json(to_jsonable_python(value), inf_nan_mode="constants")
        # Three levels deeper than it is: the host, which takes a worker that sends it no JSON for
        # broken, counts from 199 on in its own way (`kagent_sdk.protocol.json_text`).
        from_json(b"[[[%b]]]" % raw, allow_inf_nan=False)
    except (ValueError, TypeError, RecursionError) as exc:
        reason = _reason(exc)
    # Out of the handler, here and below: what is raised must not carry an error that has the value.
    if reason:
        raise StateValueError(
            f"the value for {key!r}, {type(value).__name__}, is no JSON: {reason}"
        )
    if len(raw) > MAX_VALUE_BYTES:
        raise StateValueError(
            f"the value for {key!r} has {len(raw)} bytes, over the limit of {MAX_VALUE_BYTES}: "
            f"spread it over several keys"
        )
    return raw


def _reason(exc: Exception) -> str:
    text = str(exc)
    # The only message that an author's value or serializer can have no part in.
    is_safe = isinstance(exc, PydanticSerializationError) and text.startswith(_UNKNOWN_TYPE)
    return text if is_safe else type(exc).__name__


def load(key: str, raw: bytes, model: Any = None) -> Any:
    """Return a value as plain data, or as ``model``, which may be any type hint.

    Raises:
        StateValueError: it does not fit the model.
    """
    adapter = adapter_of(Any if model is None else model)
    try:
        return adapter.validate_json(raw)
    except ValidationError as exc:
        faults = exc.errors(include_url=False, include_context=False, include_input=False)
    places = ", ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'all of it'} ({fault['type']})"
        for fault in faults[:MAX_FAULTS]
    )
    name = getattr(model, "__name__", "its type")
    raise StateValueError(f"the value of {key!r} does not fit {name}: {places}")


def is_same(first: bytes, second: bytes) -> bool:
    """Tell whether two texts are the same JSON: spaces and the order of members do not count."""
    return first == second or _canonical(first) == _canonical(second)


def _canonical(raw: bytes) -> str:
    return json.dumps(from_json(raw), sort_keys=True)


def check_ttl(ttl_s: object) -> float | None:
    """Return the seconds that a value lives.

    Raises:
        StateValueError: it is no number above 0 and up to `MAX_TTL_S`.
    """
    if ttl_s is None:
        return None
    is_number = isinstance(ttl_s, int | float) and not isinstance(ttl_s, bool)
    seconds = float(ttl_s) if is_number and abs(ttl_s) <= MAX_TTL_S else 0.0  # type: ignore[arg-type]
    if not (isfinite(seconds) and seconds > 0):
        raise StateValueError(
            f"ttl_s must be a number of seconds above 0 and up to {MAX_TTL_S:g}, not {ttl_s!r:.50}"
        )
    return seconds
