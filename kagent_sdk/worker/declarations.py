"""Check the author's loops and hooks when they are declared. Pure."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from types import FunctionType
from typing import Any

from kagent_sdk.capability.hints import find_names, resolve, show
from kagent_sdk.capability.signature import locate
from kagent_sdk.context import LoopContext
from kagent_sdk.errors import DeclarationError
from kagent_sdk.protocol.manifest import NAME_PATTERN
from kagent_sdk.worker.parts import Hook, LoopPart, SecretsHook

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def declare_loop(function: Callable[..., Any], every_s: float | None, name: str | None) -> LoopPart:
    """Declare a function as a loop.

    Raises:
        DeclarationError: it is no plain or async function of one `LoopContext` at most, the name
            is not one, or ``every_s`` is not above 0.
    """
    if not isinstance(function, FunctionType):
        raise DeclarationError(
            f"{function!r:.200} is not a plain function: write one with `def` or `async def`"
        )
    where = locate(function)
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise DeclarationError(
            f"{where}: a loop does not yield: remove the `yield`, or declare a capability to stream"
        )
    return LoopPart(
        _check_name(where, name or function.__name__),
        function,
        _check_period(where, every_s),
        inspect.iscoroutinefunction(function),
        _takes_context(where, function),
    )


def check_hook(kind: str, hook: Hook) -> Hook:
    """Return the function if it can be called without arguments.

    Args:
        kind: ``on_startup`` or ``on_shutdown``, for the message.
        hook: the function.

    Raises:
        DeclarationError: it cannot.
    """
    where = _check_function(
        kind, hook, "write two functions, one for on_startup and one for on_shutdown"
    )
    for parameter in _required(hook):
        raise DeclarationError(
            f"{where}: parameter {parameter.name!r}: an {kind} function is given nothing: "
            f"remove it, or give it a default"
        )
    return hook


def check_secrets_hook(function: Callable[..., Any]) -> SecretsHook:
    """Declare a function for ``on_secrets_changed``.

    Raises:
        DeclarationError: it cannot be called without arguments or with the `Secrets` alone.
    """
    where = _check_function("on_secrets_changed", function, "do what is to be done and return")
    required = _required(function)
    if len(required) > 1 or any(parameter.kind not in _POSITIONAL for parameter in required):
        names = ", ".join(parameter.name for parameter in required)
        raise DeclarationError(
            f"{where}: an on_secrets_changed function is given the Secrets or nothing, not ({names})"
        )
    return SecretsHook(function, takes_secrets=bool(required))


def _check_function(kind: str, function: Callable[..., Any], instead: str) -> str:
    """Return where a hook is declared, if it is a function that does not yield."""
    if not callable(function):
        raise DeclarationError(f"@agent.{kind} takes a function, not {function!r:.200}")
    where = locate(function) if isinstance(function, FunctionType) else repr(function)
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise DeclarationError(f"{where}: an {kind} function does not yield: {instead}")
    return where


def _required(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]


def _check_name(where: str, name: object) -> str:
    if not isinstance(name, str) or re.match(NAME_PATTERN, name) is None:
        raise DeclarationError(
            f"{where}: name {name!r:.200} must begin with a letter or _ and go on with at most 63 "
            f"letters, digits, _, . or -"
        )
    return name


def _check_period(where: str, every_s: object) -> float | None:
    if every_s is None:
        return None
    is_number = isinstance(every_s, int | float) and not isinstance(every_s, bool)
    period_s = float(every_s) if is_number else 0.0  # type: ignore[arg-type]
    if not (math.isfinite(period_s) and period_s > 0):
        raise DeclarationError(
            f"{where}: every_s must be a number of seconds above 0, not {every_s!r}; leave it out "
            f"for a loop that runs for the agent's life"
        )
    return period_s


def _takes_context(where: str, function: FunctionType) -> bool:
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters:
        return False
    first = parameters[0]
    if len(parameters) > 1 or first.kind not in _POSITIONAL:
        names = ", ".join(str(parameter).partition(":")[0] for parameter in parameters)
        raise DeclarationError(
            f"{where}: a loop takes one `ctx: LoopContext` or nothing, not ({names})"
        )
    if not _is_loop_context(function, first.annotation):
        raise DeclarationError(
            f"{where}: parameter {first.name!r}: a loop is given a LoopContext, not "
            f"{show(first.annotation)}: write `{first.name}: LoopContext`"
        )
    return True


def _is_loop_context(function: FunctionType, annotation: Any) -> bool:
    if annotation is inspect.Parameter.empty:
        return True
    try:
        hint = resolve(annotation, {"LoopContext": LoopContext, **find_names(function)})
    except Exception:  # noqa: BLE001 - the text of a hint is the author's code
        return False
    return hint is LoopContext
