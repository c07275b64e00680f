"""A reload puts new code and configuration in force; whatever goes wrong, the old workers serve on."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.agents import RunningAgent, running_agent, start_agent
from tests.integration.imports import HANGING_IMPORT, SLOW_IMPORT, UNPREPARED_IMPORT
from tests.integration.vitals import assert_calm, assert_settles, take_vitals
from tests.integration.waiting import wait_until

GATE = {"name": "gate"}
ASYNC = {"Prefer": "respond-async"}
SIGN_OF_IMPORT = "import pathlib\npathlib.Path.home().joinpath('importing').touch()\n"
OTHER = '''
from kagent_sdk import Agent

agent = Agent()


@agent.capability
async def echo(text: str) -> str:
    """Give back what came, loudly."""
    return text.upper()


@agent.capability
async def fresh() -> str:
    """Be new."""
    return "fresh"


agent.run()
'''


def rewrite(folder: Path, text: str) -> None:
    """Replace the entrypoint as an editor does."""
    (folder / "entrypoint.py").write_text(text)


def let_go(agent: RunningAgent) -> None:
    """Let every ``wait_for`` of the subject's end."""
    (agent.directory / "runtime" / "data" / GATE["name"]).touch()


def reload_part(agent: RunningAgent) -> dict[str, Any]:
    """Return what ``/status`` says of reloads."""
    part = agent.status()["reload"]
    assert isinstance(part, dict)
    return part


def submit(agent: RunningAgent, capability: str, input: object) -> str:
    """Start a kept task and return its id."""
    body = {"capability": capability, "input": input}
    answer = agent.post("/v1/tasks", body, headers=ASYNC)
    assert answer.status == 202, answer
    return str(answer.json()["id"])


def wait_for_end(agent: RunningAgent, task_id: str) -> dict[str, Any]:
    """Return a kept task after its end."""
    task: dict[str, Any] = agent.get(f"/v1/tasks/{task_id}?wait_s=30").json()
    assert task["finished_at"] is not None, task
    return task


def test_new_code_takes_over_and_the_old_worker_goes(subject: Path) -> None:
    """A deploy without a restart: what the agent can do, and is described to do, is the new."""
    with running_agent(subject) as agent:
        (old,) = agent.worker_pids
        assert agent.call("echo", {"text": "a"}) == "a"
        assert agent.post("/v1/capabilities/fresh").status == 404
        rewrite(subject, OTHER)
        answer = agent.post("/v1/reload")

        assert answer.status == 200
        assert answer.json()["generation"] == 2
        assert answer.json()["last"]["outcome"] == "completed"
        assert agent.call("fresh") == "fresh"
        assert agent.call("echo", {"text": "a"}) == "A"
        assert agent.post("/v1/capabilities/nap", {"seconds": 0}).status == 404
        paths = agent.get("/openapi.json").json()["paths"]
        assert "/v1/capabilities/fresh" in paths
        assert "/v1/capabilities/nap" not in paths
        assert agent.worker_pids != [old]
        wait_until(lambda: not psutil.pid_exists(old))
        assert reload_part(agent)["retiring"] == 0
        assert_calm(agent)


def test_sighup_reloads(subject: Path) -> None:
    """What every supervisor knows how to send."""
    with running_agent(subject) as agent:
        rewrite(subject, OTHER)
        os.kill(agent.pid, signal.SIGHUP)
        wait_until(lambda: reload_part(agent)["generation"] == 2)

        assert agent.call("fresh") == "fresh"
        assert reload_part(agent)["last"]["outcome"] == "completed"


def test_running_tasks_and_streams_finish_where_they_began(subject: Path) -> None:
    """A caller notices nothing of the reload that happens under it."""
    with running_agent(subject) as agent, ThreadPoolExecutor() as threads:
        held = threads.submit(agent.call, "wait_for", GATE)
        stream = agent.stream("count", {"n": 15, "pause_s": 0.2})
        events = [next(stream)]
        while events[-1].name != "event":
            events.append(next(stream))
        wait_until(lambda: agent.status()["tasks"]["working"] == 2)
        assert agent.post("/v1/reload").status == 200
        assert not held.done()
        assert reload_part(agent)["retiring"] == 1
        assert agent.call("echo", {"text": "meanwhile"}) == "meanwhile"
        events += stream
        let_go(agent)

        assert held.result() == 1
        assert [event.data for event in events if event.name == "event"] == list(range(15))
        assert events[-1].data["state"] == "completed"
        assert events[-1].data["attempt"] == 1
        wait_until(lambda: reload_part(agent)["retiring"] == 0)


