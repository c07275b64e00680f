"""A worker that uses what it may use against its host, and against what comes after it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import psutil
import pytest

from tests.agents import POLL_S
from tests.integration.escapes.assaults import LEFT
from tests.integration.readable_python import is_root
from tests.integration.sandbox_stage import Scenario, Stage, running_stage

USER = "user"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_forges_results_of_its_own_tasks_alone(
    readable_python: Path, workers: int
) -> None:
    """A task of one worker cannot speak for those of another; in one process there is no border."""
    scenario = Scenario(USER, "process", workers)
    with running_stage(readable_python, scenario) as stage:
        host = stage.agent.pid
        told = forge(stage)
        stage.agent.wait_logged("worker_crashed")
        stage.wait_ready(scenario)
        assert stage.agent.call("identity")["user"] != 0
        assert stage.agent.stop() == 0

    assert told == ("forged", True) if workers == 1 else ("held", False)
    assert stage.agent.pid == host


def forge(stage: Stage) -> tuple[str, bool]:
    """Have a task forge results while another one runs.

    Returns:
        What the other one's caller was told, and whether both were in the same worker.
    """
    sign = stage.agent.directory / "runtime" / "data" / "sign"
    told: list[str] = []
    caller = threading.Thread(
        target=lambda: told.append(str(stage.agent.call("hold", {"sign": str(sign)})))
    )
    caller.start()
    while not sign.with_name("sign-begun").exists():
        assert caller.is_alive()
        time.sleep(POLL_S)
    # By the first number of a connection. In another worker that is the forger's own task.
    note = sign.with_name("note")
    numbers = list(range(1, 20))
    body = {"numbers": numbers, "note": str(note)}
    stage.agent.post("/v1/capabilities/forge_results", body)
    sign.touch()
    caller.join()
    is_same = note.read_text() == sign.with_name("sign-begun").read_text()
    return told[0], is_same


def test_descriptors_that_are_sent_along_stay_with_nobody(readable_python: Path) -> None:
    """A host that runs out of descriptors would serve nobody."""
    with running_stage(readable_python, Scenario(USER, "process", 1)) as stage:
        stage.agent.call("identity")
        host = psutil.Process(stage.agent.pid)
        before = host.num_fds()
        assert stage.agent.call("send_descriptors", {"count": 200}) == "sent"
        assert stage.agent.call("identity")["user"] != 0
        after = host.num_fds()
        assert stage.agent.stop() == 0

    assert after <= before + 5


@pytest.mark.parametrize("isolation", ["process", "bwrap"])
def test_a_process_that_is_left_behind_does_not_outlive_its_agent(
    readable_python: Path, isolation: str
) -> None:
    """What was started by a task must not go on in the name of an agent that is gone."""
    with running_stage(readable_python, Scenario(USER, isolation)) as stage:
        marker = stage.agent.directory / "runtime" / "data" / "marker"
        stage.agent.call("stay", {"marker": str(marker)})
        left = [each for each in stage.agent.processes() if each.name() == LEFT]
        assert left
        code = stage.agent.stop()
        alive = [each for each in left if is_alive(each)]
        for process in alive:
            process.kill()

    assert code == 0
    assert not alive


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process runs: nobody may be there to wait for one that has ended."""
    try:
        return process.status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    except psutil.NoSuchProcess:
        return False


def test_links_that_a_worker_planted_give_it_nothing_at_the_next_start(
    readable_python: Path,
) -> None:
    """The host of the next start is root for a moment, and hands folders over."""
    if not is_root():
        pytest.skip("platform: these tests were not started by root")
    scenario = Scenario("root", "process", 1)
    with running_stage(readable_python, scenario) as stage:
        target = stage.field.parent / "of-root"
        target.write_text("of root")
        target.chmod(0o600)
        planted = stage.agent.call("plant_links", {"target": str(target)})
        assert stage.agent.stop() == 0
        os.chown(stage.agent.directory / "runtime" / "data", 0, 0)
        os.chown(stage.agent.directory / "runtime" / "cache", 0, 0)
        stage.restart(scenario)
        owner = target.stat()
        handed_over = (stage.agent.directory / "runtime" / "data").stat().st_uid
        assert stage.agent.stop() == 0

    assert "link" in planted
    assert handed_over != 0  # it was handed over once more
    assert (owner.st_uid, owner.st_gid) == (0, 0)
