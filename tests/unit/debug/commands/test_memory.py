"""memory, and its start, diff and stop."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

import click
import pytest

from kagent_sdk.debug.commands import tracing
from tests.unit.debug.sessions import make_console


class Kept:
    """Something to count."""


@pytest.fixture(autouse=True)
def small_heap() -> Iterator[None]:
    """Hide what pytest holds, so that a walk is short."""
    gc.freeze()
    yield
    gc.unfreeze()


def test_the_second_call_says_what_has_grown() -> None:
    """A single look at memory tells nothing about a leak."""
    console = make_console()
    first = console.run("memory")
    kept = [Kept() for _ in range(50)]
    second = console.run("memory", "--top", "3")
    third = console.run("memory")

    assert "call it again to see what grows" in first
    assert "objects are frozen (gc.freeze), and not seen" in first
    (line,) = [line for line in second.splitlines() if "test_memory.Kept" in line and "+" in line]
    assert line.split()[1] == f"+{len(kept)}"
    assert "test_memory.Kept" not in third.partition("GROWN")[2]


def test_what_is_kept_between_calls_is_bounded_and_holds_no_object() -> None:
    """The tool that looks for leaks must not be one."""
    console = make_console()
    console.run("memory")
    last = console.memory["memory.last"]

    assert all(type(part) is int for pair in last.types.values() for part in pair)
    assert all(type(part) in {int, type(None)} for part in last.usage.as_json().values())


def test_a_walk_that_is_cut_says_so() -> None:
    """Sizes of a part are not the sizes of the whole."""
    things: list[list[int]] = [[] for _ in range(1500)]
    shown = make_console().run("memory", "--objects", "1000")

    assert f"cut: {1000} objects looked at" in shown
    assert len(things) == 1500


def test_what_was_cut_is_not_compared() -> None:
    """A part against the whole would look like a leak."""
    things: list[list[int]] = [[] for _ in range(1500)]
    console = make_console()
    console.run("memory", "--objects", "1000")
    things += [[] for _ in range(100)]
    shown = console.run("memory", "--top", "1000")
    document = console.read("memory")

    (line,) = [line for line in shown.splitlines() if line.startswith("list ") and "+" in line]
    assert line.split()[2] == "?"
    assert int(line.split()[1]) >= 100
    (python,) = [line for line in shown.splitlines() if line.startswith("Python objects")]
    assert " ? " in python
    assert all(part["bytes"] is not None for part in document["growth"])
    assert len(things) == 1600


def test_tracing_is_begun_once_and_ended() -> None:
    """Until it is stopped the agent pays for it."""
    console = make_console()
    with pytest.raises(click.ClickException, match="begin with: memory start"):
        console.run("memory", "diff")
    with pytest.raises(click.ClickException, match="not traced"):
        console.run("memory", "stop")
    started = console.run("memory", "start", "--frames", "2")
    assert tracemalloc.get_traceback_limit() == 2
    again = console.read("memory", "start")
    kept = [bytearray(1000) for _ in range(10)]
    shown = console.run("memory", "diff")
    with_notes = console.run("memory")
    nothing = console.run("memory", "diff", "--top", "1")
    stopped = console.run("memory", "stop")

    assert "10 to 30 times as long" in started
    assert again == {"was_tracing": True, "frames": 2}
    assert "test_memory.py:" in shown
    assert "kept = [bytearray(1000) for _ in range(10)]" in shown
    assert "notes of the tracer" in with_notes
    assert "the tracer holds" in nothing
    assert "are freed" in stopped
    assert not tracemalloc.is_tracing()
    assert set(console.memory) == {"memory.last"}
    assert len(kept) == 10


def test_a_tracer_of_the_agents_own_is_left_alone() -> None:
    """It may have reasons (PYTHONTRACEMALLOC)."""
    console = make_console()
    tracemalloc.start()
    try:
        shown = console.run("memory", "start")
        with pytest.raises(click.ClickException, match="the agent itself traces"):
            console.run("memory", "stop")
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()

    assert "compares with this moment" in shown


def test_a_snapshot_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking must not be what ends the process."""
    monkeypatch.setattr("kagent_sdk.debug.probes.tracing.MAX_TRACER_BYTES", 0)
    console = make_console()
    console.run("memory", "start")
    try:
        with pytest.raises(click.ClickException, match="'memory start --frames 1'"):
            console.run("memory", "diff")
    finally:
        console.run("memory", "stop")


def test_a_look_that_is_cut_compares_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing would look as if it had been freed."""
    monkeypatch.setattr(tracing, "MAX_TRACES", 1)
    console = make_console()
    console.run("memory", "start")
    try:
        kept = [bytearray(10) for _ in range(10)]
        with pytest.raises(click.ClickException, match="1 objects looked at"):
            console.run("memory", "diff")
    finally:
        console.run("memory", "stop")

    assert len(kept) == 10
