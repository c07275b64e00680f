"""The example `log_triage` as a running agent: batch, stream, loop, errors, cancellation."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sample import write_sample

from tests.agents import RunningAgent, SentEvent, copy_example, running_agent

DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sample logs."""
    folder = tmp_path_factory.mktemp("logs")
    write_sample(folder, 6000)
    return folder


@pytest.fixture(scope="module")
def watched_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the agent's loop watches."""
    return tmp_path_factory.mktemp("watched")


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory, watched_folder: Path) -> Iterator[RunningAgent]:
    """The running agent."""
    env = {
        "LOG_TRIAGE_WATCH": str(watched_folder),
        "AGENT_SANDBOX__READ": json.dumps([str(tmp_path_factory.getbasetemp())]),
    }
    # Not in what it may read: beside the files that are the host's alone it sees no new ones.
    with (
        tempfile.TemporaryDirectory(prefix="log-triage-") as apart,
        running_agent(copy_example("log_triage", Path(apart)), env=env) as running,
    ):
        yield running


def wait_for(what: Callable[[], Any]) -> Any:
    """Return the first true value of a function, asked until a deadline."""
    give_up_at = time.monotonic() + DEADLINE_S
    while time.monotonic() < give_up_at:
        if value := what():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def append(path: Path, text: str) -> None:
    """Append to a file, as a logging program does."""
    with path.open("a") as file:
        file.write(text)


def test_triage_reports_what_matters_first(agent: RunningAgent, logs: Path) -> None:
    """One call, one answer: the document for programs, the report for people."""
    document = agent.call("triage", {"paths": [str(logs)], "style": "text"})

    assert document["verdict"] == "critical"
    assert document["lines"] > 5900
    assert len(document["files"]) == 4
    assert {"problems", "common", "timeline"} <= set(document)
    assert "Too many open files" in document["report"]
    assert "auth.log:" in document["report"]


def test_triage_shows_its_progress_while_it_works(agent: RunningAgent, logs: Path) -> None:
    """A person who waits for gigabytes wants to see them pass."""
    events = list(agent.stream("triage", {"paths": [str(logs)]}))

    fractions = [event.data["fraction"] for event in events if event.name == "progress"]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert events[-1].data["state"] == "completed"


def test_a_path_that_does_not_exist_is_the_callers_error_with_a_hint(
    agent: RunningAgent, logs: Path
) -> None:
    """The answer to a typo names the file that was meant."""
    answer = agent.post("/v1/capabilities/triage", {"paths": [f"{logs}/acess.log"]})

    problem = answer.json()
    assert answer.status == 404
    assert problem["error"]["code"] == "no_such_log"
    assert problem["error"]["details"]["nearest"][0] == f"{logs}/access.log"


def test_a_misspelt_option_is_refused(agent: RunningAgent, logs: Path) -> None:
    """An option that is silently ignored is found out too late."""
    answer = agent.post("/v1/capabilities/triage", {"paths": [str(logs)], "max_line": 3})

    assert answer.status == 422
    assert "max_line" in answer.body.decode()


def test_a_cancelled_triage_frees_its_thread_and_spares_the_worker(
    agent: RunningAgent, tmp_path: Path
) -> None:
    """Cooperative cancellation: no interrupt, no killed worker, no other task harmed."""
    line = "2026-05-11 00:00:00 INFO request {} of user {} took {} ms\n"
    text = "".join(line.format(number, number % 7, number % 90) for number in range(300_000))
    (tmp_path / "big.log").write_text(text)
    workers = agent.worker_pids
    started = agent.post(
        "/v1/tasks",
        {"id": "big", "capability": "triage", "input": {"paths": [str(tmp_path)]}},
        headers={"Prefer": "respond-async"},
    )
    assert started.status == 202
    wait_for(lambda: agent.get("/v1/tasks/big").json()["progress"])

    agent.post("/v1/tasks/big/cancel")
    task = agent.get("/v1/tasks/big?wait_s=10").json()

    assert task["state"] == "canceled"
    assert task["progress"]["fraction"] < 1
    wait_for(lambda: agent.status()["processes"][1]["threads_busy"] == 0)
    assert agent.worker_pids == workers


