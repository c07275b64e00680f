"""Any program runs supervised in place of the entrypoint."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from kagent_sdk.sandbox.policy import Mode, Policy
from kagent_sdk.sandbox.start import PROGRAM, launch_command
from tests.agents import RunningAgent, running_agent, start_agent
from tests.integration.cells import open_plan
from tests.integration.programs import read_facts, write_program_agent
from tests.integration.waiting import wait_until


def worker_of(agent: RunningAgent) -> dict[str, object]:
    """Return the worker's part of ``/status``."""
    processes = agent.status()["processes"]
    worker = processes[1]
    assert isinstance(worker, dict)
    return worker


def wait_listening(agent: RunningAgent) -> None:
    """Wait until the control plane answers, ready or not."""
    wait_until(lambda: agent._is_ready() or bool(agent.url))


def test_a_program_is_ready_when_it_says_so(tmp_path: Path) -> None:
    """Its listening socket may come long after its process."""
    folder = write_program_agent(tmp_path, "wait:go", "say:READY=1\nSTATUS=serving", "barrier")
    agent = start_agent(folder)
    try:
        wait_listening(agent)
        wait_until((folder / "runtime/data/facts.json").exists)
        assert agent.get("/readyz").json()["status"] == "starting"
        assert worker_of(agent)["state"] == "starting"
        (folder / "go").touch()
        agent.wait_ready()

        assert worker_of(agent)["state"] == "ready"
        assert worker_of(agent)["status_text"] == "serving"
        assert agent.get("/healthz").status == 200
        wait_until(lambda: "barrier passed" in (folder / "logs/runtime.log").read_text())
        assert agent.stop() == 0
        agent.assert_nothing_left()
    finally:
        agent.kill()


def test_a_program_has_no_capabilities(tmp_path: Path) -> None:
    """A caller learns that there is no such thing, not that he should come again."""
    with running_agent(write_program_agent(tmp_path, "say:READY=1")) as agent:
        called = agent.post("/v1/capabilities/echo", {})
        task = agent.post("/v1/tasks", {"capability": "echo", "input": {}})

        assert (called.status, called.json()["code"]) == (404, "unknown_capability")
        assert (task.status, task.json()["code"]) == (404, "unknown_capability")
        assert agent.get("/v1/capabilities").json() == {"capabilities": []}


def test_a_program_is_given_what_it_needs_and_nothing_else(tmp_path: Path) -> None:
    """Neither the host's variables nor its descriptors are a program's business."""
    folder = write_program_agent(tmp_path, "say:READY=1", worker={"watchdog_s": 30})
    stranger = {"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_PID": "1", "AGENT_NAME": "named"}
    with running_agent(folder, env=stranger) as agent:
        facts, environ = read_facts(folder), read_facts(folder)["environ"]

        assert facts["pid"] == worker_of(agent)["pid"]
        assert os.getpgid(facts["pid"]) == facts["pid"]
        assert facts["cwd"] == str(folder)
        assert set(facts["descriptors"]) - {0, 1, 2} == {3}  # what lists them
        assert facts["ignored"] == ["SIGPIPE", "SIGXFSZ"]  # by the program's own Python
        assert [name for name in environ if name.startswith("AGENT_")] == ["AGENT_SANDBOX"]
        assert environ["NOTIFY_SOCKET"] != stranger["NOTIFY_SOCKET"]
        assert environ["WATCHDOG_USEC"] == "30000000"
        assert environ["WATCHDOG_PID"] == str(facts["pid"])
        assert environ["HOME"] == environ["TMPDIR"] == str(folder / "runtime/cache")
        assert "CREDENTIALS_DIRECTORY" not in environ


def test_a_program_has_the_kernels_own_signal_actions(tmp_path: Path) -> None:
    """Python ignores SIGPIPE; a shell that inherited that would write into closed pipes for ever."""
    folder = write_program_agent(tmp_path, worker={"notify": False})
    command = '["sh", "-c", "grep SigIgn /proc/self/status; exec sleep 1000"]'
    with running_agent(folder, env={"AGENT_WORKER__COMMAND": command}) as agent:
        wait_until(lambda: "SigIgn" in agent.log_text)

        events = [str(record["event"]) for record in agent.records]
        (line,) = [event for event in events if event.startswith("SigIgn")]
        assert int(line.split()[1], 16) == 0


