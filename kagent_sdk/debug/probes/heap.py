"""What objects there are, by type, and how much memory each type stands for."""

from __future__ import annotations

import gc
from collections import Counter
from dataclasses import dataclass, field
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, ModuleType

from kagent_sdk.debug.probes.budget import Budget
from kagent_sdk.debug.probes.names import type_name
from kagent_sdk.debug.probes.sizes import Sizer

CONTAINERS = frozenset({dict, list, tuple, set, frozenset})
"""Counted with the instance that holds them."""

_ATOMS = frozenset({int, float, complex, bool, type(None), str, bytes, CodeType})
"""Refer to nothing that counts."""

_BORDERS = frozenset({type, ModuleType, FunctionType, BuiltinFunctionType, FrameType})
"""Own nothing here: what they refer to (the globals, say) is everybody's."""


@dataclass(slots=True)
class TypeUse:
    """What the instances of one type stand for.

    Attributes:
        count: instances, as far as the collector or the walk knows them.
        bytes: their deep size: see `measure_heap`.
    """

    count: int = 0
    bytes: int = 0


@dataclass(slots=True)
class HeapView:
    """The heap by type.

    Attributes:
        types: by full name.
        total_bytes: the sum of what was measured.
        buffer_bytes: of that, what bytearrays, arrays, ctypes and numpy hold in C memory.
        large_bytes: of that, objects over 512 bytes, which come from the C library's malloc.
        objects: how many were measured.
        frozen: objects that the collector leaves alone and does not tell of (`gc.freeze`).
        cut: why it stopped early; None: everything was measured.
    """

    types: dict[str, TypeUse] = field(default_factory=dict)
    total_bytes: int = 0
    buffer_bytes: int = 0
    large_bytes: int = 0
    objects: int = 0
    frozen: int = 0
    cut: str | None = None


PYMALLOC_MAX_BYTES = 512
"""Larger requests go to malloc (`Objects/obmalloc.c`, SMALL_REQUEST_THRESHOLD)."""


def measure_heap(budget: Budget) -> HeapView:
    """Count all objects that the collector knows, and measure them, the youngest first.

    The deep size of an instance is its own and that of the builtin containers, strings, numbers and
    buffers that are reached from it without passing an instance of another class. An object is
    counted once, for the first that reaches it; a container that no instance holds, for its own type.
    What the collector does not know (a bytearray, a Decimal) is counted where it is reached.
    """
    walk = _Walk(budget)
    objects = gc.get_objects()
    try:
        counts = Counter(map(type, objects))
        walk.seen |= {id(objects), id(walk.seen), id(walk)}
        walk.measure(objects)
    finally:
        objects.clear()
    for cls, count in counts.items():
        walk.use(cls).count += count
    walk.view.cut = budget.cut
    walk.view.frozen = gc.get_freeze_count()
    return walk.view


class _Walk:
    """One pass over the heap."""

    def __init__(self, budget: Budget) -> None:
        self.view = HeapView()
        self.seen: set[int] = set()
        self._budget = budget
        self._sizer = Sizer()
        self._uses: dict[type, TypeUse] = {}
        self._is_buffer: dict[type, bool] = {}

    def use(self, cls: type) -> TypeUse:
        use = self._uses.get(cls)
        if use is None:
            # Two classes may bear one name: a module that was loaded anew.
            use = self._uses[cls] = self.view.types.setdefault(type_name(cls), TypeUse())
        return use

    def measure(self, objects: list[object]) -> None:
        # Instances before loose containers, so that these are counted with who holds them.
        for wants_loose in (False, True):
            for thing in reversed(objects):
                is_new = (type(thing) in CONTAINERS) is wants_loose and id(thing) not in self.seen
                if is_new and not self._add_owned(thing):
                    return

    def _add_owned(self, owner: object) -> bool:
        """Measure an instance with what it owns; return whether there is budget for more."""
        use = self.use(type(owner))
        seen = self.seen
        stack: list[object] = [owner]
        while stack:
            thing = stack.pop()
            if id(thing) in seen:
                continue
            if not self._budget.take():
                return False
            seen.add(id(thing))
            cls = type(thing)
            if cls in _ATOMS:
                self._add(thing, use)
            elif cls in CONTAINERS or thing is owner:
                self._add(thing, use)
                if cls not in _BORDERS:
                    stack.extend(filter(_is_owned, gc.get_referents(thing)))
            else:
                own = self.use(cls)
                own.count += 1
                self._add(thing, own)
        return True

    def _add(self, thing: object, use: TypeUse) -> None:
        size = self._sizer.size(thing)
        view = self.view
        use.bytes += size
        view.total_bytes += size
        view.objects += 1
        if size > PYMALLOC_MAX_BYTES:
            view.large_bytes += size
            if self._holds_bytes(type(thing)):
                view.buffer_bytes += size

    def _holds_bytes(self, cls: type) -> bool:
        known = self._is_buffer.get(cls)
        if known is None:
            known = self._is_buffer[cls] = self._sizer.is_buffer(cls)
        return known


def _is_owned(thing: object) -> bool:
    """Return whether an object is part of the one that refers to it: a container, or a leaf."""
    return type(thing) in CONTAINERS or not gc.is_tracked(thing)