@pytest.mark.parametrize(
    ("code", "config", "reason", "line"),
    [
        ("import not_there\n", "", "exit code 1", "No module named 'not_there'"),
        ("import os\nos._exit(9)\n", "", "exit code 9", None),
        (
            HANGING_IMPORT,
            "worker:\n  start_timeout_s: 8\n",
            "was not ready within worker.start_timeout_s (8 s)",
            "in hang",
        ),
        (
            # As before the interpreter has come to our first line.
            UNPREPARED_IMPORT,
            "worker:\n  start_timeout_s: 2\n",
            "was not ready within worker.start_timeout_s (2 s)",
            None,
        ),
        (
            (
                "import os\nos.write(int(os.environ['AGENT_WORKER_FD']), b'x' * 99)\n"
                "import time\ntime.sleep(60)\n"
            ),
            "",
            "protocol_error",
            None,
        ),
        (
            (
                "from kagent_sdk import Agent\nagent = Agent()\n@agent.on_startup\n"
                "def start() -> None:\n    raise ValueError('no database')\nagent.run()\n"
            ),
            "",
            "exit code",
            "no database",
        ),
    ],
    ids=["import", "exit", "timeout", "early timeout", "protocol", "startup"],
)
def test_workers_that_do_not_come_up_leave_the_old_ones_serving(
    subject: Path, code: str, config: str, reason: str, line: str | None
) -> None:
    """A broken deploy is no outage, and says what is broken: to the caller, in the log, in /status."""
    with running_agent(subject) as agent:
        workers, before = agent.worker_pids, take_vitals(agent)
        rewrite(subject, code)
        (subject / "config.yaml").write_text(config)
        answer = agent.post("/v1/reload")

        assert answer.status == 409
        assert answer.json()["code"] == "reload_failed"
        assert reason in answer.json()["detail"]
        assert "Traceback" not in answer.json()["detail"]
        assert agent.worker_pids == workers
        assert agent.call("echo", {"text": "still"}) == "still"
        part = reload_part(agent)
        assert (part["state"], part["generation"]) == ("idle", 1)
        assert part["last"]["outcome"] == "failed"
        assert reason in part["last"]["reason"]
        assert line is None or line in part["last"]["traceback"]
        assert agent.wait_logged("reload_failed")
        assert agent.status()["workers"]["restarts"] == 0
        assert_settles(agent, before)
        assert_calm(agent)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("config.yaml", "tasks:\n  max_quue: 3\n", "config.yaml:2: tasks.max_quue"),
        ("config.yaml", "secrets:\n  expose: [db]\n", "secrets.expose names db"),
        ("config.yaml", "entrypoint: gone.py\n", "gone.py is not in the agent's folder"),
    ],
)
def test_files_that_are_wrong_change_nothing(
    subject: Path, name: str, text: str, reason: str
) -> None:
    """The same words as at a start, and nothing half done."""
    with running_agent(subject) as agent:
        workers = agent.worker_pids
        (subject / name).write_text(text)
        answer = agent.post("/v1/reload")

        assert answer.status == 409
        assert reason in answer.json()["detail"]
        assert str(subject) not in answer.json()["detail"]
        assert agent.worker_pids == workers
        assert agent.call("echo", {"text": "still"}) == "still"


