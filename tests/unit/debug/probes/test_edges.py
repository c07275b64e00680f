"""By what one object holds another."""

from __future__ import annotations

import gc
from collections import OrderedDict, deque
from collections.abc import Generator
from types import FunctionType, SimpleNamespace
from typing import NamedTuple

import pytest

from kagent_sdk.debug.probes.edges import EdgeNamer, name_local, variables_of


class Slotted:
    """Has slots, one of them empty."""

    __slots__ = ("empty", "part")

    part: object


class Plain:
    """Has a dictionary, and a property that nobody may ask."""

    shared: object = None

    @property
    def __dict__(self) -> dict[str, object]:  # type: ignore[override]
        """Fail."""
        raise AssertionError


class Pair(NamedTuple):
    """A tuple with names."""

    one: object
    two: object


class Bag(dict[str, object]):
    """A dictionary with attributes."""


HELD = object()


def slotted() -> Slotted:
    """Return one with a full slot."""
    thing = Slotted()
    thing.part = HELD
    return thing


def closure() -> FunctionType:
    """Return a function that has closed over a variable."""
    mine = HELD

    def inner() -> object:
        return mine

    assert isinstance(inner, FunctionType)
    return inner


CLOSED = closure()


def defaults(value: object = (HELD,)) -> object:
    """Hold something by default."""
    return value


@pytest.mark.parametrize(
    ("holder", "held", "name"),
    [
        ([0, HELD], HELD, "[1]"),
        ((HELD,), HELD, "[0]"),
        (deque([0, 0, HELD]), HELD, "[2]"),
        ({"a": HELD}, HELD, "['a']"),
        ({7: HELD}, HELD, "[7]"),
        ({(1, 2): HELD}, HELD, "[a tuple]"),
        ({HELD: 1}, HELD, " as a key"),
        ({"hunter2 and more": HELD}, HELD, "['[redacted] and more']"),
        ({"k" * 50: HELD}, HELD, "['" + "k" * 39 + "…']"),
        ({HELD}, HELD, ""),
        ([], HELD, ""),
        ({}, HELD, ""),
        (SimpleNamespace(part=HELD), HELD, ".part"),
        (slotted(), HELD, ".part"),
        (Pair(0, HELD), HELD, "[1]"),
        (Bag(x=HELD), HELD, "['x']"),
        (OrderedDict(x=HELD), HELD, "['x']"),
        (Plain(), Plain, ".__class__"),
        (Plain(), HELD, ""),
        (slotted.__get__(HELD), HELD, ".__self__"),
        (slotted.__get__(HELD), slotted, ".__func__"),
        (defaults, defaults.__defaults__, ".__defaults__"),
        (defaults, HELD, ""),
        (CLOSED, CLOSED.__closure__, ".__closure__"),
        ((CLOSED.__closure__ or ())[0], HELD, ""),
    ],
)
def test_the_way_is_named(holder: object, held: object, name: str) -> None:
    """As the author would write it."""
    namer = EdgeNamer(lambda text: text.replace("hunter2", "[redacted]"))

    assert namer.name(holder, held) == name


def test_a_class_and_a_module_have_variables_too() -> None:
    """Where the caches are."""
    Plain.shared = HELD
    try:
        assert EdgeNamer().name(Plain, HELD) == ".shared"
    finally:
        Plain.shared = None
    assert EdgeNamer().name(gc, gc.collect) == ".collect"
    assert variables_of(3) is None


def test_looking_at_a_frame_keeps_nothing_alive() -> None:
    """Before Python 3.13 a frame keeps the copy of its variables that somebody has asked for."""

    def generate() -> Generator[None, None, None]:
        mine = HELD
        yield
        yield
        del mine

    running = generate()
    next(running)
    before = len(gc.get_referrers(HELD))
    found = name_local(running, HELD)

    assert found is not None
    assert found[0] == "mine"
    assert name_local(running, object()) == ("", found[1])
    assert len(gc.get_referrers(HELD)) == before
    running.close()
    assert name_local(running, HELD) is None
