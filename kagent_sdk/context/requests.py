"""What an author asks of another capability: checked where the author's traceback points at."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any

from kagent_sdk.errors import CallError
from kagent_sdk.protocol.messages import MAX_CALL_LABELS, is_label
from kagent_sdk.protocol.tasks import ErrorCode

MAX_FAULTS = 3
"""How many places of an output that does not fit stand in the message; the details have all."""

MAX_REST = 2
"""What may follow an agent's name: its capability, and the input."""


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A task for another capability.

    Attributes:
        agent: by name; None for any agent that offers the capability.
        input: a model, or anything that JSON can hold.
        timeout_s: how long the other task may take; None: as long as it may by itself.
        labels: all of them must be the other agent's.
        id: of the other task; None for a new one.
        load: turns the raw JSON of the output, or of an item, into what the author gets.
    """

    agent: str | None
    capability: str
    input: object = None
    timeout_s: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    id: str | None = None
    load: Callable[[bytes], Any] = json.loads


def make_request(
    target: str,
    rest: tuple[object, ...],
    *,
    timeout_s: float | None,
    labels: Mapping[str, str] | None,
    id: str | None,
    model: object,
) -> CallRequest:
    """Return what ``ctx.call(target, *rest, …)`` asks for.

    Args:
        target: ``agent/capability``, a capability, or an agent.
        rest: the input, or the agent's capability and the input; an empty object without any.
        timeout_s: as in `CallRequest`.
        labels: as in `CallRequest`.
        id: as in `CallRequest`.
        model: a type for the output or the items; None for plain data.

    Raises:
        TypeError, ValueError: it is no such request.
        CallError: there is no time left (``timeout``).
    """
    agent, capability, input = _read_target(target, rest)
    return CallRequest(
        agent,
        capability,
        input,
        _check_timeout(timeout_s),
        _check_labels(labels),
        _check_id(id),
        json.loads if model is None else _loader(model, target),
    )


def _read_target(target: object, rest: tuple[object, ...]) -> tuple[str | None, str, object]:
    if len(rest) > MAX_REST:
        raise TypeError(f"call takes a capability and an input, not {len(rest)} more arguments")
    if len(rest) == MAX_REST:
        parts = [target, rest[0]]
    else:
        parts = list(target.split("/", 1)) if isinstance(target, str) else [target]
    names = [part for part in parts if isinstance(part, str) and part]
    if len(names) != len(parts):
        raise ValueError(
            f'the first argument must be "agent/capability" or "capability", not {target!r:.100}'
        )
    agent = names[0] if len(names) > 1 else None
    return agent, names[-1], rest[-1] if rest else {}


def _check_timeout(timeout_s: object) -> float | None:
    if timeout_s is None or timeout_s == inf:
        return None
    is_number = isinstance(timeout_s, int | float) and not isinstance(timeout_s, bool)
    if not is_number or timeout_s != timeout_s:  # noqa: PLR0124 - NaN alone is not itself
        raise ValueError(f"timeout_s must be a number of seconds, not {timeout_s!r:.50}")
    seconds = float(timeout_s)  # type: ignore[arg-type]
    if seconds <= 0:
        message = "there is no time left for the call"
        raise CallError(ErrorCode.TIMEOUT, message, retryable=True, status=504)
    return seconds


def _check_labels(labels: Mapping[str, str] | None) -> Mapping[str, str]:
    if labels is None:
        return {}
    if len(labels) > MAX_CALL_LABELS:
        raise ValueError(f"a call may ask for {MAX_CALL_LABELS} labels, not {len(labels)}")
    texts: list[object] = [*labels.keys(), *labels.values()]
    for text in texts:
        if not isinstance(text, str) or not is_label(text):
            raise ValueError(
                f"keys and values of labels are 1 to 63 letters, digits and - _ . with a letter or "
                f"digit at both ends, not {text!r:.100}"
            )
    return dict(labels)


def _check_id(id: object) -> str | None:
    if id is None:
        return None
    # Few calls name one, and the headers' rules cost a worker's start.
    from kagent_sdk.protocol.headers import TASK_ID_RULE, is_task_id  # noqa: PLC0415

    if not isinstance(id, str) or not is_task_id(id):
        raise ValueError(f"an id is {TASK_ID_RULE}, not {id!r:.200}")
    return id


def _loader(model: object, target: str) -> Callable[[bytes], Any]:
    from kagent_sdk.context.adapters import adapter_of  # noqa: PLC0415 - for typed calls alone

    return partial(_load, adapter_of(model), model, target)


def _load(adapter: Any, model: object, target: str, raw: bytes) -> Any:
    from pydantic import ValidationError  # noqa: PLC0415 - see above

    try:
        return adapter.validate_json(raw)
    except ValidationError as exc:
        faults = exc.errors(include_url=False, include_context=False, include_input=False)
    # Out of the handler: what is raised must not carry an error that has the other agent's data.
    places = ", ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'all of it'} ({fault['type']})"
        for fault in faults[:MAX_FAULTS]
    )
    name = getattr(model, "__name__", None) or str(model)
    raise CallError(
        ErrorCode.INVALID_OUTPUT,
        f"what {target} gave does not fit {name}: {places}",
        details=[{"loc": f["loc"], "msg": f["msg"], "type": f["type"]} for f in faults],
        status=502,
    )
