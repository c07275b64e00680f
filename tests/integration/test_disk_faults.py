"""An agent whose disk fails: what it said is kept, what it cannot keep it refuses, and it serves on."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import sqlite3
import threading
import urllib.error
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.agents import RunningAgent, running_agent, start_agent
from tests.integration.faulty_disk import Call, Fault, FaultyDisk
from tests.integration.restarts import let_go, read, run, submit, wait_working
from tests.integration.vitals import answered_probes
from tests.integration.waiting import wait_until

DEATHS = 25 if os.environ.get("KOS_TEST_LONG") == "1" else 2
CALLERS = 4
SOME = 30


@pytest.fixture
def disk(faulty_library: Path, tmp_path: Path) -> Iterator[FaultyDisk]:
    """Return a disk that can be made to fail."""
    with closing(FaultyDisk(faulty_library, tmp_path)) as made:
        yield made


@dataclass
class Callers:
    """Threads that hand in tasks one after the other, and note what they were told.

    Attributes:
        answers: the finished task by id, as it was answered.
        refused: ids that got a 503.
    """

    agent: RunningAgent
    name: str
    answers: dict[str, bytes] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    _is_over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Call for the time of the block."""
        threads = [threading.Thread(target=self._call, args=(n,)) for n in range(CALLERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            for thread in threads:
                thread.join()

    def _call(self, caller: int) -> None:
        number = 0
        while not self._is_over.is_set():
            number += 1
            task_id = f"{self.name}-{caller}-{number}"
            body = {
                "id": task_id,
                "capability": "digest",
                "input": {"text": "word " * (number % 400)},
            }
            try:
                answer = self.agent.post("/v1/tasks", body)
            except (OSError, urllib.error.URLError):
                return  # the host is gone
            if answer.status == 200:
                self.answers[task_id] = answer.body
                continue
            assert_refused(answer.status, answer.headers, answer.json())
            self.refused.add(task_id)
            self._is_over.wait(0.01)

    def wait_for_more(self, count: int = SOME) -> None:
        """Wait until there are so many more answers."""
        wanted = len(self.answers) + count
        wait_until(lambda: len(self.answers) >= wanted)


def refuse_some(agent: RunningAgent, count: int = 5) -> list[str]:
    """Hand tasks in until so many were refused; return their ids.

    Those of `Callers` may all have been taken, and wait for their results to be safe.
    """
    refused: list[str] = []
    for number in range(1000):
        task_id = f"extra-{number}-{uuid.uuid4().hex}"
        body = {"id": task_id, "capability": "echo", "input": {"text": "x"}}
        answer = agent.post("/v1/tasks", body, headers={"Prefer": "respond-async"})
        if answer.status == 503:
            assert_refused(answer.status, answer.headers, answer.json())
            refused.append(task_id)
        if len(refused) == count:
            return refused
    raise AssertionError("the disk fails, and tasks are taken")


def assert_refused(status: int, headers: Mapping[str, str], problem: dict[str, Any]) -> None:
    """The refusal says what is wrong and when to come again, and gives nothing away."""
    assert (status, problem["code"]) == (503, "journal_unavailable")
    assert int(headers["Retry-After"]) > 0
    assert "runtime" not in json.dumps(problem)


def assert_kept(agent: RunningAgent, answers: Mapping[str, bytes]) -> None:
    """Each task is as it was answered, byte for byte."""
    for task_id, body in answers.items():
        assert agent.get(f"/v1/tasks/{task_id}").body == body


def check_integrity(folder: Path) -> None:
    """The database is whole; nobody has it open."""
    with closing(sqlite3.connect(folder / "runtime" / "journal.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert list(folder.glob("runtime/*.corrupt-*")) == []


def test_a_full_disk_refuses_tasks_and_nothing_else(disk: FaultyDisk, subject: Path) -> None:
    """Probes, plain calls and what was finished before go on; a result waits until it is safe."""
    with running_agent(subject, env=disk.environment) as agent:
        before = run(agent, "before", "echo", {"text": "hé"})
        submit(agent, "working", "wait_for", {"name": "go"})
        wait_working(agent, "working")
        with (
            disk.failing(Fault.FAIL, Call.WRITE, error=errno.ENOSPC),
            answered_probes(agent, frozenset({200})),
        ):
            body = {"id": "refused", "capability": "echo", "input": {"text": "x"}}
            answer = agent.post("/v1/tasks", body)
            assert_refused(answer.status, answer.headers, answer.json())
            assert agent.get("/v1/tasks/refused").status == 404
            assert agent.get("/v1/tasks/before").body == before
            assert agent.call("echo", {"text": "plain"}) == "plain"
            unready = agent.get("/readyz")
            assert (unready.status, unready.json()["status"]) == (503, "journal")
            let_go(agent, "go")
            wait_until(lambda: agent.status()["tasks"]["working"] == 0)
            assert read(agent, "working")["state"] == "working"
        wait_until(lambda: agent.get("/readyz").status == 200)
        assert read(agent, "working", wait_s=20)["state"] == "completed"
        after = run(agent, "refused", "echo", {"text": "x"})
        agent.wait_logged("journal_recovered")

    with running_agent(subject) as agent:
        assert_kept(agent, {"before": before, "refused": after})
        assert read(agent, "working")["state"] == "completed"
    check_integrity(subject)


def test_a_kill_while_the_disk_is_full_loses_nothing_acknowledged(
    disk: FaultyDisk, subject: Path
) -> None:
    """An operator who sees a full disk restarts the agent first: what it said must still hold."""
    agent = start_agent(subject, env=disk.environment)
    try:
        agent.wait_ready()
        callers = Callers(agent, "one")
        submit(agent, "open", "retried_wait_for", {"name": "go"})
        with callers.calling():
            callers.wait_for_more()
            with disk.failing(Fault.TEAR, Call.WRITE, error=errno.ENOSPC):
                refused = refuse_some(agent)
                assert agent.stop(signal.SIGKILL) == -signal.SIGKILL
        wait_until(lambda: not agent.processes())
    finally:
        agent.kill()

    with running_agent(subject) as agent:
        assert_kept(agent, callers.answers)
        for task_id in [*refused, *callers.refused]:
            assert agent.get(f"/v1/tasks/{task_id}").status == 404
        let_go(agent, "go")
        assert read(agent, "open", wait_s=20)["state"] == "completed"
    check_integrity(subject)


@pytest.mark.parametrize(
    ("fault", "calls", "error"),
    [
        (Fault.TEAR, Call.WRITE, errno.EIO),
        pytest.param(Fault.FAIL, Call.SYNC, errno.EIO, marks=pytest.mark.long),
        pytest.param(Fault.FAIL, Call.GROW, errno.ENOSPC, marks=pytest.mark.long),
    ],
)
def test_a_disk_that_comes_and_goes_costs_refusals_only(
    disk: FaultyDisk, subject: Path, *, fault: Fault, calls: Call, error: int
) -> None:
    """A network disk with hiccups: callers try again, and no answer of before changes."""
    environment = disk.environment | {"AGENT_TASKS__DURABILITY": "power"}
    with running_agent(subject, env=environment) as agent:
        callers = Callers(agent, "one")
        with callers.calling():
            for _ in range(3):
                callers.wait_for_more()
                with disk.failing(fault, calls, error=error):
                    callers.refused.update(refuse_some(agent))
                wait_until(lambda: agent.get("/readyz").status == 200)
            callers.wait_for_more()
        assert_kept(agent, callers.answers)

    with running_agent(subject) as agent:
        assert_kept(agent, callers.answers)
        for task_id in callers.refused:
            assert agent.get(f"/v1/tasks/{task_id}").status == 404
    check_integrity(subject)


@pytest.mark.timeout(60 + 5 * DEATHS)
def test_a_death_in_the_middle_of_a_call_loses_nothing(disk: FaultyDisk, subject: Path) -> None:
    """The host dies between two halves of a write, and the next one answers as it would have."""
    dice = random.Random(0)  # noqa: S311 -- the same tree gets the same verdict
    answers: dict[str, bytes] = {}
    for life in range(DEATHS):
        answers |= live_and_die(
            subject, disk, f"life{life}", answers, skip=int(dice.expovariate(0.01))
        )

    with running_agent(subject) as agent:
        assert_kept(agent, answers)
        assert answers
    check_integrity(subject)


def live_and_die(
    subject: Path, disk: FaultyDisk, name: str, kept: Mapping[str, bytes], *, skip: int
) -> dict[str, bytes]:
    """Run an agent until a call on its database kills it; return what it answered."""
    environment = disk.environment | {"AGENT_TASKS__DURABILITY": "power"}
    agent = start_agent(subject, env=environment)
    try:
        agent.wait_ready()
        assert_kept(agent, kept)
        callers = Callers(agent, name)
        disk.arm(Fault.KILL, Call.WRITE | Call.SYNC, skip=skip)
        with callers.calling():
            assert agent.wait() == -signal.SIGKILL
        assert disk.injected == 1
        disk.heal()
        wait_until(lambda: not agent.processes())
    finally:
        agent.kill()
    return callers.answers


def test_a_start_on_a_full_disk_says_so_and_changes_nothing(
    disk: FaultyDisk, subject: Path
) -> None:
    """Exit code 3 and one line; the next start has everything."""
    with running_agent(subject) as agent:
        before = run(agent, "before", "echo", {"text": "x"})
    disk.arm(Fault.FAIL, Call.WRITE | Call.CREATE, error=errno.ENOSPC)
    agent = start_agent(subject, env=disk.environment)
    try:
        assert agent.wait() == 3
    finally:
        agent.kill()
    assert disk.injected
    assert "cannot open journal.db" in agent.log_text

    with running_agent(subject) as agent:
        assert_kept(agent, {"before": before})