def test_a_program_that_is_never_ready_is_replaced_and_given_up(tmp_path: Path) -> None:
    """The orchestrator must learn that this agent does not start."""
    folder = write_program_agent(
        tmp_path, worker={"start_timeout_s": 1, "crash_limit": 2, "backoff_max_s": 0.1}
    )
    agent = start_agent(folder)
    try:
        assert agent.wait() == 75
        assert len(agent.logged("worker_started")) == 2
        assert len(agent.logged("worker_killed", reason="start_timed_out")) == 2
        agent.assert_nothing_left()
    finally:
        agent.kill()


@pytest.mark.parametrize(
    ("step", "told"), [("show-abort", "aborted while it hung"), ("ignore-abort", None)]
)
def test_a_silent_program_stalls_shows_where_and_is_replaced(
    tmp_path: Path, step: str, told: str | None
) -> None:
    """A program that hangs is found as a worker of ours is."""
    folder = write_program_agent(
        tmp_path,
        step,
        "beat",
        "say:READY=1",
        worker={"watchdog_s": 1},
        health={"stall_fail_s": 2.5, "stall_warn_s": 1},
    )
    with running_agent(folder) as agent:
        pid = read_facts(folder)["pid"]
        os.kill(pid, signal.SIGUSR1)

        wait_until(lambda: agent.get("/readyz").json()["status"] == "stalled")
        assert agent.get("/healthz").status == 200
        assert worker_of(agent)["state"] == "stalled"
        wait_until(lambda: agent.get("/healthz").status == 503)
        agent.wait_ready()
        assert not psutil.pid_exists(pid)
        crash = agent.status()["workers"]["last_crash"]
        assert crash["how"] == "stuck"
        assert told is None or told in crash["traceback"]
        assert worker_of(agent)["restarts"] == 1


def test_a_program_that_beats_again_recovers(tmp_path: Path) -> None:
    """A pause costs readiness for its time, not the process."""
    folder = write_program_agent(
        tmp_path, "say:READY=1", "wait:go", "beat", worker={"watchdog_s": 0.5}
    )
    with running_agent(folder) as agent:
        wait_until(lambda: agent.get("/readyz").json()["status"] == "stalled")
        (folder / "go").touch()
        agent.wait_ready()

        assert worker_of(agent)["restarts"] == 0
        assert agent.wait_logged("worker_recovered")


def test_a_program_without_a_watchdog_may_be_silent(tmp_path: Path) -> None:
    """Who promised no pulse must not be killed for having none."""
    folder = write_program_agent(
        tmp_path, "say:READY=1", health={"stall_warn_s": 0.1, "stall_fail_s": 0.2}
    )
    with running_agent(folder) as agent:
        uptime_s = agent.status()["agent"]["uptime_s"]
        wait_until(lambda: agent.status()["agent"]["uptime_s"] > uptime_s + 1)

        assert agent.get("/readyz").status == 200
        assert worker_of(agent)["restarts"] == 0


def test_a_program_can_give_itself_up(tmp_path: Path) -> None:
    """It may know better than any timer that it is stuck."""
    folder = write_program_agent(
        tmp_path, "say:READY=1", "wait:go", "say:WATCHDOG=trigger\nERRNO=5"
    )
    with running_agent(folder, exit_code=None) as agent:
        (folder / "go").touch()
        wait_until(lambda: agent.status()["workers"]["last_crash"] is not None)

        assert agent.status()["workers"]["last_crash"]["how"] == "watchdog_trigger"
        assert agent.wait_logged("worker_errno", errno=5)
        (folder / "go").unlink()


def test_what_a_stranger_says_does_not_count(tmp_path: Path) -> None:
    """Readiness can be told by the worker's own processes alone."""
    folder = write_program_agent(tmp_path, "wait:go", "say-huge", "say:READY=1")
    agent = start_agent(folder)
    try:
        wait_listening(agent)
        wait_until((folder / "runtime/data/facts.json").exists)
        address = read_facts(folder)["environ"]["NOTIFY_SOCKET"]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"READY=1\nSTATUS=forged", address)
        wait_until(lambda: "notification_refused" in agent.log_text)  # it was received

        assert agent.get("/readyz").json()["status"] == "starting"
        assert worker_of(agent)["status_text"] is None
        assert Path(address).parent.stat().st_mode & 0o777 == 0o700
        (folder / "go").touch()
        agent.wait_ready()
        assert worker_of(agent)["status_text"] is None  # a datagram that is too long says nothing
        assert agent.stop() == 0
    finally:
        agent.kill()


