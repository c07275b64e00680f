"""A host that is killed, and the one that comes after it: what each task may expect."""

from __future__ import annotations

import json
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from tests.agents import Answer, RunningAgent, running_agent
from tests.integration.auditing import read_books
from tests.integration.conftest import copy_ledger, copy_subject
from tests.integration.orders import read_marks
from tests.integration.restarts import (
    doomed_agent,
    follow,
    let_go,
    read,
    read_events,
    run,
    submit,
    wait_working,
)
from tests.integration.waiting import wait_until

ONE_AT_A_TIME = {"AGENT_TASKS__MAX_CONCURRENCY": "1"}


KEY = {"Idempotency-Key": "mine"}
DURABLE = ("kept", "failed", "taken", "mine", "counted", "again", "cut", "once", "late")
"""What the first host of `Restart` took and has to be known to the second, in that order."""


@dataclass(frozen=True, slots=True)
class Restart:
    """A host in the folder of one that was killed, and what that one had told.

    Attributes:
        agent: the second host.
        answers: of the first one, by the ids of the tasks, which had ended.
        counted: the events of ``counted``, which had ended.
        cut: the events of ``cut`` that a reader had when the first host died.
    """

    agent: RunningAgent
    answers: dict[str, bytes]
    counted: list[tuple[int, str, Any]]
    cut: list[tuple[int, str, Any]]


@pytest.fixture(scope="module")
def restart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restart]:
    """One death for all tests that look at a task of their own: some had ended, the others ran."""
    subject = copy_subject(tmp_path_factory.mktemp("restart"))
    with doomed_agent(subject) as agent:
        answers = {
            "kept": run(agent, "kept", "echo", {"text": "hé"}, metadata={"who": "me"}),
            "failed": run(agent, "failed", "fail", {"kind": "task_error"}),
            "taken": run(agent, "taken", "echo", {"text": "one"}),
            "mine": agent.post("/v1/capabilities/thread_nap", {"seconds": 0}, headers=KEY).body,
        }
        agent.call("echo", {"text": "no key"})
        run(agent, "counted", "count", {"n": 5})
        counted = read_events(agent, "counted")
        let_go(agent, "gone")
        ended = json.loads(run(agent, "fleeting-ended", "fleeting_wait_for", {"name": "gone"}))
        assert ended["output"] == 1
        submit(agent, "fleeting", "fleeting_wait_for", {"name": "fleeting"})
        submit(agent, "again", "retried_wait_for", {"name": "again"})
        wait_working(agent, "again")
        submit(agent, "cut", "count_and_wait_for", {"name": "cut", "n": 3})
        seen = _first_events(agent, "cut", 3)
        submit(agent, "once", "mark_once", {"token": "once", "pause_s": 60})
        wait_until((subject / "runtime" / "data" / "marks").exists)
        submit(agent, "late", "retried_wait_for", {"name": "never"}, timeout_s=20)
        wait_working(agent, "late")

    with running_agent(subject) as agent:
        yield Restart(agent, answers, counted, seen)
        for name in ("again", "cut", "never"):  # for a run of some of these tests
            let_go(agent, name)


def test_a_result_is_the_same_after_the_host_was_killed(restart: Restart) -> None:
    """A caller that lost the answer asks again and gets it, byte for byte, whoever answers."""
    agent, answers = restart.agent, restart.answers

    assert agent.get("/v1/tasks/kept").body == answers["kept"]
    assert run(agent, "kept", "echo", {"text": "hé"}) == answers["kept"]
    assert agent.get("/v1/tasks/failed").body == answers["failed"]
    assert run(agent, "failed", "fail", {"kind": "task_error"}) == answers["failed"]


def test_an_id_belongs_to_its_input_after_a_restart(restart: Restart) -> None:
    """A caller that uses an id twice for different things learns of it, however long after."""
    for capability, input in (("echo", {"text": "two"}), ("nap", {"text": "one"})):
        body = {"id": "taken", "capability": capability, "input": input}
        answer = restart.agent.post("/v1/tasks", body)
        assert (answer.status, answer.json()["code"]) == (409, "id_conflict")


