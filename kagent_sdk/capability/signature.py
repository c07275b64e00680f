"""Read a function's signature, and refuse what cannot become a capability."""

from __future__ import annotations

import collections.abc
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from types import FunctionType
from typing import Any, NoReturn, get_args, get_origin

from pydantic import BaseModel

from kagent_sdk.capability.hints import (
    find_names,
    is_optional,
    make_eager,
    resolve,
    show,
    strip_annotated,
)
from kagent_sdk.context import LoopContext, TaskContext
from kagent_sdk.errors import DeclarationError

EMPTY = inspect.Parameter.empty

_ASYNC_STREAMS: tuple[object, ...] = (
    collections.abc.AsyncGenerator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncIterator,
)
_CONTEXT_NAMES = frozenset({"ctx", "_ctx", "context", "task_context"})


class Kind(StrEnum):
    """How a capability runs."""

    ASYNC = "async"
    """A coroutine function: in a job of the event loop."""
    SYNC = "sync"
    """A plain function: in a thread."""
    STREAM = "stream"
    """An async generator function: in a job; every item is an event."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter that the input fills.

    Attributes:
        name: its name, which is the key in the input.
        hint: its type.
        default: its default value, or `EMPTY`.
    """

    name: str
    hint: Any
    default: Any


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function takes and gives.

    Attributes:
        where: names the function in error messages.
        kind: how it runs.
        parameters: those that the input fills, in order.
        context_parameter: the one that takes the `TaskContext`, if any.
        output: the type of what it returns, or of one item that it yields; Any without a hint.
    """

    where: str
    kind: Kind
    parameters: tuple[Parameter, ...]
    context_parameter: str | None
    output: Any

    @property
    def takes_model(self) -> bool:
        """Whether the input as a whole is the one parameter: a pydantic model."""
        return len(self.parameters) == 1 and is_model(self.parameters[0].hint)


def read_signature(function: Callable[..., Any]) -> Signature:
    """Read a function's signature.

    Raises:
        DeclarationError: it cannot become a capability; the message says what to write instead.
    """
    plain = _check_function(function)
    where = locate(plain)
    kind = _find_kind(plain, where)
    inner = inspect.unwrap(plain)
    names = find_names(inner if isinstance(inner, FunctionType) else plain)
    signature = inspect.signature(plain)
    parameters = [
        _read_parameter(where, parameter, names) for parameter in signature.parameters.values()
    ]
    context_parameter = _find_context(where, parameters)
    output = _read_output(where, kind, signature.return_annotation, names)
    inputs = tuple(each for each in parameters if each.name != context_parameter)
    return Signature(where, kind, inputs, context_parameter, output)


def locate(function: Callable[..., Any]) -> str:
    """Return ``module:line: name()``: what every message about the function begins with."""
    inner = inspect.unwrap(function)
    line = inner.__code__.co_firstlineno if isinstance(inner, FunctionType) else "?"
    return f"{inner.__module__}:{line}: {function.__qualname__}()"


def is_model(hint: Any) -> bool:
    """Tell whether the hint is one pydantic model class, ``Annotated`` or not."""
    bare = strip_annotated(hint)
    return isinstance(bare, type) and issubclass(bare, BaseModel)


def _check_function(function: Callable[..., Any]) -> FunctionType:
    if isinstance(function, FunctionType):
        return function
    if inspect.isclass(function):
        raise DeclarationError(
            f"{function.__module__}: {function.__qualname__} is a class: declare a function that "
            f"takes what it needs and creates a {function.__name__} itself"
        )
    if inspect.ismethod(function):
        raise DeclarationError(
            f"{locate(function.__func__)} is a method: declare a function at module level that "
            f"calls it"
        )
    raise DeclarationError(
        f"{function!r:.200} is not a plain function: write one with `def` or `async def` that calls it"
    )


def _find_kind(function: FunctionType, where: str) -> Kind:
    inner = inspect.unwrap(function)
    if inspect.isgeneratorfunction(function) or inspect.isgeneratorfunction(inner):
        raise DeclarationError(
            f"{where} is a sync generator: write `async def` with `yield` to stream, or return a list"
        )
    if inspect.isasyncgenfunction(function):
        return Kind.STREAM
    if inspect.iscoroutinefunction(function):
        return Kind.ASYNC
    if inspect.isasyncgenfunction(inner) or inspect.iscoroutinefunction(inner):
        raise DeclarationError(
            f"{where} is async, but a decorator hides that behind a plain function: make the "
            f"decorator's wrapper `async def`, and await the function in it or yield its items"
        )
    return Kind.SYNC


def _read_parameter(where: str, parameter: inspect.Parameter, names: dict[str, Any]) -> Parameter:
    name = parameter.name
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        _refuse(where, name, f"JSON has no positional arguments: write `{name}: list[str]` instead")
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        _refuse(where, name, f"every key needs a name: write `{name}: dict[str, str]` instead")
    if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
        _refuse(where, name, "the input gives parameters by name: remove the `/`")
    if parameter.annotation is EMPTY:
        _refuse(where, name, _how_to_hint(name))
    hint = _resolve(where, f"parameter {name!r}", parameter.annotation, names)
    return Parameter(name, make_eager(hint), parameter.default)


def _how_to_hint(name: str) -> str:
    if name in _CONTEXT_NAMES:
        return f"it has no type hint: write `{name}: TaskContext`"
    if name in {"self", "cls"}:
        return "this is a method: declare a function at module level that calls it"
    return f"it has no type hint: write `{name}: str`, or whichever type it takes"


def _find_context(where: str, parameters: list[Parameter]) -> str | None:
    found = None
    for parameter in parameters:
        if _mentions(parameter.hint, LoopContext):
            wanted = f"a capability is given a TaskContext: write `{parameter.name}: TaskContext`"
            _refuse(where, parameter.name, wanted)
        if not _mentions(parameter.hint, TaskContext):
            continue
        if found is not None:
            _refuse(where, parameter.name, f"{found!r} is the TaskContext already: remove one")
        found = parameter.name
    return found


def _mentions(hint: Any, context: type) -> bool:
    """Tell whether the hint is the class, or a union of it with None."""
    bare = strip_annotated(hint)
    return bare is context or (
        is_optional(bare) and any(each is context for each in get_args(bare))
    )


def _read_output(where: str, kind: Kind, annotation: Any, names: dict[str, Any]) -> Any:
    if annotation is EMPTY:
        return Any
    hint = strip_annotated(_resolve(where, "the return value", annotation, names))
    is_stream = any((get_origin(hint) or hint) is each for each in _ASYNC_STREAMS)
    if kind is Kind.STREAM:
        if not is_stream:
            raise DeclarationError(
                f"{where}: it yields, so the return hint must say what it yields: write "
                f"`-> AsyncIterator[{show(hint)}]`"
            )
        return (get_args(hint) or (Any,))[0]
    if is_stream:
        raise DeclarationError(
            f"{where}: the return hint is {show(hint)}, but it never yields: write `async def` and "
            f"`yield` each item, as in `async for item in items: yield item`"
        )
    return _resolve(where, "the return value", annotation, names)


def _resolve(where: str, what: str, annotation: Any, names: dict[str, Any]) -> Any:
    try:
        return resolve(annotation, names)
    except NameError as exc:
        raise DeclarationError(
            f"{where}: {what}: its hint `{show(annotation)}` uses {exc.name!r}, which is not defined "
            f"at this point: define or import it above the function, and not only "
            f"`if TYPE_CHECKING:`"
        ) from exc
    except Exception as exc:  # the text of a hint is the author's code, and may raise anything
        raise DeclarationError(
            f"{where}: {what}: its hint `{show(annotation)}` is not a type "
            f"({type(exc).__name__}: {exc}): write a type"
        ) from exc


def _refuse(where: str, name: str, what: str) -> NoReturn:
    raise DeclarationError(f"{where}: parameter {name!r}: {what}")
