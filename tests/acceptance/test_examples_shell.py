"""The example `shell`: a program in another language, run as its README says."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agents import RunningAgent, copy_example, running_agent
from tests.integration.waiting import wait_until


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[RunningAgent]:
    """The running agent, which speaks ten times a second."""
    folder = copy_example("shell", tmp_path)
    with running_agent(folder, env={"INTERVAL_S": "0.1"}) as agent:
        yield agent


def read_log(agent: RunningAgent) -> list[dict[str, Any]]:
    """Return the complete lines of the log."""
    text = (agent.directory / "logs" / "runtime.log").read_text()
    return [json.loads(line) for line in text.split("\n")[:-1]]


def count_lines(agent: RunningAgent, pid: int) -> int:
    """Return how many lines a process has written to its stdout."""
    return sum(record["pid"] == pid and record["stream"] == "stdout" for record in read_log(agent))


def test_what_a_script_prints_is_in_the_log(shell: RunningAgent) -> None:
    """A script needs no library to be observed."""
    (pid,) = shell.worker_pids

    wait_until(lambda: count_lines(shell, pid) >= 3)
    assert any("space_left" in json.dumps(record) for record in read_log(shell))


def test_a_script_that_is_killed_comes_back(shell: RunningAgent) -> None:
    """A script needs no library to be supervised."""
    (killed,) = shell.worker_pids
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: shell.status()["workers"]["restarts"] == 1 and bool(shell.worker_pids))
    (pid,) = shell.worker_pids

    assert pid != killed
    wait_until(lambda: count_lines(shell, pid) >= 1)
    assert shell.get("/healthz").status == 200


def test_a_script_stops_in_its_own_order(shell: RunningAgent) -> None:
    """Its trap runs, and what it started is gone."""
    (pid,) = shell.worker_pids
    wait_until(lambda: count_lines(shell, pid) >= 1)  # its trap is set
    assert shell.stop() == 0

    assert "stopping" in {record["event"] for record in read_log(shell)}
    shell.assert_nothing_left()
