"""What Python's cycle collector has done, and what it alone would free."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kagent_sdk.debug.probes.budget import Budget
from kagent_sdk.debug.probes.names import is_author_file, type_name
from kagent_sdk.debug.probes.sources import class_place

MAX_TYPES = 200


@dataclass(frozen=True, slots=True)
class CollectorView:
    """The collector as it stands.

    Attributes:
        is_enabled: whether it runs by itself.
        counts, thresholds: by generation, the youngest first.
        stats: what it has done since the start, by generation (`gc.get_stats`).
        frozen: objects that it leaves alone (`gc.freeze`).
        uncollectable: what it has found and could not free, by type (`gc.garbage`).
    """

    is_enabled: bool
    counts: tuple[int, ...]
    thresholds: tuple[int, ...]
    stats: tuple[dict[str, Any], ...]
    frozen: int
    uncollectable: dict[str, int]


@dataclass(frozen=True, slots=True)
class CyclicType:
    """Instances of a type that only the collector frees.

    Attributes:
        is_linked: whether instances refer to others of what was found: they make or hold cycles.
        has_finalizer: whether the type has a ``__del__``.
        place: file and line of the class, if it is written in Python.
    """

    name: str
    count: int
    is_linked: bool
    has_finalizer: bool
    place: tuple[str, int] | None


@dataclass(frozen=True, slots=True)
class Cycles:
    """What one collection found unreachable.

    Attributes:
        types: the author's classes first, then others that are written in Python; the most frequent first.
        objects: all of them.
        took_s: how long the interpreter stood still for it.
        cut: why not all objects were looked at.
    """

    types: tuple[CyclicType, ...]
    objects: int
    took_s: float
    cut: str | None


def view_collector() -> CollectorView:
    """Return how the collector stands."""
    return CollectorView(
        is_enabled=gc.isenabled(),
        counts=gc.get_count(),
        thresholds=gc.get_threshold(),
        stats=tuple(gc.get_stats()),
        frozen=gc.get_freeze_count(),
        uncollectable=dict(
            Counter(type_name(type(thing)) for thing in gc.garbage).most_common(MAX_TYPES)
        ),
    )


def collect() -> tuple[int, float]:
    """Run a full collection; return how many objects it freed, and the seconds it took.

    The interpreter stands still for it. Finalizers run in this thread, as in any that allocates.
    """
    began_s = time.perf_counter()
    found = gc.collect()
    return found, time.perf_counter() - began_s


def find_cycles(budget: Budget) -> Cycles:
    """Collect, look at what was found before it is freed, and free it.

    With ``DEBUG_SAVEALL`` a collection runs the finalizers (once: PEP 442) and clears weak
    references, as ever, but keeps the objects; they are let go here, and a second collection frees
    them. What lay in `gc.garbage` before stays there.
    """
    began_s = time.perf_counter()
    with _saved() as garbage:
        took_s = time.perf_counter() - began_s
        try:
            types = _view_types(garbage, budget)
            objects = len(garbage)
        finally:
            garbage.clear()
    gc.collect()
    return Cycles(tuple(types), objects, took_s, budget.cut)


@contextmanager
def _saved() -> Iterator[list[object]]:
    """Collect once, and keep what was found; the collector's settings are put back at once."""
    was_enabled, flags = gc.isenabled(), gc.get_debug()
    before = len(gc.garbage)
    gc.disable()  # a collection of another thread would be kept too
    try:
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
    finally:
        gc.set_debug(flags)
        garbage = gc.garbage[before:]
        del gc.garbage[before:]
        if was_enabled:
            gc.enable()
    yield garbage


def _view_types(garbage: list[object], budget: Budget) -> list[CyclicType]:
    found = {id(thing) for thing in garbage}
    counts: Counter[type] = Counter()
    linked: set[type] = set()
    for thing in budget.walk(garbage):
        cls = type(thing)
        counts[cls] += 1
        if cls not in linked and any(id(other) in found for other in gc.get_referents(thing)):
            linked.add(cls)
    views = [
        CyclicType(type_name(cls), count, cls in linked, _has_finalizer(cls), class_place(cls))
        for cls, count in counts.most_common(MAX_TYPES)
    ]
    return sorted(views, key=_rank)


def _rank(view: CyclicType) -> tuple[bool, bool, int]:
    """Put the author's classes first, and then what is written in Python."""
    is_author = view.place is not None and is_author_file(view.place[0])
    return not is_author, view.place is None, -view.count


def _has_finalizer(cls: type) -> bool:
    return any(
        "__del__" in type.__getattribute__(parent, "__dict__")
        for parent in type.__getattribute__(cls, "__mro__")
    )