def test_a_call_with_an_idempotency_key_is_answered_after_a_restart(restart: Restart) -> None:
    """The fast path keeps what its caller gave a key to, and nothing else."""
    agent = restart.agent
    again = agent.post("/v1/capabilities/thread_nap", {"seconds": 0}, headers=KEY)
    listed = [entry["id"] for entry in agent.get("/v1/tasks").json()["tasks"]]

    assert again.body == restart.answers["mine"]
    # What is not durable is another test's, which may have begun it anew.
    assert [id for id in listed if id != "fleeting"] == [*reversed(DURABLE)]


def test_a_running_task_that_is_idempotent_runs_again(restart: Restart) -> None:
    """`ctx.attempt` tells the author's code that it was there before."""
    let_go(restart.agent, "again")
    task = read(restart.agent, "again", wait_s=30)

    assert (task["state"], task["output"], task["attempt"]) == ("completed", 2, 2)


def test_a_running_task_that_is_not_idempotent_was_interrupted(restart: Restart) -> None:
    """Nobody knows how far it came: its caller decides what to do about it, not the agent."""
    agent = restart.agent
    task = read(agent, "once")
    input = {"token": "once", "pause_s": 60}
    call = agent.post("/v1/capabilities/mark_once", input, headers={"Idempotency-Key": "once"})

    assert (task["state"], task["error"]["code"]) == ("failed", "interrupted")
    assert task["finished_at"] is not None
    assert task["output"] is None
    assert (call.status, call.json()["code"]) == (503, "interrupted")
    assert read_marks(agent.directory)["once"] == 1


def test_the_events_of_a_stream_replay_after_a_restart(restart: Restart) -> None:
    """A reader that was cut off goes on behind the last event that it has, at another host."""
    agent, before = restart.agent, restart.counted

    assert read_events(agent, "counted") == before
    assert read_events(agent, "counted", after=5) == before[5:]
    assert [data for _, kind, data in before if kind == "event"] == [0, 1, 2, 3, 4]
    assert before[-1][1] == "task"


def test_a_stream_that_was_cut_off_goes_on_with_new_numbers(restart: Restart) -> None:
    """What a reader has seen keeps its number; the next attempt's events come behind it."""
    seen = restart.cut
    let_go(restart.agent, "cut")
    task = read(restart.agent, "cut", wait_s=30)
    events = read_events(restart.agent, "cut")
    later = [data for _, kind, data in events[len(seen) :] if kind == "event"]

    assert (task["attempt"], task["output"]) == (2, [0, 1, 2])
    assert events[: len(seen)] == seen
    assert [number for number, _, _ in events] == [*range(1, len(events) + 1)]
    assert later == [0, 1, 2]


def test_what_is_not_durable_is_forgotten(restart: Restart) -> None:
    """`durable=False` is for tasks that are not worth a write to the disk."""
    agent = restart.agent
    statuses = [agent.get(f"/v1/tasks/{id}").status for id in ("fleeting", "fleeting-ended")]
    let_go(agent, "fleeting")
    again = json.loads(run(agent, "fleeting", "fleeting_wait_for", {"name": "fleeting"}))

    assert statuses == [404, 404]
    assert (again["state"], again["attempt"]) == ("completed", 1)


def test_tasks_that_waited_run_after_a_restart_in_their_order(subject: Path) -> None:
    """202 is a promise: what was acknowledged and never begun is begun by the next host."""
    with doomed_agent(subject, env=ONE_AT_A_TIME) as agent:
        submit(agent, "first", "retried_wait_for", {"name": "go"})
        wait_working(agent, "first")
        for number in range(5):
            token = f"waited-{number}"
            submit(agent, token, "mark_once", {"token": token, "pause_s": 0})

    with running_agent(subject, env=ONE_AT_A_TIME) as agent:
        let_go(agent, "go")
        tasks = [read(agent, f"waited-{number}", wait_s=30) for number in range(5)]
        assert [(task["state"], task["attempt"]) for task in tasks] == [("completed", 1)] * 5
        began = [task["started_at"] for task in tasks]
        assert began == sorted(began)
        assert set(read_marks(subject).values()) == {1}


