"""A worker may die in any way; the host, the probes and the accepted tasks live on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.agents import agent_environment, running_agent, start_agent
from tests.integration.waiting import wait_until


@pytest.mark.parametrize(
    ("how", "told"), [("segv", "SIGSEGV"), ("kill", "SIGKILL"), ("exit", "exit code 7")]
)
def test_a_dead_worker_is_replaced_and_its_task_says_how(
    subject: Path, how: str, told: str
) -> None:
    """The caller gets a definite answer, the next caller a new worker."""
    with running_agent(subject) as agent:
        (worker,) = agent.worker_pids
        answer = agent.post("/v1/capabilities/crash", {"how": how})

        assert not psutil.pid_exists(worker)
        assert (answer.status, answer.json()["code"]) == (502, "worker_crashed")
        assert told in answer.json()["detail"]
        assert agent.get("/healthz").status == 200
        agent.wait_ready()
        assert agent.call("echo", {"text": "again"}) == "again"
        status = agent.status()
        assert status["workers"]["last_crash"]["how"] == told
        assert status["workers"]["restarts"] == 1
        assert status["agent"]["uptime_s"] > 0


def test_idempotent_tasks_run_again_and_others_fail(subject: Path) -> None:
    """`idempotent=True` is the author's word that a second run does no harm."""
    with running_agent(subject) as agent:
        (worker,) = agent.worker_pids
        ids = {}
        for name in ("retried_nap", "nap"):
            body = {"capability": name, "input": {"seconds": 0.5}}
            answer = agent.post("/v1/tasks", body, headers={"Prefer": "respond-async"})
            ids[name] = answer.json()["id"]
        os.kill(worker, signal.SIGKILL)

        retried = agent.get(f"/v1/tasks/{ids['retried_nap']}?wait_s=20").json()
        failed = agent.get(f"/v1/tasks/{ids['nap']}?wait_s=20").json()
        assert (retried["state"], retried["output"], retried["attempt"]) == ("completed", 2, 2)
        assert (failed["state"], failed["error"]["code"]) == ("failed", "worker_crashed")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise RuntimeError('no database')", "no database"),
        ("import sys; sys.exit(4)", "exit code 4"),
        ("import no_such_module_anywhere", "no_such_module_anywhere"),
        ("def broken(:", "SyntaxError"),
    ],
)
def test_a_crash_loop_ends_with_75_and_the_last_traceback(
    subject: Path, code: str, told: str
) -> None:
    """A person reads what is wrong; an orchestrator sees EX_TEMPFAIL and backs off."""
    (subject / "entrypoint.py").write_text(code + "\n")
    env = {"AGENT_WORKER__CRASH_LIMIT": "3", "AGENT_WORKER__BACKOFF_INITIAL_S": "0.01"}
    agent = start_agent(subject, env=env)

    assert agent.wait() == 75
    assert told in agent.log_text
    assert "crashed 3 times" in agent.log_text
    assert "asyncio" not in agent.log_text
    agent.assert_nothing_left()


def test_what_a_dead_worker_left_running_is_ended(subject: Path) -> None:
    """A worker's children do not outlive it, and no zombie stays."""
    (subject / "entrypoint.py").write_text(
        "import subprocess\n"
        "from kagent_sdk import Agent\n"
        "agent = Agent()\n"
        "@agent.capability\n"
        "async def spawn(detached: bool) -> int:\n"
        "    command = ['sleep', '0.5' if detached else '1000']\n"
        "    return subprocess.Popen(command, start_new_session=detached).pid\n"
        "agent.run()\n"
    )
    with running_agent(subject) as agent:
        (worker,) = agent.worker_pids
        child = agent.call("spawn", {"detached": False})
        orphan = agent.call("spawn", {"detached": True})
        assert psutil.pid_exists(child)
        os.kill(worker, signal.SIGKILL)

        wait_until(lambda: not psutil.pid_exists(child))
        wait_until(lambda: not psutil.pid_exists(orphan))
        assert psutil.Process(agent.pid).status() != psutil.STATUS_ZOMBIE
        agent.wait_ready()


