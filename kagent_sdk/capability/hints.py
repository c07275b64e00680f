"""Turn a function's annotations into types, wherever their names are defined."""

from __future__ import annotations

import collections.abc
import inspect
import sys
from types import FrameType, FunctionType, SimpleNamespace, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from kagent_sdk.context import TaskContext

_LOCALS = ".<locals>."

_FALLBACKS = {
    # Linters move these imports under `if TYPE_CHECKING:`, where only a type checker sees them.
    "TaskContext": TaskContext,
    "AsyncGenerator": collections.abc.AsyncGenerator,
    "AsyncIterable": collections.abc.AsyncIterable,
    "AsyncIterator": collections.abc.AsyncIterator,
}


def find_names(function: FunctionType) -> dict[str, Any]:
    """Return every name that the function's annotations may use.

    These are the globals of its module, its closure, and, while the functions that enclose it are
    still running, their local variables: a class defined next to a nested function is found.
    """
    names = {**_FALLBACKS, **function.__globals__}
    for frame in reversed(_enclosing_frames(function)):
        names.update(frame.f_locals)
    names.update(_closure(function))
    return names


def resolve(annotation: Any, names: dict[str, Any]) -> Any:
    """Return the type that an annotation stands for, ``Annotated`` metadata kept.

    Raises:
        Exception: a name is not defined (`NameError`), or evaluating the text failed in any other
            way, for an annotation is an expression of the author's.
    """
    holder = SimpleNamespace(__annotations__={"hint": annotation})
    return get_type_hints(holder, globalns=names, localns=names, include_extras=True)["hint"]


def strip_annotated(hint: Any) -> Any:
    """Return the type inside ``Annotated[…]``, or the hint itself."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def make_eager(hint: Any) -> Any:
    """Return the hint with ``Iterable[T]`` as ``list[T]``.

    Pydantic validates an iterable while it is walked: a wrong item would come up as an error of
    the author's function, instead of the caller's.
    """
    if get_origin(hint) is Annotated:
        return Annotated[(make_eager(get_args(hint)[0]), *hint.__metadata__)]
    if (get_origin(hint) or hint) is collections.abc.Iterable:
        return list[(get_args(hint) or (Any,))[0]]  # type: ignore[misc]
    return hint


def is_optional(hint: Any) -> bool:
    """Tell whether the hint is a union with None."""
    bare = strip_annotated(hint)
    is_union = isinstance(bare, UnionType) or get_origin(bare) is Union
    return is_union and type(None) in get_args(bare)


def show(hint: Any) -> str:
    """Return a hint as an author would write it."""
    return hint.strip("'\"") if isinstance(hint, str) else inspect.formatannotation(hint)


def _enclosing_frames(function: FunctionType) -> list[FrameType]:
    """Return the running frames of the functions around this one, the innermost first."""
    enclosing = set()
    outer = function.__qualname__
    while _LOCALS in outer:
        outer = outer.rpartition(_LOCALS)[0]
        enclosing.add(outer)
    frames: list[FrameType] = []
    frame = sys._getframe() if enclosing else None  # noqa: SLF001 - the only way to a caller's locals
    while frame is not None:
        if frame.f_code.co_qualname in enclosing and frame.f_globals is function.__globals__:
            frames.append(frame)
        frame = frame.f_back
    return frames


def _closure(function: FunctionType) -> dict[str, Any]:
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # a name that is assigned only later
            continue
    return found
