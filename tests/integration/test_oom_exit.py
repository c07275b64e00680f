"""An end that goes back to the kernel's killing for memory says so; nothing else does."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from kagent_sdk.host.cgroup_files import parse_table
from tests.agents import running_agent
from tests.integration.test_last_exit import last_exit, last_exit_worker, noted_tasks
from tests.integration.test_resources import is_unified, own_cgroup
from tests.integration.waiting import wait_until

MIB = 1024 * 1024
LIMIT_BYTES = 200 * MIB

HUNGRY = """
import asyncio, os
from kagent_sdk import Agent

if folder := os.environ.get("OWN_CGROUP"):
    with open(f"{folder}/cgroup.procs", "w") as file:
        file.write(str(os.getpid()))
agent = Agent()


@agent.capability
async def eat(after_s: float = 0.0) -> int:
    await asyncio.sleep(after_s)
    return len([bytearray(os.urandom(1_000_000)) for _ in range(1000)])


@agent.capability
async def nap(seconds: float) -> None:
    await asyncio.sleep(seconds)


agent.run()
"""
# Unconfined: these workers join a cgroup that the test has made, and have none of the host's making.
UNCONFINED = {"AGENT_SANDBOX__MODE": "off"}
NO_GATE = {"AGENT_LIMITS__MEMORY_SOFT_RATIO": "1.0", **UNCONFINED}


def limit(folder: Path) -> None:
    """Give a cgroup its limit."""
    name = "memory.max" if is_unified(folder) else "memory.limit_in_bytes"
    (folder / name).write_text(str(LIMIT_BYTES))
    swap = folder / ("memory.swap.max" if is_unified(folder) else "memory.swappiness")
    if swap.exists():
        swap.write_text("0")


def kills(folder: Path) -> int:
    """Return how many processes of a cgroup the kernel killed for memory."""
    name = "memory.events" if is_unified(folder) else "memory.oom_control"
    return parse_table((folder / name).read_text())["oom_kill"]


def inside(folder: Path) -> Sequence[str]:
    """Return the interpreter's arguments for a host that joins a cgroup before it begins."""
    join = f"open({str(folder / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))"
    become = "os.execv(sys.executable, [sys.executable, '-m', 'kagent_sdk', 'run', '.'])"
    return "-c", f"import os, sys; {join}; {become}"


@pytest.fixture
def hungry(subject: Path) -> Path:
    """Return an agent that eats memory when it is told to."""
    (subject / "entrypoint.py").write_text(HUNGRY)
    return subject


def test_a_worker_that_the_kernel_killed_for_memory_says_so(hungry: Path) -> None:
    """SIGKILL says that somebody killed it; only the counter says that it was too large."""
    with (
        own_cgroup("memory") as folder,
        running_agent(hungry, arguments=inside(folder), env=NO_GATE) as agent,
    ):
        limit(folder)
        (worker,) = agent.worker_pids
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: agent.status()["workers"]["last_crash"] is not None)
        assert kills(folder) == 0
        shot = agent.status()["workers"]["last_crash"]
        agent.wait_ready()
        (worker,) = agent.worker_pids
        answer = agent.post("/v1/capabilities/eat", {})
        assert kills(folder) == 1
        wait_until(lambda: agent.status()["workers"]["last_crash"]["pid"] == worker)
        crash = agent.status()["workers"]["last_crash"]

        assert (shot["cause"], shot["how"], shot["oom"]) == ("signal", "SIGKILL", False)
        assert (crash["cause"], crash["how"], crash["oom"]) == ("oom", "OOM", True)
        assert (crash["signal"], crash["exit_code"]) == ("SIGKILL", None)
        assert answer.status == 502
        assert "(OOM)" in answer.json()["detail"]
        assert agent.wait_logged("worker_crashed", how="OOM")
        wait_until(lambda: (last_exit_worker(hungry) or {}).get("pid") == worker)
        assert last_exit(hungry)["worker"] == crash
        agent.wait_ready()
        (worker,) = agent.worker_pids
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: agent.status()["workers"]["last_crash"]["pid"] == worker)
        # The kill before belongs to the worker before, however short ago it was.
        assert agent.status()["workers"]["last_crash"]["how"] == "SIGKILL"


def test_a_worker_in_a_cgroup_of_its_own_is_looked_up_there(hungry: Path) -> None:
    """Where the limit is the worker's alone, the host's counter says nothing."""
    with own_cgroup("memory") as folder:
        limit(folder)
        env = {**NO_GATE, "OWN_CGROUP": str(folder)}
        with running_agent(hungry, env=env) as agent:
            (worker,) = agent.worker_pids
            assert str(worker) in (folder / "cgroup.procs").read_text().split()
            answer = agent.post("/v1/capabilities/eat", {"after_s": 3})
            assert kills(folder) == 1
            crash = agent.status()["workers"]["last_crash"]

            assert "(OOM)" in answer.json()["detail"]
            assert (crash["cause"], crash["oom"], crash["pid"]) == ("oom", True, worker)
            assert crash["rss_bytes"] > MIB


def test_a_host_that_the_kernel_killed_for_memory_is_told_by_the_next(hungry: Path) -> None:
    """The one death that leaves no line in any log."""
    with own_cgroup("memory") as folder:
        with running_agent(hungry, arguments=inside(folder), env=NO_GATE, exit_code=None) as agent:
            limit(folder)
            # The kernel takes the largest; here it must be the host.
            Path(f"/proc/{agent.pid}/oom_score_adj").write_text("1000")
            body = {"id": "big", "capability": "eat", "input": {"after_s": 3}}
            agent.post("/v1/tasks", body, headers={"Prefer": "respond-async"})
            wait_until(lambda: noted_tasks(hungry) == {"big"})
            assert agent.wait() == -signal.SIGKILL
            wait_until(lambda: not agent.processes())
            assert kills(folder) == 1
            (hungry / "runtime" / "host.json").unlink()
        with running_agent(hungry, arguments=inside(folder)) as agent:
            told = agent.status()["last_exit"]["host"]

            assert (told["cause"], told["how"], told["oom"]) == ("oom", "OOM", True)
            assert [task["id"] for task in told["tasks"]] == ["big"]


def test_in_a_new_cgroup_nobody_knows_whether_it_was_memory(hungry: Path) -> None:
    """A new container counts from zero: better no word than a wrong one."""
    with own_cgroup("memory") as first:
        with running_agent(
            hungry, arguments=inside(first), env=UNCONFINED, exit_code=None
        ) as agent:
            wait_until((hungry / "runtime" / "running.json").exists)
            agent.kill()
            (hungry / "runtime" / "host.json").unlink()
        note = json.loads((hungry / "runtime" / "running.json").read_bytes())
        assert note["oom_kills"] == 0
        with (
            own_cgroup("memory") as second,
            running_agent(hungry, arguments=inside(second), env=UNCONFINED) as agent,
        ):
            told = agent.status()["last_exit"]["host"]

            assert (told["cause"], told["oom"]) == ("killed", None)