def test_the_configuration_changes_with_the_workers(subject: Path) -> None:
    """What can change does, as a whole; what cannot is named and keeps its value."""
    with running_agent(subject, env={"AGENT_TASKS__MAX_CONCURRENCY": "3"}) as agent:
        assert len(agent.worker_pids) == 1
        (subject / "config.yaml").write_text(
            "description: Serves on.\nworker:\n  count: 2\ntasks:\n  max_queue: 7\n"
            "  max_concurrency: 99\nhttp:\n  max_body_bytes: 2048\n"
        )
        answer = agent.post("/v1/reload")

        assert answer.status == 200
        assert sorted(answer.json()["last"]["changed"]) == [
            "description",
            "tasks.max_queue",
            "worker.count",
        ]
        assert answer.json()["last"]["needs_restart"] == ["http.max_body_bytes"]
        status = agent.status()
        assert len(agent.worker_pids) == 2
        assert status["agent"]["description"] == "Serves on."
        assert status["tasks"]["queued_limit"] == 7
        assert status["tasks"]["working_limit"] == 6  # the environment stays above the file
        assert agent.get("/openapi.json").json()["info"]["description"] == "Serves on."
        assert agent.call("echo", {"text": "x" * 4000}) == "x" * 4000


def test_waiting_tasks_run_on_the_new_worker_or_learn_that_they_cannot(subject: Path) -> None:
    """None is lost, and none waits for ever for a capability that is gone."""
    with running_agent(subject, env={"AGENT_TASKS__MAX_CONCURRENCY": "1"}) as agent:
        held = submit(agent, "wait_for", GATE)
        wait_until(lambda: agent.status()["tasks"]["working"] == 1)
        waiting = submit(agent, "echo", {"text": "a"})
        doomed = submit(agent, "digest", {"text": "a"})
        assert agent.status()["tasks"]["queued"] == 2
        rewrite(subject, OTHER)
        assert agent.post("/v1/reload").status == 200

        assert wait_for_end(agent, waiting)["output"] == "A"
        gone = wait_for_end(agent, doomed)
        assert (gone["state"], gone["attempt"]) == ("failed", 0)
        assert gone["error"]["code"] == "unknown_capability"
        let_go(agent)
        assert wait_for_end(agent, held)["state"] == "completed"
        totals = agent.status()["tasks"]
        assert (totals["submitted"], totals["completed"], totals["failed"]) == (3, 2, 1)


def test_what_does_not_end_in_time_runs_again_or_is_canceled(subject: Path) -> None:
    """The drain is bounded by the budget of a shutdown; every task has a definite end."""
    with running_agent(subject, env={"AGENT_SHUTDOWN__GRACE_S": "3"}) as agent:
        (old,) = agent.worker_pids
        again = submit(agent, "retried_wait_for", GATE)
        once = submit(agent, "nap", {"seconds": 60})
        deaf = submit(agent, "thread_nap", {"seconds": 60})
        wait_until(lambda: agent.status()["tasks"]["working"] == 3)
        assert agent.post("/v1/reload").status == 200
        ends = {name: wait_for_end(agent, name) for name in (once, deaf)}

        assert {task["error"]["code"] for task in ends.values()} == {"canceled"}
        assert {task["state"] for task in ends.values()} == {"canceled"}
        wait_until(lambda: not psutil.pid_exists(old))
        let_go(agent)
        assert wait_for_end(agent, again)["output"] == 2
        assert agent.status()["workers"]["restarts"] == 0
        assert agent.wait_logged("retiring_tasks_cut_short")
        assert_calm(agent)


def test_the_old_loops_stop_at_the_swap_while_its_tasks_go_on(subject: Path) -> None:
    """A loop that polls a queue must not do it twice for as long as some task takes."""
    rewrite(
        subject,
        "import asyncio, os\nfrom pathlib import Path\nfrom kagent_sdk import Agent\n"
        "agent = Agent()\n"
        "@agent.loop(every_s=0.05)\nasync def poll() -> None:\n"
        "    with Path('runtime/data/polls').open('a') as file:\n"
        "        file.write(f'{os.getpid()}\\n')\n"
        "@agent.capability\nasync def wait_for(name: str) -> int:\n"
        "    while not Path('runtime/data', name).exists():\n        await asyncio.sleep(0.02)\n"
        "    return os.getpid()\n"
        "agent.run()\n",
    )

    def polls(pid: int) -> int:
        return (subject / "runtime/data/polls").read_text().split().count(str(pid))

    with running_agent(subject) as agent, ThreadPoolExecutor() as threads:
        (old,) = agent.worker_pids
        wait_until(lambda: polls(old) > 0)
        held = threads.submit(agent.call, "wait_for", GATE)
        wait_until(lambda: agent.status()["tasks"]["working"] == 1)
        assert agent.post("/v1/reload").status == 200
        (new,) = agent.worker_pids
        base = polls(new)
        wait_until(lambda: polls(new) > base + 5)
        last = polls(old)
        wait_until(lambda: polls(new) > base + 15)

        assert polls(old) == last
        assert not held.done()
        let_go(agent)
        assert held.result() == old


