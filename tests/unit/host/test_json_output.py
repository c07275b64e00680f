"""Records that no one waits for."""

from __future__ import annotations

import json
import os
from typing import Any

from kagent_sdk.host.json_output import MAX_WAITING, JsonOutput


def read_all(descriptor: int) -> list[dict[str, Any]]:
    """Return the records that a pipe has."""
    with open(descriptor, "rb") as file:
        return [json.loads(line) for line in file]


def test_records_are_lines_of_json_in_their_order() -> None:
    """An engine's log takes them line by line."""
    reading, writing = os.pipe()
    output = JsonOutput(writing)
    output.start()
    output.log("info", "one", value="ü\n")
    output.log("warning", "two")
    output.close()
    os.close(writing)
    first, second = read_all(reading)

    assert (first["level"], first["event"], first["value"]) == ("info", "one", "ü\n")
    assert first["timestamp"].endswith("Z")
    assert (second["level"], second["event"]) == ("warning", "two")


def test_what_a_slow_reader_costs_is_counted() -> None:
    """The proxy goes on; that something is missing must not be hidden."""
    reading, writing = os.pipe()
    output = JsonOutput(writing)
    for number in range(MAX_WAITING + 3):
        output.log("info", "event", number=number)
    output.start()
    with os.fdopen(reading, "rb") as file:
        held = [json.loads(file.readline())["number"] for _ in range(MAX_WAITING)]
        output.log("info", "last")
        output.close()
        os.close(writing)
        last = json.loads(file.read())

    assert held == list(range(MAX_WAITING))
    assert (last["event"], last["dropped"]) == ("last", 3)


def test_a_reader_that_has_gone_ends_nothing() -> None:
    """An engine that restarts closes the pipe."""
    reading, writing = os.pipe()
    os.close(reading)
    output = JsonOutput(writing)
    output.start()
    output.log("info", "one")
    output.close()
    output.log("info", "two")
    os.close(writing)
