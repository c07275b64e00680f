"""gc, gc collect, gc cycles."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.unit.debug.sessions import make_console


class Loop:
    """Holds itself."""

    ends = 0

    def __init__(self) -> None:
        self.me = self

    def __del__(self) -> None:
        """Count the ends."""
        Loop.ends += 1


@pytest.fixture(autouse=True)
def small_heap() -> Iterator[None]:
    """Hide what pytest holds, and let nobody else collect."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    gc.freeze()
    Loop.ends = 0
    yield
    gc.unfreeze()
    if was_enabled:
        gc.enable()


def test_a_collector_that_is_off_is_seen() -> None:
    """Some turn it off for speed, and forget it."""
    shown = make_console().run("gc")
    document = make_console().read("gc")

    assert "OFF: only gc.collect() frees cycles" in shown
    assert document["is_enabled"] is False
    assert document["thresholds"] == list(gc.get_threshold())
    assert document["frozen"] == gc.get_freeze_count()
    assert document["uncollectable"] == {}


def test_a_collection_says_what_it_freed() -> None:
    """And runs the finalizers."""
    for _ in range(5):
        Loop()
    document = make_console().read("gc", "collect")

    assert document["freed"] >= 5
    assert Loop.ends == 5
    assert "freed in" in make_console().run("gc", "collect")


def test_cycles_are_named_freed_and_the_collector_left_as_it_was() -> None:
    """Each finalizer has run once, and what lay in gc.garbage lies there still."""
    mine: list[str] = ["mine"]
    gc.garbage.append(mine)
    for _ in range(5):
        Loop()
    try:
        shown = make_console().run("gc", "cycles")
        listed = make_console().run("gc")
        assert gc.garbage == [mine]
        assert gc.garbage[0] is mine
    finally:
        gc.garbage.clear()

    (line,) = [line for line in shown.splitlines() if "test_collector.Loop" in line]
    assert line.split()[0] == "5"
    assert "has __del__" in line
    assert "tests/unit/debug/commands/test_collector.py:" in line
    assert "1  list" in listed
    assert Loop.ends == 5
    assert gc.get_debug() == 0
    assert not gc.isenabled()
    assert not [thing for thing in gc.get_objects() if type(thing) is Loop]