def test_the_crash_of_an_old_worker_does_not_disturb_the_reload(subject: Path) -> None:
    """Trouble does not wait for its turn."""
    text = (subject / "entrypoint.py").read_text()
    with running_agent(subject) as agent, ThreadPoolExecutor() as threads:
        (old,) = agent.worker_pids
        task = submit(agent, "retried_wait_for", GATE)
        wait_until(lambda: agent.status()["tasks"]["working"] == 1)
        rewrite(
            subject,
            SLOW_IMPORT.format(seconds=1.5)
            + text.replace("from __future__ import annotations", ""),
        )
        pending = threads.submit(agent.post, "/v1/reload")
        agent.wait_logged("worker_started", generation=2)
        os.kill(old, signal.SIGKILL)

        assert pending.result().status == 200
        assert agent.wait_logged("worker_crashed")
        let_go(agent)
        assert wait_for_end(agent, task)["output"] == 2
        wait_until(lambda: reload_part(agent)["retiring"] == 0)
        assert reload_part(agent)["generation"] == 2


def test_a_crash_after_the_swap_runs_idempotent_tasks_on_the_new_workers(subject: Path) -> None:
    """A retiring worker is not replaced: its successors are there already."""
    with running_agent(subject) as agent:
        (old,) = agent.worker_pids
        task = submit(agent, "retried_wait_for", GATE)
        once = submit(agent, "wait_for", GATE)
        wait_until(lambda: agent.status()["tasks"]["working"] == 2)
        assert agent.post("/v1/reload").status == 200
        os.kill(old, signal.SIGKILL)

        assert wait_for_end(agent, once)["error"]["code"] == "worker_crashed"
        let_go(agent)
        assert wait_for_end(agent, task)["output"] == 2
        assert len(agent.worker_pids) == 1
        assert agent.status()["workers"]["restarts"] == 0


@pytest.mark.parametrize("how", ["signal", "http"])
def test_a_shutdown_wins_over_a_reload_at_once(subject: Path, how: str) -> None:
    """Nobody who stops an agent waits for workers that it would stop anyway."""
    with running_agent(subject) as agent, ThreadPoolExecutor() as threads:
        rewrite(subject, SLOW_IMPORT.format(seconds=60))
        pending = threads.submit(agent.post, "/v1/reload")
        agent.wait_logged("worker_started", generation=2)
        began = time.monotonic()
        if how == "signal":
            os.kill(agent.pid, signal.SIGTERM)
        else:
            assert agent.post("/v1/shutdown").status == 202

        assert agent.wait() == 0
        assert time.monotonic() - began < 20
        assert pending.result().status == 503
        assert pending.result().json()["code"] == "draining"
        assert_calm(agent)


def test_a_draining_agent_refuses_a_reload(subject: Path) -> None:
    """There would be nobody left to reload for."""
    with running_agent(subject) as agent, ThreadPoolExecutor() as threads:
        held = threads.submit(agent.call, "wait_for", GATE)
        wait_until(lambda: agent.status()["tasks"]["working"] == 1)
        os.kill(agent.pid, signal.SIGTERM)
        wait_until(lambda: agent.get("/readyz").status == 503)
        answer = agent.post("/v1/reload", headers=ASYNC)
        os.kill(agent.pid, signal.SIGHUP)

        assert answer.status == 503
        assert answer.json()["code"] == "draining"
        assert int(answer.headers["Retry-After"]) > 0
        let_go(agent)
        assert held.result() == 1
        assert agent.wait() == 0