def test_a_child_in_a_session_of_its_own_may_speak_for_the_program(tmp_path: Path) -> None:
    """Job control of a shell, or a wrapper, must not silence the real program."""
    with running_agent(write_program_agent(tmp_path, "child")) as agent:
        assert worker_of(agent)["status_text"] == "by a child"


def test_a_program_that_crashes_is_started_again(tmp_path: Path) -> None:
    """Supervision is the least that a program can expect."""
    folder = write_program_agent(tmp_path, "say:READY=1", "wait:go", "exit:3")
    with running_agent(folder, exit_code=None) as agent:
        first = read_facts(folder)["pid"]
        (folder / "go").touch()
        wait_until(lambda: agent.status()["workers"]["restarts"] >= 1)
        (folder / "go").unlink()

        assert not psutil.pid_exists(first)
        assert agent.status()["workers"]["last_crash"]["exit_code"] == 3


def test_a_program_that_says_that_it_stops_is_not_ready(tmp_path: Path) -> None:
    """Callers should be sent elsewhere before the process is gone."""
    folder = write_program_agent(tmp_path, "say:READY=1", "wait:go", "say:STOPPING=1")
    env = {"AGENT_SHUTDOWN__GRACE_S": "3"}
    with running_agent(folder, env=env) as agent:
        first = read_facts(folder)["pid"]
        (folder / "go").touch()
        wait_until(lambda: agent.get("/readyz").status == 503)

        assert agent.get("/readyz").json()["status"] == "restarting"
        assert worker_of(agent)["state"] == "stopping"
        (folder / "go").unlink()
        agent.wait_ready()  # it did not end in time, and was replaced
        assert agent.wait_logged("worker_killed", reason="stop_timed_out")
        assert not psutil.pid_exists(first)


def test_a_program_ends_by_sigterm_in_its_own_order(tmp_path: Path) -> None:
    """It may close what it has open."""
    folder = write_program_agent(tmp_path, "leave-on-term", "say:READY=1")
    with running_agent(folder) as agent:
        started = time.monotonic()
        assert agent.stop() == 0

        assert time.monotonic() - started < 20  # of a budget of 25
        assert "left in order" in (folder / "logs/runtime.log").read_text()
        assert agent.logged("worker_stopped", how="exit code 0")


def test_a_program_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    """The budget of the shutdown holds for every program."""
    folder = write_program_agent(tmp_path, "ignore-term", "say:READY=1", shutdown={"grace_s": 2})
    with running_agent(folder) as agent:
        assert agent.stop() == 0

        assert agent.logged("worker_killed", reason="shutdown")


def test_a_program_does_not_outlive_a_host_that_is_killed(tmp_path: Path) -> None:
    """Two of it, one without supervision, would fight for the same port."""
    folder = write_program_agent(tmp_path, "say:READY=1")
    agent = start_agent(folder)
    try:
        agent.wait_ready()
        pid = read_facts(folder)["pid"]
        agent.process.kill()
        agent.wait()

        wait_until(lambda: not psutil.pid_exists(pid))
    finally:
        agent.kill()


def test_a_program_is_not_started_for_a_host_that_is_gone() -> None:
    """Between the start and the first instruction the host may be killed."""
    read, write = os.pipe()
    plan = open_plan(Policy(mode=Mode.OFF))
    somebody_else = os.getppid()
    done = subprocess.run(
        launch_command(plan, write, somebody_else, PROGRAM, ["echo", "started"]),
        check=False,
        pass_fds=[plan, write],
        capture_output=True,
    )
    for descriptor in (plan, write, read):
        os.close(descriptor)

    assert done.returncode == 127
    assert done.stdout == b""


def test_a_flood_of_notifications_delays_no_probe(tmp_path: Path) -> None:
    """The host reads a bounded number at a time: a program can only slow itself."""
    with running_agent(write_program_agent(tmp_path, "say:READY=1", "flood")) as agent:
        wait_until(lambda: worker_of(agent)["status_text"] is not None)  # it is under way
        before = psutil.Process(agent.pid).cpu_times().user
        began = time.monotonic()
        for _ in range(100):
            assert agent.get("/healthz", timeout_s=30).status == 200
        assert agent.get("/readyz").status == 200
        wait_until(lambda: time.monotonic() - began > 2)
        used_s = psutil.Process(agent.pid).cpu_times().user - before

        assert used_s < (time.monotonic() - began) * 0.5  # the host does not spin for it