def test_a_task_runs_max_attempts_times_over_all_hosts(subject: Path) -> None:
    """A task that kills its host cannot do so for ever."""
    with doomed_agent(subject) as agent:
        submit(agent, "deadly", "retried_wait_for", {"name": "never"})
        wait_working(agent, "deadly")
    for attempt in (2, 3):
        with doomed_agent(subject) as agent:
            wait_working(agent, "deadly")
            assert read(agent, "deadly")["attempt"] == attempt

    with running_agent(subject) as agent:
        task = read(agent, "deadly")
        assert (task["state"], task["error"]["code"]) == ("failed", "interrupted")
        assert task["attempt"] == 3


def test_a_deadline_that_passed_meanwhile_is_a_timeout(subject: Path) -> None:
    """`timeout_s` is a promise to the caller, and a dead host does not stop the clock."""
    with doomed_agent(subject, env=ONE_AT_A_TIME) as agent:
        submit(agent, "runs", "retried_wait_for", {"name": "go"}, timeout_s=4)
        wait_working(agent, "runs")
        submit(agent, "waits", "echo", {"text": "x"}, timeout_s=4)
        created_s = _seconds(read(agent, "waits")["created_at"])
    wait_until(lambda: time.time() > created_s + 4)

    with running_agent(subject, env=ONE_AT_A_TIME) as agent:
        for id in ("runs", "waits"):
            task = read(agent, id)
            assert (task["state"], task["error"]["code"]) == ("failed", "timeout"), task


def test_without_durability_nothing_is_kept(subject: Path) -> None:
    """`tasks.durability: none` is the memory alone: for tests, and for tasks that come again."""
    env = {"AGENT_TASKS__DURABILITY": "none"}
    with doomed_agent(subject, env=env) as agent:
        run(agent, "ended", "echo", {"text": "x"})
        submit(agent, "runs", "retried_wait_for", {"name": "go"})

    with running_agent(subject, env=env) as agent:
        assert agent.get("/v1/tasks").json()["tasks"] == []
        assert not (subject / "runtime" / "journal.db").exists()


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_tasks_that_wait_at_a_shutdown_run_after_the_next_start(
    subject: Path, signal_number: int
) -> None:
    """A deploy loses nothing: what runs is finished, and what waits is left to the next host."""
    with running_agent(subject, env=ONE_AT_A_TIME) as agent:
        submit(agent, "runs", "wait_for", {"name": "go"})
        wait_working(agent, "runs")
        submit(agent, "waits", "echo", {"text": "later"})
        agent.process.send_signal(signal_number)
        wait_until(lambda: agent.get("/readyz").json()["status"] == "draining")
        let_go(agent, "go")
        assert agent.wait() == 0

    with running_agent(subject, env=ONE_AT_A_TIME) as agent:
        ran = read(agent, "runs")
        waited = read(agent, "waits", wait_s=30)
        assert (ran["state"], ran["attempt"]) == ("completed", 1)
        assert (waited["state"], waited["output"]) == ("completed", "later")
        assert waited["attempt"] == 1


def test_a_task_that_a_shutdown_cuts_short_runs_again(subject: Path) -> None:
    """Its caller is told that the task is accepted, and no more, and finds it at the next host."""
    answers: list[Answer] = []
    env = {"AGENT_SHUTDOWN__GRACE_S": "2"}
    with running_agent(subject, env=env) as agent:
        body = {"id": "cut", "capability": "retried_wait_for", "input": {"name": "go"}}
        caller = threading.Thread(target=lambda: answers.append(agent.post("/v1/tasks", body)))
        caller.start()
        wait_until(lambda: agent.get("/v1/tasks/cut").status == 200)
        wait_working(agent, "cut")
        assert agent.stop() == 0
        caller.join()

    with running_agent(subject) as agent:
        let_go(agent, "go")
        task = read(agent, "cut", wait_s=30)
        assert [(answer.status, answer.json()["state"]) for answer in answers] == [
            (202, "submitted")
        ]
        assert (task["state"], task["output"]) == ("completed", 2)