def test_other_capabilities_answer_while_a_triage_runs(agent: RunningAgent, tmp_path: Path) -> None:
    """Mining is CPU-bound: in the event loop it would stop everything else for seconds."""
    (tmp_path / "big.log").write_text("2026-05-11 00:00:00 INFO one of many\n" * 100_000)
    agent.post(
        "/v1/tasks",
        {"id": "busy", "capability": "triage", "input": {"paths": [str(tmp_path)]}},
        headers={"Prefer": "respond-async"},
    )
    wait_for(lambda: agent.get("/v1/tasks/busy").json()["progress"])

    agent.call("watched")

    assert agent.get("/v1/tasks/busy").json()["state"] == "working"
    agent.post("/v1/tasks/busy/cancel")


def lines_of(events: Iterator[SentEvent]) -> Iterator[dict[str, Any]]:
    """Return the items of a stream."""
    return (event.data for event in events if event.name == "event")


def test_follow_streams_what_is_added_and_flags_what_is_new(
    agent: RunningAgent, tmp_path: Path
) -> None:
    """Through a rotation, too: what comes after midnight still arrives."""
    path = tmp_path / "app.log"
    path.write_text("".join(f"2026-05-11 00:00:00 INFO request {i} served\n" for i in range(30)))
    stream = agent.stream("follow", {"path": str(path), "backlog": 2})
    items = lines_of(stream)

    backlog = [next(items), next(items)]
    append(
        path, "2026-05-11 00:00:01 INFO request 31 served\n2026-05-11 00:00:02 ERROR disk lost\n"
    )
    added = [next(items), next(items)]
    path.rename(tmp_path / "app.log.1")
    append(path, "2026-05-11 00:00:03 INFO request 32 served\n")
    rotated = [next(items) for _ in range(2)]
    if rotated[0]["kind"] == "waiting":
        rotated = [rotated[1], next(items)]
    stream.close()

    assert [item["is_new"] for item in (*backlog, *added)] == [False, False, False, True]
    assert (added[1]["level"], added[1]["line"]) == ("error", 32)
    assert [item["kind"] for item in rotated] == ["rotated", "line"]
    assert rotated[1]["text"].endswith("request 32 served")


def test_follow_ends_by_itself_when_it_was_told_for_how_long(
    agent: RunningAgent, tmp_path: Path
) -> None:
    """For scripts: follow for a minute, then go on."""
    path = tmp_path / "app.log"
    path.write_text("2026-05-11 00:00:00 ERROR a\n2026-05-11 00:00:00 INFO b\n")

    items = agent.call("follow", {"path": str(path), "for_s": 0.3, "backlog": 0})

    assert items == []


def test_a_caller_that_hangs_up_ends_the_follow(agent: RunningAgent, tmp_path: Path) -> None:
    """Otherwise every closed terminal would leave a task behind."""
    path = tmp_path / "app.log"
    path.write_text("2026-05-11 00:00:00 INFO b\n")
    stream = agent.stream("follow", {"path": str(path)})
    next(lines_of(stream))
    task = agent.get("/v1/tasks?capability=follow&state=working").json()["tasks"]

    stream.close()

    wait_for(lambda: agent.status()["tasks"]["working"] == 0)
    assert len(task) <= 1


def test_the_loop_watches_a_folder_and_the_picture_can_be_read(
    agent: RunningAgent, watched_folder: Path
) -> None:
    """An agent works on its own, not only when it is called."""
    append(watched_folder / "app.log", "2026-05-11 00:00:00 INFO all well\n")
    wait_for(lambda: agent.call("watched")["lines"] >= 1)
    append(watched_folder / "app.log", "2026-05-11 00:00:01 ERROR all is lost\n")

    picture = wait_for(lambda: (seen := agent.call("watched")) and seen["problems"] and seen)

    assert picture["problems"][0]["level"] == "error"
    assert picture["recent"][-1]["text"].endswith("all is lost")
    (loop,) = agent.status()["loops"]
    assert (loop["name"], loop["crashes"]) == ("watch", 0)
    assert loop["runs"] >= 2
