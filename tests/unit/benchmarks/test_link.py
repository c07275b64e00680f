"""Tests of `benchmarks/link.py`: what it sends is what the wire takes, what it prints is right."""

from __future__ import annotations

import link
from rig.mesh import STATUS, registration

from kagent_sdk.protocol.link import Heartbeat, Registration


def test_simulated_agents_are_agents() -> None:
    """A registration that is refused measures the refusal."""
    found = [Registration.model_validate(registration(number)) for number in range(3)]

    assert len({one.instance for one in found}) == 3
    assert len({one.agent for one in found}) == 3
    assert Heartbeat.model_validate({"status": STATUS}).status.ready


def test_latencies_are_summarised() -> None:
    """Milliseconds of seconds, and tasks in the time that the load took."""
    found = link.summarise([0.001] * 98 + [0.002, 0.1], 2.0)

    assert (found.rate, found.p50_ms, found.p99_ms) == (50.0, 1.0, 2.0)


def test_options_change_what_is_measured() -> None:
    """A smoke test takes seconds, and a number that was asked for counts in it too."""
    assert link.sizes_of(link.parse([])) == link.Sizes()
    assert link.sizes_of(link.parse(["--quick"])) == link.QUICK
    assert link.sizes_of(link.parse(["--quick", "--agents", "7"])).agents == 7


def test_the_report_has_a_row_for_each_measurement() -> None:
    """For a person, and the same for a program."""
    found = {"the orchestrator": {1: link.Throughput(1234.5, 1.2, 3.4)}, "NATS": {}}
    crowd = link.Crowd(rate=800, heartbeat_us=100, memory_mb=5)

    assert link.throughput_table(found).rows == (
        ("the orchestrator, 1 replica", "1,234", "1.2", "3.4"),
    )
    assert ("CPU of 500 agents, % of a core", "1.0") in link.crowd_table(crowd, 500).rows
    assert link.memory_table({1000: 50.0}).rows == (("1,000 finished tasks", "50.0"),)
    assert link.data(found, crowd, {1000: 50.0})["memory_mb"] == {"1000": 50.0}
