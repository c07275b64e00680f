"""What a worker says of itself is checked before the host believes it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from kagent_sdk.protocol.manifest import (
    MAX_CAPABILITIES,
    MAX_LOOPS,
    NAME_PATTERN,
    PROTOCOL_VERSION,
    CapabilityManifest,
    Heartbeat,
    Hello,
    LoopStatus,
    Welcome,
)

CAPABILITY: dict[str, Any] = {"name": "digest", "input_schema": {}, "output_schema": {}}
HELLO: dict[str, Any] = {
    "protocol": PROTOCOL_VERSION,
    "sdk_version": "0.1.0",
    "python_version": "3.11.7",
    "pid": 1,
    "capabilities": [CAPABILITY],
}


@pytest.mark.parametrize("name", ["a", "_a", "Text.digest-v2_x", "a" * 64])
def test_names_that_fit_a_url_a_label_and_a_log_line(name: str) -> None:
    """A capability's name appears in all three."""
    assert re.fullmatch(NAME_PATTERN, name)
    assert CapabilityManifest.model_validate({**CAPABILITY, "name": name}).name == name


@pytest.mark.parametrize("name", ["", "1a", "-a", ".a", "a b", "a/b", "a\n", "ä", "a" * 65])
def test_other_names_are_refused(name: str) -> None:
    """A worker cannot smuggle a path or a line break into the control plane."""
    assert not re.fullmatch(NAME_PATTERN, name)
    with pytest.raises(ValidationError):
        CapabilityManifest.model_validate({**CAPABILITY, "name": name})


@pytest.mark.parametrize(
    "change",
    [
        {"max_attempts": 0},
        {"max_attempts": 1001},
        {"timeout_s": 0},
        {"max_concurrency": 0},
        {"on_disconnect": "wait"},
        {"description": "a" * 10_001},
        {"surprise": 1},
        {"input_schema": None},
    ],
)
def test_options_out_of_bounds_are_refused(change: dict[str, Any]) -> None:
    """The host schedules by these numbers."""
    with pytest.raises(ValidationError):
        CapabilityManifest.model_validate({**CAPABILITY, **change})


def test_a_hello_survives_the_way_to_the_host() -> None:
    """It is the worker's first frame."""
    hello = Hello.model_validate({**HELLO, "loops": ["sweep"]})

    assert Hello.model_validate_json(hello.model_dump_json()) == hello


@pytest.mark.parametrize(
    "change",
    [
        {"capabilities": [CAPABILITY] * (MAX_CAPABILITIES + 1)},
        {"loops": ["a"] * (MAX_LOOPS + 1)},
        {"sdk_version": "1" * 101},
        {"python_version": "1" * 101},
        {"agent_name": "a" * 101},
        {"surprise": 1},
        {"pid": "one"},
    ],
)
def test_a_hello_is_bounded(change: dict[str, Any]) -> None:
    """The host keeps it as long as the worker lives."""
    with pytest.raises(ValidationError):
        Hello.model_validate({**HELLO, **change})


def test_a_welcome_does_not_show_its_secrets() -> None:
    """It may end up in a traceback."""
    welcome = Welcome(agent_name="a", agent_version="1", worker_index=0, secrets={"key": "hunter2"})

    assert "hunter2" not in repr(welcome)
    assert Welcome.model_validate_json(welcome.model_dump_json()) == welcome


def test_a_heartbeat_survives_the_way_to_the_host() -> None:
    """It carries the state of the loops for /status."""
    beat = Heartbeat(lag_ms=0.1, running=2, loops=(LoopStatus(name="sweep", runs=3),))

    assert Heartbeat.model_validate_json(beat.model_dump_json()) == beat


@pytest.mark.parametrize(
    "beat", [{"lag_ms": -1, "running": 0}, {"lag_ms": 0, "running": -1}, {"lag_ms": 0}]
)
def test_a_heartbeat_that_cannot_be_is_refused(beat: dict[str, Any]) -> None:
    """Negative counts would turn up in metrics."""
    with pytest.raises(ValidationError):
        Heartbeat.model_validate(beat)
