"""How large an object is by itself: asked only of what is written in C."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable
from contextlib import suppress
from types import MethodDescriptorType, WrapperDescriptorType
from typing import Any

Measure = Callable[[Any], int]


class Sizer:
    """Tells sizes; what it has found out about types is forgotten with it.

    A type's own ``__sizeof__`` is called only if it is written in C: another may be slow, or fail.
    """

    def __init__(self) -> None:
        self._measures: dict[type, Measure] = {}
        self._buffers = (
            bytearray,
            array,
            *_loaded(("_ctypes", "Array"), ("mmap", "mmap"), ("numpy", "ndarray")),
        )

    def size(self, thing: object) -> int:
        """Return the bytes of an object and of the C memory that it owns, not of what it refers to.

        The pages of an mmap are the kernel's, in no heap, and are not counted.
        """
        cls = type(thing)
        measure = self._measures.get(cls)
        if measure is None:
            measure = self._measures[cls] = _measure_of(cls)
        try:
            return measure(thing)
        except Exception:  # noqa: BLE001 - an extension's own mistake
            return object.__sizeof__(thing)

    def is_buffer(self, cls: type) -> bool:
        """Return whether instances hold bytes in C memory: bytearray, array, ndarray, ctypes, mmap."""
        return any(_is_below(cls, buffer) for buffer in self._buffers)


def _measure_of(cls: type) -> Measure:
    if any(
        _is_below(cls, data) for data in _loaded(("_ctypes", "Array"), ("_ctypes", "Structure"))
    ):
        return _ctypes_size
    for parent in type.__getattribute__(cls, "__mro__"):
        method = type.__getattribute__(parent, "__dict__").get("__sizeof__")
        if method is not None:
            is_c = type(method) in {MethodDescriptorType, WrapperDescriptorType}
            return sys.getsizeof if is_c else object.__sizeof__
    return object.__sizeof__


def _ctypes_size(thing: Any) -> int:
    import ctypes  # noqa: PLC0415 - loaded, as there is an instance

    # One that looks at memory of another's has a base, or was made from an address.
    is_owner = thing._b_base_ is None and thing._b_needsfree_
    return sys.getsizeof(thing) + (ctypes.sizeof(thing) if is_owner else 0)


def _is_below(cls: type, base: type) -> bool:
    """Return whether a class derives from another, without asking its metaclass."""
    return any(parent is base for parent in type.__getattribute__(cls, "__mro__"))


def _loaded(*names: tuple[str, str]) -> list[type]:
    """Return those types whose modules are loaded: where they are not there is no instance."""
    found = []
    for module, name in names:
        with suppress(KeyError, AttributeError):
            found.append(getattr(sys.modules[module], name))
    return found
