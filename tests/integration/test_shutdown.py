"""An agent stops in order, in time, and tells the truth with its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.agents import agent_environment, running_agent, start_agent
from tests.integration.restarts import let_go
from tests.integration.waiting import wait_until


def test_sigterm_lets_running_tasks_finish(subject: Path) -> None:
    """A deploy loses nothing that was accepted."""
    answers: list[int] = []
    with running_agent(subject) as agent:
        callers = [
            threading.Thread(target=lambda: answers.append(agent.call("wait_for", {"name": "go"})))
            for _ in range(30)
        ]
        for caller in callers:
            caller.start()
        wait_until(lambda: agent.status()["tasks"]["submitted"] == 30)
        os.kill(agent.pid, signal.SIGTERM)
        wait_until(lambda: agent.get("/readyz").json()["status"] == "draining")
        refused = agent.post("/v1/capabilities/echo", {"text": "late"})
        assert refused.status == 503
        assert refused.json()["code"] == "draining"
        assert agent.get("/healthz").status == 200
        let_go(agent, "go")
        for caller in callers:
            caller.join()

        assert answers == [1] * 30
        assert agent.wait() == 0


def test_a_task_may_call_its_own_agent_while_it_drains(subject: Path) -> None:
    """A running task can finish only when the tasks that it sends are taken."""
    answers: list[str] = []
    with running_agent(subject) as agent:
        caller = threading.Thread(
            target=lambda: answers.append(agent.call("call_self_later", {"pause_s": 1}))
        )
        caller.start()
        wait_until(lambda: agent.status()["tasks"]["working"] == 1)
        os.kill(agent.pid, signal.SIGTERM)
        caller.join()

        assert answers == ["late"]
        assert agent.wait() == 0


def test_the_exit_comes_within_the_grace_whatever_runs(subject: Path) -> None:
    """Kubernetes kills at 30 s: everything must have its end before."""
    env = {"AGENT_SHUTDOWN__GRACE_S": "10"}
    with running_agent(subject, env=env) as agent:
        states: list[str] = []

        def call(capability: str) -> None:
            body = {"capability": capability, "input": {"seconds": 60}}
            states.append(agent.post("/v1/tasks", body).json()["state"])

        names = ("nap", "patient_loop", "stubborn", "thread_nap")
        callers = [threading.Thread(target=call, args=(name,)) for name in names]
        for caller in callers:
            caller.start()
        wait_until(lambda: agent.status()["tasks"]["working"] == 4)
        began = time.monotonic()
        os.kill(agent.pid, signal.SIGTERM)
        code = agent.wait()
        took_s = time.monotonic() - began
        for caller in callers:
            caller.join()

        assert code == 0
        assert took_s < 10
        assert states == ["canceled"] * 4


def test_a_second_signal_skips_to_the_cancellation(subject: Path) -> None:
    """A person who presses Ctrl-C twice means it."""
    with running_agent(subject) as agent:
        task = agent.post(
            "/v1/tasks",
            {"capability": "nap", "input": {"seconds": 60}},
            headers={"Prefer": "respond-async"},
        ).json()["id"]
        began = time.monotonic()
        os.kill(agent.pid, signal.SIGINT)
        wait_until(lambda: agent.get("/readyz").status == 503)
        assert agent.get(f"/v1/tasks/{task}").json()["state"] == "working"
        os.kill(agent.pid, signal.SIGINT)

        assert agent.wait() == 0
        assert time.monotonic() - began < 20  # of a budget of 25


def test_a_signal_during_the_start_ends_it_cleanly(subject: Path) -> None:
    """A deploy that is rolled back at once leaves nothing behind."""
    for delay_s in (0.15, 0.3, 0.5, 0.8):
        agent = start_agent(subject)
        time.sleep(delay_s)  # the moment of the signal is what is tested
        assert agent.stop() in (0, -signal.SIGTERM), agent.log_text
        agent.assert_nothing_left()


def test_shutdown_can_be_asked_for_over_http(subject: Path) -> None:
    """The orchestrator has no signals."""
    agent = start_agent(subject)
    try:
        agent.wait_ready()
        assert agent.post("/v1/shutdown").status == 202
        assert agent.wait() == 0
    finally:
        agent.kill()


def test_hooks_run_at_both_ends(subject: Path) -> None:
    """Authors open and close what their capabilities use."""
    (subject / "entrypoint.py").write_text(
        "from kagent_sdk import Agent\n"
        "agent = Agent()\n"
        "@agent.on_startup\n"
        "async def connect() -> None:\n"
        "    print('hook: connected', flush=True)\n"
        "@agent.on_shutdown\n"
        "def disconnect() -> None:\n"
        "    print('hook: disconnected', flush=True)\n"
        "agent.run()\n"
    )
    with running_agent(subject) as agent:
        wait_until(lambda: "hook: connected" in agent.log_text)
        assert agent.stop() == 0
        assert "hook: disconnected" in agent.log_text


def test_what_the_host_and_the_worker_say_is_in_the_log_file(subject: Path) -> None:
    """`logs/runtime.log` is JSON lines, and complete at the end."""
    with running_agent(subject) as agent:
        agent.post("/v1/capabilities/fail", {"kind": "bug"})
        agent.stop()
        text = (subject / "logs" / "runtime.log").read_text()

    lines = [json.loads(line) for line in text.splitlines()]
    events = [line["event"] for line in lines]
    assert events[-1] == "host_stopped"
    assert any("boom at" in line.get("exception", "") for line in lines)
    assert {line["stream"] for line in lines} >= {"host", "stderr"}
    assert all(line["timestamp"] and line["level"] and line["agent"] for line in lines)


@pytest.mark.parametrize(
    ("config", "code", "told"),
    [
        ("http: {port: 99999}", 78, "config.yaml:1"),
        ("tasks: {max_concurency: 3}", 78, "max_concurrency"),
        ("entrypoint: missing.py", 3, "missing.py"),
        ("http: {host: 0.0.0.0}", 78, "token"),
    ],
)
def test_a_start_that_cannot_work_ends_with_one_clear_message(
    subject: Path, config: str, code: int, told: str
) -> None:
    """The exit code is for programs, the line for people, and there is no traceback."""
    (subject / "config.yaml").write_text(config + "\n")
    env = agent_environment({}, "x")
    if "http: {host" in config:
        del env["AGENT_HTTP__HOST"]
    if "http" in config:
        del env["AGENT_HTTP__PORT"]
    done = subprocess.run(
        [sys.executable, "-m", "kagent_sdk", "run", str(subject)],
        env=env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (subject / "runtime" / "host.json").exists()


def test_a_port_that_is_taken_is_told_with_the_way_out(subject: Path) -> None:
    """Two agents on one machine are a matter of one setting."""
    with running_agent(subject) as first:
        port = first.url.rsplit(":", 1)[1]
        (subject.parent / "second").mkdir()
        second_folder = subject.parent / "second"
        (second_folder / "entrypoint.py").write_text((subject / "entrypoint.py").read_text())
        second = start_agent(second_folder, env={"AGENT_HTTP__PORT": port})

        assert second.wait() == 3
        assert "AGENT_HTTP__PORT" in second.log_text
        second.assert_nothing_left()
