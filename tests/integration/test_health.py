"""No worker delays a probe, and what is wrong is told while it is wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agents import running_agent, start_agent
from tests.integration.restarts import let_go
from tests.integration.waiting import wait_until


@pytest.mark.parametrize("capability", ["block_loop", "hold_gil"])
def test_a_stuck_worker_is_shown_with_its_stack_and_replaced(
    subject: Path, capability: str
) -> None:
    """A person sees the very line that hangs, while it hangs; then the agent helps itself."""
    env = {"AGENT_HEALTH__STALL_WARN_S": "1", "AGENT_HEALTH__STALL_FAIL_S": "5"}
    with running_agent(subject, env=env) as agent:
        (worker,) = agent.worker_pids
        caller = _in_background(
            lambda: agent.post(f"/v1/capabilities/{capability}", {"seconds": 60})
        )

        wait_until(lambda: agent.get("/readyz").json()["status"] == "stalled")
        assert agent.get("/healthz").status == 200
        stalled = agent.status()["health"]["stalled"][0]
        wait_until(lambda: agent.status()["health"]["stalled"][0]["stack"] is not None)
        stalled = agent.status()["health"]["stalled"][0]
        assert stalled["pid"] == worker
        assert f"in {capability}" in stalled["stack"]
        wait_until(lambda: f"in {capability}" in agent.log_text)
        refused = agent.post("/v1/capabilities/echo", {"text": "x"})
        assert refused.status == 503

        wait_until(lambda: agent.get("/healthz").status == 503)
        told = agent.get("/healthz").json()
        told_to_strangers = agent.get("/healthz", headers={"Origin": "http://a.test"}).json()
        agent.wait_ready()
        assert agent.worker_pids != [worker]
        assert agent.get("/healthz").status == 200
        caller.join()
        crash = agent.status()["workers"]["last_crash"]
        assert "stuck" in crash["how"]
        assert f"in {capability}" in crash["traceback"]
        assert f"in {capability}" in told["stack"]
        assert told_to_strangers == {"status": "stuck", "detail": told_to_strangers["detail"]}


def test_a_worker_that_recovers_is_ready_again(subject: Path) -> None:
    """A stall that passes costs readiness for its time, not the worker."""
    with running_agent(subject, env={"AGENT_HEALTH__STALL_WARN_S": "1"}) as agent:
        worker = agent.worker_pids
        caller = _in_background(lambda: agent.call("block_loop_until", {"name": "go"}))
        wait_until(lambda: agent.get("/readyz").json()["status"] == "stalled")
        let_go(agent, "go")
        caller.join()

        agent.wait_ready()
        assert agent.worker_pids == worker
        assert agent.status()["health"]["stalled"] == []


def test_whatever_a_silent_worker_sends_brings_it_back(subject: Path) -> None:
    """Heartbeats stand behind large outputs: a worker that answers is given tasks again."""
    env = {"AGENT_HEALTH__STALL_WARN_S": "1", "AGENT_WORKER__HEARTBEAT_S": "60"}
    with running_agent(subject, env=env) as agent:
        caller = _in_background(lambda: agent.call("wait_for", {"name": "go"}))
        agent.wait_logged("worker_stalled")
        assert not agent.logged("worker_recovered")
        let_go(agent, "go")
        caller.join()

        assert agent.wait_logged("worker_recovered")


@pytest.mark.parametrize(
    ("capability", "input", "count"),
    [
        ("block_loop_until", {"name": "go"}, 1),
        ("hold_gil", {"seconds": 3}, 1),
        ("thread_until", {"name": "go"}, 20),
    ],
)
def test_probes_answer_while_the_worker_does_not(
    subject: Path, capability: str, input: object, count: int
) -> None:
    """An orchestrator must not kill an agent that is slow; times are for the benchmarks."""
    with running_agent(subject) as agent:
        callers = [_in_background(lambda: agent.call(capability, input)) for _ in range(count)]
        wait_until(lambda: agent.status()["tasks"]["working"] > 0)
        for path in ("/healthz", "/readyz", "/status", "/metrics", "/openapi.json"):
            assert agent.get(path).status == 200, path
        assert agent.status()["tasks"]["working"] > 0
        let_go(agent, "go")
        for caller in callers:
            caller.join()


def test_a_start_that_hangs_is_told_and_tried_again(subject: Path) -> None:
    """An import that never ends is shown with its stack."""
    (subject / "entrypoint.py").write_text("import time\ntime.sleep(1000)\n")
    env = {"AGENT_WORKER__START_TIMEOUT_S": "2.5", "AGENT_WORKER__CRASH_LIMIT": "2"}

    agent = start_agent(subject, env=env)

    assert agent.wait() == 75
    assert "start_timed_out" in agent.log_text
    assert "entrypoint.py" in agent.log_text
    agent.assert_nothing_left()


def test_healthz_is_up_long_before_a_slow_import_is_done(subject: Path) -> None:
    """A probe with a short initial delay does not kill an agent that loads a model."""
    code = (subject / "entrypoint.py").read_text()
    (subject / "entrypoint.py").write_text(
        code.replace(
            "agent = Agent()",
            "while not os.path.exists('go'):\n    time.sleep(0.02)\nagent = Agent()",
        )
    )

    agent = start_agent(subject)
    try:
        wait_until((subject / "runtime" / "host.json").exists)
        agent._is_ready()
        assert agent.get("/healthz").status == 200
        ready = agent.get("/readyz")
        assert (ready.status, ready.json()["status"]) == (503, "starting")
        answer = agent.post("/v1/capabilities/echo", {"text": "x"})
        assert answer.status == 503
        assert "Retry-After" in answer.headers
        (subject / "go").touch()
        agent.wait_ready()
        assert agent.stop() == 0
    finally:
        agent.kill()


def test_near_the_memory_limit_the_agent_takes_no_tasks_and_says_so(subject: Path) -> None:
    """Better to say no than to be killed with everything that runs."""
    env = {"AGENT_LIMITS__MEMORY_BYTES": str(400 * 1024 * 1024)}
    with running_agent(subject, env=env) as agent:
        agent.call("grow", {"mebibytes": 380})
        wait_until(lambda: agent.get("/readyz").json()["status"] == "memory")
        answer = agent.post("/v1/capabilities/echo", {"text": "x"})

        assert (answer.status, answer.json()["code"]) == (503, "memory")
        assert "Retry-After" in answer.headers
        assert agent.get("/healthz").status == 200
        wait_until(lambda: "memory_near_limit" in agent.log_text)
        assert agent.status()["resources"]["memory_near_limit"] is True


def test_loops_are_shown_with_their_crashes(subject: Path) -> None:
    """A loop that fails is restarted and counted; the other loops and the tasks do not notice."""
    with running_agent(subject) as agent:

        def loops() -> dict[str, dict[str, object]]:
            return {loop["name"]: loop for loop in agent.status()["loops"]}

        wait_until(lambda: "broken" in loops() and loops()["broken"]["crashes"] != 0)
        wait_until(lambda: int(str(loops()["tick"]["runs"])) > 2)
        assert "this loop is broken" in str(loops()["broken"]["last_error"])
        assert loops()["broken"]["state"] == "backing_off"
        assert loops()["tick"]["crashes"] == 0
        wait_until(lambda: "ValueError: this loop is broken" in agent.log_text)


def test_status_and_metrics_hold_real_numbers(subject: Path) -> None:
    """What is not known is null, what is known is measured."""
    with running_agent(subject) as agent:
        for _ in range(3):
            agent.call("echo", {"text": "x"})
        # The first heartbeat is sent with readiness, before any lag could be measured.
        wait_until(lambda: agent.status()["processes"][1]["lag_ms"] is not None)
        status = agent.status()
        host, worker = status["processes"]
        metrics = agent.get("/metrics").body.decode()

        for process in (host, worker):
            assert process["rss_bytes"] > 10_000_000
            assert process["threads"] >= 1
            assert process["fds"] > 3
        assert worker["lag_ms"] is not None
        assert status["tasks"]["completed"] == 3
        assert 'kagent_tasks_total{capability="echo",state="completed"} 3.0' in metrics
        assert 'kagent_task_duration_seconds_count{capability="echo"} 3.0' in metrics
        assert "kagent_ready 1.0" in metrics


def _in_background(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread
