"""Which objects a person means by a type's name or an object's number."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from difflib import get_close_matches

from kagent_sdk.debug.probes.budget import Budget
from kagent_sdk.debug.probes.names import type_name


def parse_id(text: str) -> int | None:
    """Read an object's number as ``id()`` returns it, decimal or ``0x``; None when it is a name."""
    try:
        return int(text, 0)
    except ValueError:
        return None


def find_types(name: str) -> tuple[list[type], list[str]]:
    """Return the types of that name that have instances; if there are none, the nearest names.

    Args:
        name: ``module.Class``, or ``Class`` alone.
    """
    known: dict[str, list[type]] = {}
    for cls in _all_types():
        known.setdefault(type_name(cls), []).append(cls)
    if name in known:
        return known[name], []
    last_parts: dict[str, list[str]] = {}
    for full in known:
        last_parts.setdefault(full.rpartition(".")[2], []).append(full)
    if name in last_parts:
        return [cls for full in last_parts[name] for cls in known[full]], []
    near = get_close_matches(name.rpartition(".")[2], last_parts, n=3)
    return [], [full for part in near for full in last_parts[part]][:5]


def instances_of(types: Iterable[type], budget: Budget) -> list[object]:
    """Return the objects of exactly these types, also those that the collector does not know."""
    all_types = list(types)
    wanted = set(map(id, all_types))
    is_hidden = any(map(_may_be_untracked, all_types))
    objects = gc.get_objects()
    found: dict[int, object] = {}
    try:
        hidden = {id(objects), id(found), id(wanted)}
        for thing in budget.walk(objects):
            if id(type(thing)) in wanted and id(thing) not in hidden:
                found[id(thing)] = thing
            for other in gc.get_referents(thing) if is_hidden else ():
                if id(type(other)) in wanted and not gc.is_tracked(other):
                    found.setdefault(id(other), other)
    finally:
        objects.clear()
    return list(found.values())


def object_of(ident: int, budget: Budget) -> object | None:
    """Return the object with that number, if the collector leads to it; None when there is none."""
    objects: list[object] = gc.get_objects()
    try:
        for thing in budget.walk(objects):
            other: object
            if id(thing) == ident:
                return thing
            for other in gc.get_referents(thing):
                if id(other) == ident:
                    return other
    finally:
        objects.clear()
    return None


def _may_be_untracked(cls: type) -> bool:
    """Return whether the collector may not know of an instance: then it is found where it is held."""
    # Py_TPFLAGS_HAVE_GC; of tuples and dictionaries it forgets those that can be in no cycle.
    return not cls.__flags__ & (1 << 14) or cls in {tuple, dict}


def _all_types() -> set[type]:
    objects = gc.get_objects()
    types = set(map(type, objects))
    # Classes of which no instance is tracked: bytearray, Decimal.
    types.update(cls for cls in objects if isinstance_type(cls))
    objects.clear()
    return types | {bytearray, bytes, str, int, float, memoryview, object}


def isinstance_type(thing: object) -> bool:
    """Return whether an object is a class, without asking it for its ``__class__``."""
    return type in type.__getattribute__(type(thing), "__mro__")
