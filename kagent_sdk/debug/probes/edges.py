"""By what an object holds another: a key, an index, an attribute, a local variable.

Only dictionaries, slots and what the interpreter itself keeps are read: no property, no
``__getattr__`` and no ``__eq__`` of the author's runs.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from types import (
    AsyncGeneratorType,
    CellType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

from kagent_sdk.debug.probes.names import clean, short_file, type_name

MAX_ITEMS = 1_000_000
"""Of one container that are looked at for the object in question."""

MAX_KEY_CHARS = 40

Redact = Callable[[str], str]


class EdgeNamer:
    """Names the steps of a path.

    Args:
        redact: takes secrets out of a dictionary's keys, before they are cut.
    """

    def __init__(self, redact: Redact = lambda text: text) -> None:
        self._redact = redact

    def name(self, holder: object, held: object) -> str:
        """Return by what ``holder`` holds ``held``, such as ``['x']``; empty when it cannot be told."""
        cls = type(holder)
        if cls in {list, tuple, deque}:
            return _index_of(holder, held)
        if cls is dict:
            return self._key_of(holder, held)
        if cls in {set, frozenset}:
            return ""
        return self._attribute_of(holder, held) or self._content_of(holder, held)

    def _content_of(self, holder: Any, held: object) -> str:
        """Name a place in an instance of a subclass of a container."""
        for base, find in ((dict, self._key_of), (list, _index_of), (tuple, _index_of)):
            if base in type(holder).__mro__:
                return find(holder, held)
        return ""

    def _key_of(self, holder: Any, held: object) -> str:
        try:
            for key, value in islice(dict.items(holder), MAX_ITEMS):
                if value is held:
                    return f"[{self._show_key(key)}]"
                if key is held:
                    return " as a key"
        except RuntimeError:
            return " (it changes)"
        return ""

    def _show_key(self, key: object) -> str:
        if type(key) is str:
            return repr(clean(self._redact(key), MAX_KEY_CHARS))
        if type(key) in {int, bool, type(None)}:
            return clean(repr(key), MAX_KEY_CHARS)
        return f"a {type_name(type(key))}"

    def _attribute_of(self, holder: Any, held: object) -> str:
        cls = type(holder)
        if cls is MethodType:
            return ".__self__" if holder.__self__ is held else ".__func__"
        if cls is CellType:
            return ""
        if cls is FunctionType:
            return _part_of_function(holder, held)
        for name, value in self._iter_attributes(holder):
            if value is held:
                return f".{clean(self._redact(name), MAX_KEY_CHARS)}"
        return ".__class__" if cls is held else ""

    @staticmethod
    def _iter_attributes(holder: Any) -> Iterator[tuple[str, object]]:
        variables = variables_of(holder)
        if variables is not None:
            try:
                yield from ((str(name), value) for name, value in list(variables.items()))
            except RuntimeError:
                return
        yield from _iter_slots(holder)


def is_frame(holder: object) -> bool:
    """Return whether an object is code at work, whose local variables hold others."""
    return type(holder) in {FrameType, CoroutineType, GeneratorType, AsyncGeneratorType}


def name_local(holder: Any, held: object) -> tuple[str, FrameType] | None:
    """Return the local variable of a frame or coroutine that holds an object, and its frame."""
    frame = _frame_of(holder)
    if frame is None:
        return None
    variables = frame.f_locals
    found = next((str(name) for name, value in variables.items() if value is held), "")
    _forget_copy(frame, variables)
    return found, frame


def describe_frame(frame: FrameType) -> str:
    """Return function, file and line."""
    function = clean(frame.f_code.co_qualname)
    return f"{function} ({short_file(frame.f_code.co_filename)}:{frame.f_lineno})"


def variables_of(holder: object) -> dict[str, object] | MappingProxyType[str, object] | None:
    """Return an object's ``__dict__`` without asking its class for it; None when it has none."""
    if isinstance_of(holder, ModuleType):
        return ModuleType.__getattribute__(holder, "__dict__")  # type: ignore[no-any-return]
    if isinstance_of(holder, type):
        return type.__getattribute__(holder, "__dict__")  # type: ignore[no-any-return]
    for parent in type.__getattribute__(type(holder), "__mro__"):
        descriptor = type.__getattribute__(parent, "__dict__").get("__dict__")
        if type(descriptor) in {GetSetDescriptorType, MemberDescriptorType}:
            return descriptor.__get__(holder)  # type: ignore[no-any-return]
    return None


def isinstance_of(thing: object, base: type) -> bool:
    """Return what `isinstance` would, without asking the object for its ``__class__``."""
    return any(parent is base for parent in type.__getattribute__(type(thing), "__mro__"))


def _iter_slots(holder: object) -> Iterator[tuple[str, object]]:
    for parent in type.__getattribute__(type(holder), "__mro__"):
        for name, descriptor in type.__getattribute__(parent, "__dict__").items():
            if type(descriptor) is MemberDescriptorType:
                try:
                    yield name, descriptor.__get__(holder)
                except AttributeError:
                    continue  # nothing was put there yet


def _index_of(holder: Any, held: object) -> str:
    try:
        for number, item in enumerate(islice(holder, MAX_ITEMS)):
            if item is held:
                return f"[{number}]"
    except RuntimeError:
        return " (it changes)"
    return ""


def _part_of_function(function: FunctionType, held: object) -> str:
    for name in (
        "__closure__",
        "__defaults__",
        "__kwdefaults__",
        "__dict__",
        "__globals__",
        "__wrapped__",
    ):
        if getattr(function, name, None) is held:
            return f".{name}"
    return ""


def _frame_of(holder: Any) -> FrameType | None:
    if type(holder) is FrameType:
        return holder
    for prefix in ("cr", "gi", "ag"):
        frame = getattr(holder, f"{prefix}_frame", None)
        if frame is not None:
            return frame  # type: ignore[no-any-return]
    return None


def _forget_copy(frame: FrameType, variables: Any) -> None:
    """Empty the copy of a function's variables that the frame keeps from now on.

    Before Python 3.13 (PEP 667) it would keep them alive until the function ends. One that somebody
    else uses too (the author called ``locals()``) stays.
    """
    is_function = bool(frame.f_code.co_flags & 0x02)  # CO_NEWLOCALS: not a module's, not a class's
    # The frame, our caller's name and ours, and the argument of getrefcount.
    if type(variables) is dict and is_function and sys.getrefcount(variables) <= 4:
        variables.clear()
