"""profile SECONDS."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import click
import jsonschema_rs
import pytest

from tests.unit.debug.sessions import Console, make_console

# The essentials of https://www.speedscope.app/file-format-schema.json for sampled profiles.
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["$schema", "profiles", "shared"],
    "properties": {
        "$schema": {"const": "https://www.speedscope.app/file-format-schema.json"},
        "name": {"type": "string"},
        "exporter": {"type": "string"},
        "activeProfileIndex": {"type": "number"},
        "shared": {
            "type": "object",
            "required": ["frames"],
            "properties": {
                "frames": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"type": "string"},
                            "file": {"type": "string"},
                            "line": {"type": "number"},
                            "col": {"type": "number"},
                        },
                    },
                }
            },
        },
        "profiles": {
            "type": "array",
            "items": {
                "type": "object",
                "required": [
                    *("type", "name", "unit", "startValue", "endValue", "samples", "weights"),
                ],
                "properties": {
                    "type": {"const": "sampled"},
                    "name": {"type": "string"},
                    "unit": {"enum": ["seconds", "milliseconds", "bytes", "none"]},
                    "startValue": {"type": "number"},
                    "endValue": {"type": "number"},
                    "samples": {
                        "type": "array",
                        "items": {"type": "array", "items": {"type": "integer", "minimum": 0}},
                    },
                    "weights": {"type": "array", "items": {"type": "number"}},
                },
            },
        },
    },
}


@pytest.fixture
def busy() -> Iterator[Console]:
    """Return a console to a worker with a thread that never rests."""
    stop = threading.Event()

    def burn() -> None:
        while not stop.is_set():
            sum(number * number for number in range(500))

    thread = threading.Thread(target=burn, name="burner")
    thread.start()
    yield make_console()
    stop.set()
    thread.join()


def test_the_lines_that_take_the_time_are_named(busy: Console) -> None:
    """With how often it looked, and what it missed."""
    shown = busy.run("profile", "0.2", "--hz", "200")

    assert "(200 Hz wanted), came too late" in shown
    assert "tests/unit/debug/commands/test_profile.py" in shown
    assert "thread burner" in shown.partition("the hottest path:")[2]


def test_speedscope_reads_it(busy: Console) -> None:
    """The file can be dropped on speedscope.app."""
    document = json.loads(busy.run("profile", "0.2", "--speedscope"))

    jsonschema_rs.validator_for(SCHEMA).validate(document)
    (profile,) = [part for part in document["profiles"] if part["name"] == "thread burner"]
    assert len(profile["samples"]) == len(profile["weights"])
    assert profile["endValue"] == pytest.approx(sum(profile["weights"]), abs=1e-4)
    frames = document["shared"]["frames"]
    assert {number for stack in profile["samples"] for number in stack} <= set(range(len(frames)))
    assert any("burn" in frame["name"] for frame in frames)


def test_flamegraph_reads_it(busy: Console) -> None:
    """Each line is a stack, a space and a number."""
    lines = busy.run("profile", "0.2", "--collapsed").splitlines()
    mine = [line for line in lines if line.startswith("thread burner;")]

    assert mine
    assert all(line.rpartition(" ")[2].isdigit() for line in lines)


def test_it_ends_when_its_client_has_gone() -> None:
    """A profile that nobody waits for costs the agent for nothing."""
    console = make_console()
    console.is_over = lambda: True

    assert console.run("profile", "300", "--idle").startswith("looked 0 times in 0.0 s")


def test_seconds_are_bounded() -> None:
    """Nobody profiles for a day by mistake."""
    with pytest.raises(click.BadParameter, match="not in the range"):
        make_console().run("profile", "86400")