def test_a_folder_too_deep_for_a_socket_is_no_obstacle(tmp_path: Path) -> None:
    """The kernel takes 107 bytes; a folder may be deeper."""
    parent = tmp_path / ("deep" * 25)
    parent.mkdir()
    folder = write_program_agent(parent, "say:READY=1")
    with running_agent(folder) as agent:
        address = Path(read_facts(folder)["environ"]["NOTIFY_SOCKET"])
        assert not address.is_relative_to(folder)
        assert address.is_socket()
        assert agent.stop() == 0

        assert not address.parent.exists()


def test_a_folder_without_room_for_sockets_is_no_obstacle(tmp_path: Path) -> None:
    """A mount of another machine's folder may not have any."""
    folder = write_program_agent(tmp_path, "say:READY=1")
    (folder / "runtime").mkdir()
    (folder / "runtime" / "notify").touch()  # in the way
    with running_agent(folder):
        address = Path(read_facts(folder)["environ"]["NOTIFY_SOCKET"])

        assert not address.is_relative_to(folder)


def test_a_program_is_measured_and_bounded_like_a_worker(tmp_path: Path) -> None:
    """Its memory is the agent's memory."""
    folder = write_program_agent(tmp_path, "say:READY=1")
    agent = start_agent(folder, env={"AGENT_LIMITS__MEMORY_BYTES": str(16 * 1024 * 1024)})
    try:
        wait_listening(agent)
        wait_until(lambda: agent.get("/readyz").json()["status"] == "memory")

        rss_bytes = worker_of(agent)["rss_bytes"]
        assert isinstance(rss_bytes, int)
        assert rss_bytes > 0
        assert agent.stop() == 0
    finally:
        agent.kill()


@pytest.mark.parametrize("program", ["no-such-program", "./no-such-program", "./program.py"])
def test_a_program_that_is_not_there_fails_the_start(tmp_path: Path, program: str) -> None:
    """The name is told, instead of a crash loop."""
    folder = write_program_agent(tmp_path)
    agent = start_agent(folder, env={"AGENT_WORKER__COMMAND": f'["{program}"]'})

    assert agent.wait() == 3
    assert f"there is no program '{program}'" in agent.log_text


def test_a_program_that_cannot_be_executed_says_why(tmp_path: Path) -> None:
    """A script without its first line, or a binary of another machine."""
    folder = write_program_agent(tmp_path, worker={"crash_limit": 1})
    (folder / "broken").write_bytes(b"\x7fELF nonsense")
    (folder / "broken").chmod(0o755)
    agent = start_agent(folder, env={"AGENT_WORKER__COMMAND": '["./broken"]'})

    assert agent.wait() == 75
    assert agent.logged("worker_not_started", error="Exec format error")


def test_a_program_needs_no_notifications(tmp_path: Path) -> None:
    """A shell script cannot send a datagram, and is a program all the same."""
    folder = write_program_agent(tmp_path, worker={"notify": False, "count": 2})
    command = f'["sh", "-c", "echo up; exec {sys.executable} program.py"]'
    with running_agent(folder, env={"AGENT_WORKER__COMMAND": command}) as agent:
        assert agent.status()["workers"]["ready"] >= 1
        wait_until(lambda: len(agent.logged("up")) == 2)


def test_a_reload_lets_another_program_follow(tmp_path: Path) -> None:
    """A new version of a program is there before the old one goes, and sees the secrets of now."""
    folder = write_program_agent(tmp_path, "say:READY=1", secrets={"key": "the-first-secret"})
    with running_agent(folder) as agent:
        (old,) = agent.worker_pids
        write_program_agent(
            tmp_path, "say:READY=1\nSTATUS=second", secrets={"key": "the-second-secret"}
        )
        answer = agent.post("/v1/reload")
        (new,) = agent.worker_pids

        assert (answer.status, answer.json()["generation"]) == (200, 2)
        assert worker_of(agent)["status_text"] == "second"
        assert new != old
        wait_until(lambda: not psutil.pid_exists(old))
        credentials = Path(read_facts(folder)["environ"]["CREDENTIALS_DIRECTORY"])
        assert (credentials / "key").read_text() == "the-second-secret"


def test_a_reload_cannot_put_a_program_in_place_of_an_entrypoint(subject: Path) -> None:
    """The host prepares the one or the other at its start; what a reload leaves out is told."""
    with running_agent(subject) as agent:
        (subject / "config.yaml").write_text("worker: {command: [sleep, '1000']}\n")
        answer = agent.post("/v1/reload")

        assert answer.status == 200
        assert answer.json()["last"]["needs_restart"] == ["worker.command"]
        assert agent.call("echo", {"text": "still here"}) == "still here"