def test_a_worker_that_breaks_the_protocol_is_replaced(subject: Path) -> None:
    """The host trusts no frame: an answer to a task that is not the worker's ends that worker."""
    (subject / "entrypoint.py").write_text(
        "import os\n"
        "from kagent_sdk import Agent\n"
        "from kagent_sdk.protocol.frames import Kind, encode\n"
        "fd = int(os.environ['AGENT_WORKER_FD'])\n"
        "agent = Agent()\n"
        "@agent.capability\n"
        "async def forge(kind: int, number: int, payload: str) -> str:\n"
        "    os.write(fd, encode(kind, number, payload.encode()))\n"
        "    return 'sent'\n"
        "agent.run()\n"
    )
    with running_agent(subject, env={"AGENT_WORKER__CRASH_LIMIT": "100"}) as agent:
        for kind, number, payload in (
            (36, 999, "1"),
            (37, 1, "not json"),
            (99, 1, ""),
            (33, 0, "{}"),
        ):
            restarts = agent.status()["workers"]["restarts"]
            agent.post(
                "/v1/capabilities/forge", {"kind": kind, "number": number, "payload": payload}
            )
            wait_until(
                lambda before=restarts: agent.status()["workers"]["restarts"] > before  # type: ignore[misc]
            )
            agent.wait_ready()
        wait_until(lambda: "worker_broke_protocol" in agent.log_text)


def test_a_worker_that_floods_the_host_cannot_grow_it_or_delay_a_probe(subject: Path) -> None:
    """What the host holds for a worker is bounded."""
    (subject / "entrypoint.py").write_text(
        "import os, struct, threading\n"
        "from kagent_sdk import Agent\n"
        "from kagent_sdk.protocol.frames import Kind, encode\n"
        "fd = int(os.environ['AGENT_WORKER_FD'])\n"
        "agent = Agent()\n"
        "@agent.capability\n"
        "async def huge() -> None:\n"
        "    os.write(fd, struct.pack('!IBQ', 2**31, Kind.RESULT, 1))\n"
        "agent.run()\n"
    )
    with running_agent(subject, env={"AGENT_WORKER__CRASH_LIMIT": "100"}) as agent:
        host = psutil.Process(agent.pid)
        before = host.memory_info().rss
        answer = agent.post("/v1/capabilities/huge", {})

        assert answer.status == 502
        assert "protocol_error" in answer.json()["detail"]
        assert host.memory_info().rss - before < 20 * 1024 * 1024


def test_the_host_takes_its_worker_with_it(subject: Path) -> None:
    """A host that is killed leaves no worker that nobody supervises."""
    with running_agent(subject, exit_code=-signal.SIGKILL) as agent:
        (worker,) = agent.worker_pids
        os.kill(agent.pid, signal.SIGKILL)

        wait_until(lambda: not psutil.pid_exists(worker))
        agent.wait()
        (subject / "runtime" / "host.json").unlink()


@pytest.mark.parametrize("entry", ["entrypoint", "module"])
def test_every_way_to_run_is_the_same_way(subject: Path, entry: str) -> None:
    """`python entrypoint.py` becomes the host; there is one way to run and two to say it."""
    arguments = ["entrypoint.py"] if entry == "entrypoint" else ["-m", "kagent_sdk", "run", "."]
    with running_agent(subject, arguments=arguments) as agent:
        roles = [process["role"] for process in agent.status()["processes"]]

        assert roles == ["host", "worker"]
        assert agent.status()["processes"][0]["pid"] == agent.pid
        assert agent.call("echo", {"text": "x"}) == "x"


def test_several_workers_share_the_tasks(subject: Path) -> None:
    """`worker.count` spreads work over processes."""
    env = {"AGENT_WORKER__COUNT": "3", "AGENT_TASKS__MAX_CONCURRENCY": "1"}
    with running_agent(subject, env=env) as agent:
        wait_until(lambda: agent.status()["workers"]["ready"] == 3)
        body = {"capability": "thread_nap", "input": {"seconds": 0.5}}
        ids = [
            agent.post("/v1/tasks", body, headers={"Prefer": "respond-async"}).json()["id"]
            for _ in range(3)
        ]
        pids = {agent.get(f"/v1/tasks/{task}?wait_s=10").json()["output"] for task in ids}

        assert len(pids) == 3


def test_an_embedded_python_that_has_no_host_explains_itself(tmp_path: Path) -> None:
    """An entrypoint that forgets `agent.run()` gets one line, not a mystery."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "entrypoint.py").write_text("from kagent_sdk import Agent\nagent = Agent()\n")
    env = agent_environment({"AGENT_WORKER__CRASH_LIMIT": "1"}, "none")
    done = subprocess.run(
        [sys.executable, "-m", "kagent_sdk", "run", str(tmp_path / "a")],
        env=env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 75
    assert "agent.run()" in done.stderr
