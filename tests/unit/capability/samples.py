"""Functions to declare, made from source text: many of them no linter would let pass."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, cast

from kagent_sdk.capability import Capability, InvalidInput, declare
from kagent_sdk.context import TaskContext
from kagent_sdk.protocol.messages import Run
from kagent_sdk.protocol.tasks import TaskFailure

FUTURE = "from __future__ import annotations\n"
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
    """Return what a source text calls ``f``, as a module called ``sample`` would define it.

    A text that begins with the import of annotations has them as text; else they are evaluated.
    """
    module = ModuleType("sample")
    sys.modules["sample"] = module  # where pydantic and dataclasses look their names up
    text = (
        FUTURE + PREAMBLE + source.removeprefix(FUTURE) if FUTURE in source else PREAMBLE + source
    )
    code = compile(text, "sample.py", "exec", dont_inherit=True)
    exec(code, module.__dict__)  # noqa: S102 - our own text
    return cast("Callable[..., Any]", getattr(module, name))


def declare_source(source: str, **options: Any) -> Capability:
    """Define a function and declare it."""
    return declare(define(source), **options)


def find_refusal(capability: Capability, raw: bytes) -> TaskFailure | None:
    """Return why an input is refused, or None if it is taken."""
    try:
        capability.validate(raw)
    except InvalidInput as exc:
        return exc.failure
    return None


def refusal(capability: Capability, raw: bytes) -> TaskFailure:
    """Return why an input is refused, which it must be."""
    failure = find_refusal(capability, raw)
    assert failure is not None, f"{raw[:100]!r} was taken"
    return failure


def make_context() -> TaskContext:
    """Return a context that is never asked for anything."""
    run = Run(0, 1, float("inf"), "task-1", "", b"{}", b"{}")
    return TaskContext(run, "sample", cast("Any", None))
