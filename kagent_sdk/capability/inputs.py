"""From a task's input, as raw JSON, to the arguments of the author's function."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, NotRequired, get_args

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, from_json
from typing_extensions import TypedDict

from kagent_sdk.capability.failures import refuse_extreme, refuse_input, refuse_json
from kagent_sdk.capability.hints import is_optional, show
from kagent_sdk.capability.schemas import DIALECT, adapt, explain
from kagent_sdk.capability.signature import EMPTY, Parameter, Signature
from kagent_sdk.context import TaskContext
from kagent_sdk.errors import DeclarationError

Arguments = Any
"""What `Capability.validate` makes for `Capability.call`: a model, or a dict by parameter."""

_NO_INPUT = frozenset({b"", b"null"})
"""Beside ``{}``, for a capability without parameters."""


@dataclass(frozen=True, slots=True)
class InputCodec:
    """How to read a capability's input.

    Attributes:
        schema: JSON Schema of the input.
        validate: raw JSON to arguments; raises `InvalidInput`.
        call: arguments and context to whatever the function returns.
    """

    schema: dict[str, Any]
    validate: Callable[[bytes], Arguments]
    call: Callable[[Arguments, TaskContext], Any]


def compile_input(name: str, signature: Signature, function: Callable[..., Any]) -> InputCodec:
    """Prepare everything about the input that is the same for every task.

    Raises:
        DeclarationError: a hint has no JSON Schema, or a default does not fit its hint.
    """
    call = _compile_call(signature, function)
    if not signature.parameters:
        schema = {"$schema": DIALECT, "title": name, "type": ["object", "null"], "maxProperties": 0}
        return InputCodec(schema, _validator(_adapt_fields(name, signature)[0], _NO_INPUT), call)
    if signature.takes_model:
        adapter, schema = _adapt_model(signature)
    else:
        adapter, schema = _adapt_fields(name, signature)
    return InputCodec(schema, _validator(adapter), call)


def _compile_call(
    signature: Signature, function: Callable[..., Any]
) -> Callable[[Arguments, TaskContext], Any]:
    context = signature.context_parameter
    if signature.takes_model:
        model = signature.parameters[0].name
        if context is None:
            return lambda arguments, _: function(**{model: arguments})
        return lambda arguments, ctx: function(**{model: arguments, context: ctx})
    if context is None:
        return lambda arguments, _: function(**arguments)
    return lambda arguments, ctx: function(**arguments, **{context: ctx})


def _validator(
    adapter: TypeAdapter[Any], without_arguments: frozenset[bytes] = frozenset()
) -> Callable[[bytes], Arguments]:
    validate_json = adapter.validator.validate_json

    def validate(raw: bytes) -> Arguments:
        if b"NaN" in raw or b"Infinity" in raw:
            _refuse_constants(raw)
        try:
            return validate_json(raw)
        except ValidationError as exc:
            if raw.strip() in without_arguments:
                return {}
            if not raw.strip():
                raise refuse_json("it is empty") from None
            raise refuse_input(exc) from None
        except (OverflowError, RecursionError):  # in a validator, of pydantic's or the author's
            raise refuse_extreme() from None

    return validate


def _refuse_constants(raw: bytes) -> None:
    """Refuse NaN and Infinity outside strings: pydantic takes them, RFC 8259 does not."""
    try:
        from_json(raw, allow_inf_nan=False, cache_strings="none")
    except ValueError as exc:
        raise refuse_json(str(exc)) from None


def _adapt_model(signature: Signature) -> tuple[TypeAdapter[Any], dict[str, Any]]:
    model = signature.parameters[0]
    what = f"parameter {model.name!r}"
    if model.default is not EMPTY:
        raise DeclarationError(
            f"{signature.where}: {what}: the model is the whole input, so it cannot have a default: "
            f"give its fields defaults, and callers send {{}}"
        )
    try:
        return adapt(model.hint, "validation")
    except Exception as exc:  # the author's classes have hooks of their own
        raise explain(signature.where, what, model.hint, exc) from exc


def _adapt_fields(name: str, signature: Signature) -> tuple[TypeAdapter[Any], dict[str, Any]]:
    for parameter in signature.parameters:
        _check_default(signature.where, parameter)
    try:
        return adapt(_table(name, signature.parameters), "validation")
    except Exception as exc:  # the author's classes have hooks of their own
        raise _blame(signature, exc) from exc


def _table(name: str, parameters: Iterable[Parameter], *, validate_default: bool = False) -> Any:
    """Return a TypedDict of the parameters: pydantic then makes the keyword arguments itself.

    A model could not have every name, and would have to be taken apart again.
    """
    fields = {each.name: _field(each) for each in parameters}
    config = ConfigDict(extra="forbid", validate_default=validate_default)
    return with_config(config)(TypedDict(name, fields))  # type: ignore[operator]


def _field(parameter: Parameter) -> Any:
    """Return the parameter as a field of a TypedDict; pydantic gives each task its own default."""
    hint, default = parameter.hint, parameter.default
    if isinstance(default, FieldInfo):
        hint = Annotated[hint, default]
    elif default is not EMPTY:
        hint = Annotated[hint, Field(default=default)]
    has_default = any(
        isinstance(each, FieldInfo) and not each.is_required() for each in get_args(hint)[1:]
    )
    return NotRequired[hint] if has_default else hint


def _check_default(where: str, parameter: Parameter) -> None:
    default = parameter.default
    if isinstance(default, FieldInfo):
        default = default.default
    if default is EMPTY or default is PydanticUndefined or default is ...:
        return
    what = f"parameter {parameter.name!r}"
    try:
        table = _table(parameter.name, [parameter], validate_default=True)
        TypeAdapter[Any](table).validate_python({})
    except ValidationError as exc:
        way_out = f"write a default that is a {show(parameter.hint)}"
        if default is None and not is_optional(parameter.hint):
            way_out = f"write `{parameter.name}: {show(parameter.hint)} | None = None`"
        reason = exc.errors(include_url=False, include_context=False)[0]["msg"]
        raise DeclarationError(
            f"{where}: {what}: its default {default!r:.100} does not fit its hint "
            f"`{show(parameter.hint)}` ({reason}): {way_out}"
        ) from exc
    except Exception as exc:  # the author's classes have hooks of their own
        raise explain(where, what, parameter.hint, exc) from exc


def _blame(signature: Signature, exc: Exception) -> DeclarationError:
    """Find the parameter that is at fault: alone, each of the others has a schema."""
    for parameter in signature.parameters:
        try:
            adapt(_table(parameter.name, [parameter]), "validation")
        except Exception as found:  # noqa: BLE001 - the author's classes have hooks of their own
            return explain(signature.where, f"parameter {parameter.name!r}", parameter.hint, found)
    hints = ", ".join(show(each.hint) for each in signature.parameters)
    return explain(signature.where, "its parameters", hints, exc)
