"""From what the author's function returns or yields to JSON.

A float that is NaN or infinite becomes null, as pydantic has it, unless the author's model says
``ser_json_inf_nan="strings"``; ``"constants"`` is refused, for the result would not be JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, from_json

from kagent_sdk.capability.failures import list_details, refuse_output, shorten, summarise
from kagent_sdk.capability.schemas import adapt, explain
from kagent_sdk.capability.signature import Kind, Signature

Dump = Callable[[object], bytes]

# One line of pydantic's serializer warnings; what follows in it is the value.
_UNEXPECTED = re.compile(
    r"^ *PydanticSerializationUnexpectedValue\(Expected (`[^`]*`).*? \[field_name='([^']*)'",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class OutputCodec:
    """How to write a capability's output.

    Attributes:
        schema: JSON Schema of the output; for a stream, of the list of its items.
        event_schema: JSON Schema of one item of a stream, else None.
        dump: an output to JSON; raises `InvalidOutput`.
        dump_event: an item to JSON; raises `InvalidOutput`.
    """

    schema: dict[str, Any]
    event_schema: dict[str, Any] | None
    dump: Dump
    dump_event: Dump


def compile_output(signature: Signature) -> OutputCodec:
    """Prepare everything about the output that is the same for every task.

    Raises:
        DeclarationError: the return hint has no JSON Schema.
    """
    try:
        adapter, schema = adapt(signature.output, "serialization")
        if signature.kind is not Kind.STREAM:
            return OutputCodec(schema, None, _writer(adapter, "output"), write_any)
        listing, listing_schema = adapt(list[signature.output], "serialization")  # type: ignore[name-defined]
    except Exception as exc:  # the author's classes have hooks of their own
        raise explain(signature.where, "the return value", signature.output, exc) from exc
    return OutputCodec(
        listing_schema, schema, _writer(listing, "output"), _writer(adapter, "event")
    )


def _writer(adapter: TypeAdapter[Any], what: str) -> Dump:
    validate_python = adapter.validator.validate_python
    to_json = adapter.serializer.to_json

    def dump(value: object) -> bytes:
        try:
            # An instance of the hint's model passes as it is. Its fields may have been assigned to
            # since: `warnings` makes pydantic notice what does not fit. Aliases, as in the schema.
            raw = to_json(validate_python(value), by_alias=True, warnings="error")
        except ValidationError as exc:
            problems = list_details(exc)
            reason = f"the {what} does not fit its hint: {summarise(problems, exc.error_count())}"
            raise refuse_output(reason, problems) from None  # pydantic's text has the values in it
        except (PydanticSerializationError, RecursionError) as exc:
            raise refuse_output(f"the {what} cannot be JSON: {_reason(exc)}") from None
        if b"NaN" in raw or b"Infinity" in raw:
            _refuse_constants(raw, what)
        return raw

    return dump


def _reason(exc: Exception) -> str:
    """Return why something cannot be written, without the value, which the log must not have."""
    text = str(exc)
    found = _UNEXPECTED.search(text)
    if found:
        return f"field {found[2]!r} was assigned what is not {found[1]}"
    return shorten(text.split("\n", 1)[0].rstrip(":"))


def _refuse_constants(raw: bytes, what: str) -> None:
    try:
        from_json(raw, allow_inf_nan=False, cache_strings="none")
    except ValueError as exc:
        reason = f"the {what} cannot be JSON, for it has a number that is not finite: {exc}"
        raise refuse_output(reason) from None


write_any = _writer(TypeAdapter(Any), "event")
"""Write an event that no hint describes: what `TaskContext.emit` is given outside a stream."""