def test_the_state_after_a_kill_is_that_of_the_tasks_that_ended(tmp_path: Path) -> None:
    """A task's changes are there with its result, and those of a task that was cut off are not."""
    ledger = copy_ledger(tmp_path)
    counted = {"counter": "c", "pause_s": 0, "hold_s": 0}
    with doomed_agent(ledger) as agent:
        for number in (1, 2):
            token = f"done-{number}"
            run(agent, token, "count", {"token": token, **counted})
        submit(agent, "cut", "charge", {"token": "cut", "pause_s": 60})
        wait_until(lambda: "cut" in (ledger / "runtime" / "data" / "marks").read_text())

    with running_agent(ledger) as agent:
        assert read(agent, "cut")["error"]["code"] == "interrupted"
        third = json.loads(run(agent, "third", "count", {"token": "third", **counted}))
        assert third["output"]["number"] == 3
    assert read_books(ledger).state == {"counter/c": 3}


def test_nothing_is_acknowledged_before_it_is_on_disk(subject: Path) -> None:
    """The disk stands still, the host dies: a caller with a 202 in hand would have lost its task."""
    answers: list[int] = []
    with doomed_agent(subject) as agent, _no_writes(subject):
        callers = [
            threading.Thread(target=_collect, args=(answers, agent, body, head))
            for body, head in (
                ({"id": "waits", "capability": "echo", "input": {"text": "x"}}, {}),
                (
                    {"id": "async", "capability": "echo", "input": {"text": "x"}},
                    {"Prefer": "respond-async"},
                ),
            )
        ]
        for caller in callers:
            caller.start()
        wait_until(lambda: bool(agent.status()["tasks"]["submitted"] == len(callers)))
        assert agent.stop(signal.SIGKILL) == -signal.SIGKILL
        for caller in callers:
            caller.join()

    with running_agent(subject) as agent:
        # A write that waits too long for its turn is refused, and that is no promise either.
        assert set(answers) <= {0, 503}
        assert len(answers) == len(callers)
        assert agent.get("/v1/tasks").json()["tasks"] == []


def test_no_result_is_shown_before_it_is_on_disk(subject: Path) -> None:
    """What one caller has read must not come out otherwise for the next one."""
    with doomed_agent(subject) as agent:
        submit(agent, "again", "retried_wait_for", {"name": "go"})
        wait_working(agent, "again")
        with _no_writes(subject):
            let_go(agent, "go")
            wait_until(lambda: bool(agent.status()["tasks"]["working"] == 0))
            assert read(agent, "again")["state"] == "working"
            assert agent.stop(signal.SIGKILL) == -signal.SIGKILL

    with running_agent(subject) as agent:
        task = read(agent, "again", wait_s=30)
        assert (task["state"], task["output"]) == ("completed", 2)


def test_a_deadline_to_come_is_the_first_hosts(restart: Restart) -> None:
    """A restart gives nobody more time. The last one here: the others ran meanwhile."""
    agent = restart.agent
    wait_until(lambda: bool(read(agent, "late")["attempt"] == 2))
    task = read(agent, "late", wait_s=30)
    took_s = _seconds(task["finished_at"]) - _seconds(task["created_at"])

    assert (task["state"], task["error"]["code"]) == ("failed", "timeout")
    assert 19.9 <= took_s < 40


@contextmanager
def _no_writes(directory: Path) -> Iterator[None]:
    """Keep the host from writing to its journal, as a disk that stands still does."""
    journal = directory / "runtime" / "journal.db"
    with closing(sqlite3.connect(journal, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


def _collect(
    answers: list[int], agent: RunningAgent, body: object, headers: dict[str, str]
) -> None:
    """Create a task; note the status of the answer, 0 when the connection breaks."""
    try:
        answers.append(agent.post("/v1/tasks", body, headers=headers).status)
    except (OSError, HTTPException):
        answers.append(0)


def _first_events(agent: RunningAgent, id: str, items: int) -> list[tuple[int, str, Any]]:
    """Follow a running task until so many items have come."""
    stream = follow(agent, id)
    seen: list[tuple[int, str, Any]] = []
    for event in stream:
        seen.append((int(event.id or 0), event.name, event.data))
        if sum(kind == "event" for _, kind, _ in seen) == items:
            break
    stream.close()
    return seen


def _seconds(time_text: str) -> float:
    return datetime.fromisoformat(time_text).timestamp()
