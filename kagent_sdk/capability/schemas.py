"""From type hints to pydantic's adapters and JSON Schema, with errors that name the culprit."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import TypeAdapter

from kagent_sdk.capability.failures import shorten
from kagent_sdk.capability.hints import show
from kagent_sdk.errors import DeclarationError

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Mode = Literal["validation", "serialization"]

_WAY_OUT = "use a type that JSON can hold, such as str, list[int], a dataclass or a pydantic model"
_DEFINE_FIRST = "define every class that it uses above the function"


def adapt(hint: Any, mode: Mode) -> tuple[TypeAdapter[Any], dict[str, Any]]:
    """Return pydantic's adapter of a hint, and its JSON Schema (2020-12).

    Raises:
        Exception: pydantic, or a hook of the author's classes, cannot make one; of any type.
    """
    adapter = TypeAdapter[Any](hint)
    return adapter, {"$schema": DIALECT, **adapter.json_schema(mode=mode)}


def explain(where: str, what: str, hint: Any, exc: Exception) -> DeclarationError:
    """Return the error that names the hint which has no schema."""
    first_line = str(exc).strip().split("\n", 1)[0]
    reason = shorten(first_line.split(". ", 1)[0].rstrip(".:"))
    is_undefined = getattr(exc, "code", None) in ("class-not-fully-defined", "undefined-annotation")
    return DeclarationError(
        f"{where}: {what}: its hint `{show(hint)}` has no JSON Schema "
        f"({type(exc).__name__}: {reason}): {_DEFINE_FIRST if is_undefined else _WAY_OUT}"
    )
