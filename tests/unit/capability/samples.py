"""Functions to declare, made from source text: many of them no linter would let pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from kagent_sdk.capability import Capability, InvalidInput, declare
from kagent_sdk.context import TaskContext
from kagent_sdk.protocol.messages import Run
from kagent_sdk.protocol.tasks import TaskFailure

PREAMBLE = """\
import asyncio, dataclasses, socket, typing
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial, wraps
from typing import Annotated, Any, TypedDict
from pydantic import BaseModel, Field
from kagent_sdk import LoopContext, TaskContext

class Document(BaseModel):
    text: str
    words: int = 0

"""


def define(source: str, name: str = "f") -> Callable[..., Any]:
    """Return what a source text calls ``f``, as a module called ``sample`` would define it."""
    names: dict[str, Any] = {"__name__": "sample"}
    exec(compile(PREAMBLE + source, "sample.py", "exec"), names)  # noqa: S102 - our own text
    return cast("Callable[..., Any]", names[name])


def declare_source(source: str, **options: Any) -> Capability:
    """Define a function and declare it."""
    return declare(define(source), **options)


def refusal(capability: Capability, raw: bytes) -> TaskFailure:
    """Return why an input is refused."""
    try:
        arguments = capability.validate(raw)
    except InvalidInput as exc:
        return exc.failure
    raise AssertionError(f"{raw[:100]!r} was taken as {arguments!r}")


def make_context() -> TaskContext:
    """Return a context that is never asked for anything."""
    run = Run(0, 1, float("inf"), "task-1", "", b"{}", b"{}")
    return TaskContext(run, "sample", cast("Any", None))
