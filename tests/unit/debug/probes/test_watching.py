"""Which lines run while memory grows, with a clock and a malloc of the test's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kagent_sdk.debug.probes.watching import NOWHERE, GrowthWatch
from tests.unit.debug.sessions import make_console


@contextmanager
def spinning() -> Iterator[None]:
    """Have a thread run on one line."""
    stop, begun = threading.Event(), threading.Event()

    def spin() -> None:
        begun.set()
        while not stop.is_set():
            pass

    thread = threading.Thread(target=spin)
    thread.start()
    begun.wait()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class Rig:
    """A clock that goes on with every wait, and readings of malloc."""

    def __init__(self, *readings: int) -> None:
        self.now_s = 0.0
        self._readings = iter(readings)

    def watch(self) -> GrowthWatch:
        """Watch for three looks; return the watch."""
        watch = GrowthWatch(10, lambda: next(self._readings))
        watch.run(0.25, lambda: False, clock=lambda: self.now_s, wait=self._wait)
        return watch

    def _wait(self, seconds: float) -> None:
        self.now_s += seconds


def test_growth_goes_to_the_line_that_runs() -> None:
    """What shrinks again is no leak."""
    with spinning():
        growth = Rig(100, 400, 400, 350).watch().growth

    assert (growth.looks, growth.bytes) == (3, 250)
    assert sum(growth.places.values()) == pytest.approx(250)
    assert any(place.function.endswith("spin") for place in growth.places)


def test_growth_that_nobody_is_seen_to_cause_is_said_to_be_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A line that is guessed would send people to the wrong place."""
    monkeypatch.setattr("kagent_sdk.debug.probes.watching._running_places", list)
    growth = Rig(100, 200, 300, 400).watch().growth

    assert growth.places == {NOWHERE: 300.0}
    assert str(NOWHERE) == "(no thread was seen running)"


def test_the_command_says_how_often_it_looked() -> None:
    """The C library is asked in truth."""
    console = make_console()
    shown = console.run("memory", "watch", "0.05")
    document = console.read("memory", "watch", "0.05")

    assert "malloc has handed out: " in shown
    assert document["looks"] > 0