def test_a_shutdown_sees_to_the_tasks_of_retiring_workers(subject: Path) -> None:
    """They are as much the agent's as those of the new ones."""
    with running_agent(subject) as agent, ThreadPoolExecutor() as threads:
        held = threads.submit(agent.call, "wait_for", GATE)
        wait_until(lambda: agent.status()["tasks"]["working"] == 1)
        assert agent.post("/v1/reload").status == 200
        assert reload_part(agent)["retiring"] == 1
        os.kill(agent.pid, signal.SIGTERM)
        wait_until(lambda: agent.get("/readyz").json()["status"] == "draining")
        let_go(agent)

        assert held.result() == 1
        assert agent.wait() == 0


def test_a_reload_during_the_start_is_carried_out(subject: Path) -> None:
    """Whoever repairs an agent that does not come up need not restart it."""
    rewrite(subject, SIGN_OF_IMPORT + SLOW_IMPORT.format(seconds=60))
    agent = start_agent(subject)
    try:
        # Before this, the first worker may not have read its code, and would come up with the other.
        wait_until((subject / "runtime" / "cache" / "importing").exists)
        rewrite(subject, OTHER)
        os.kill(agent.pid, signal.SIGHUP)
        agent.wait_ready()

        assert agent.call("fresh") == "fresh"
        assert reload_part(agent)["generation"] == 2
        assert agent.stop() == 0
        agent.assert_nothing_left()
    finally:
        agent.kill()


def test_reloads_that_come_together_are_bounded(subject: Path) -> None:
    """A loop that asks for reloads starts no heap of workers; each caller learns of one."""
    with running_agent(subject) as agent, ThreadPoolExecutor(12) as threads:
        answers = [threads.submit(agent.post, "/v1/reload") for _ in range(12)]
        statuses = [answer.result().status for answer in answers]

        assert statuses == [200] * 12
        assert 2 <= reload_part(agent)["generation"] <= 4
        assert len(agent.logged("reload_started")) == reload_part(agent)["generation"] - 1


def test_who_does_not_want_to_wait_is_answered_at_once(subject: Path) -> None:
    """An orchestrator with thousands of agents looks later."""
    with running_agent(subject) as agent:
        answer = agent.post("/v1/reload", headers=ASYNC)
        bounded = agent.post("/v1/reload", headers={"Prefer": "wait=0"})

        assert (answer.status, bounded.status) == (202, 202)
        assert answer.headers["Location"] == "/status"
        assert answer.headers["Preference-Applied"] == "respond-async"
        assert answer.json()["state"] == "reloading"
        wait_until(lambda: reload_part(agent)["state"] == "idle")
        assert reload_part(agent)["last"]["outcome"] == "completed"


def test_without_memory_for_two_generations_nothing_is_tried(subject: Path) -> None:
    """A reload must not be what gets the agent killed."""
    env = {"AGENT_LIMITS__MEMORY_BYTES": str(700 * 1024 * 1024)}
    with running_agent(subject, env=env) as agent:
        assert agent.post("/v1/reload").status == 200
        assert agent.call("grow", {"mebibytes": 400}) == 400
        workers = agent.worker_pids
        answer = agent.post("/v1/reload")

        assert answer.status == 409
        assert "there is no room for a second generation of workers" in answer.json()["detail"]
        assert agent.worker_pids == workers


def test_a_capability_that_becomes_a_stream_takes_waiting_tasks_along(subject: Path) -> None:
    """What a task was queued as need not be what it runs as."""
    stream = (
        "from collections.abc import AsyncIterator\nfrom kagent_sdk import Agent\n"
        "agent = Agent()\n@agent.capability\n"
        "async def echo(text: str) -> AsyncIterator[str]:\n"
        "    for letter in text:\n        yield letter\nagent.run()\n"
    )
    with running_agent(subject, env={"AGENT_TASKS__MAX_CONCURRENCY": "1"}) as agent:
        held = submit(agent, "wait_for", GATE)
        wait_until(lambda: agent.status()["tasks"]["working"] == 1)
        waiting = submit(agent, "echo", {"text": "abc"})
        rewrite(subject, stream)
        assert agent.post("/v1/reload").status == 200

        assert wait_for_end(agent, waiting)["output"] == ["a", "b", "c"]
        let_go(agent)
        assert wait_for_end(agent, held)["state"] == "completed"
