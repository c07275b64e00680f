"""An agent's state between two lives: what it finds, what it leaves, and what it tells of it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.agents import RunningAgent, running_agent
from tests.integration.conftest import copy_diary
from tests.integration.waiting import wait_until


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    """Return a fresh copy of the agent's folder."""
    return copy_diary(tmp_path)


def seed(diary: Path, text: str, name: str = "memory_store.json") -> Path:
    """Write a file as an operator would."""
    (diary / "runtime").mkdir(exist_ok=True)
    file = diary / "runtime" / name
    file.write_text(text)
    return file


def left(diary: Path) -> dict[str, Any]:
    """Return the keys of the file that the agent has left."""
    content = json.loads((diary / "runtime" / "memory_store.json").read_bytes())
    assert content.pop("$kagent")["agent"] == "diary"
    assert isinstance(content, dict)
    return content


def state(agent: RunningAgent) -> dict[str, Any]:
    """Return the part of ``/status`` about the state."""
    found = agent.status()["state"]
    assert isinstance(found, dict)
    return found


def wait_state(agent: RunningAgent, claim: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait until a claim holds for that part."""
    wait_until(lambda: claim(state(agent)))
    return state(agent)


def drop_database(diary: Path) -> None:
    """Do what an operator does to have the file read again."""
    for file in (diary / "runtime").glob("journal.db*"):
        file.unlink()


def test_a_seeded_agent_knows_what_it_was_given(diary: Path) -> None:
    """From the first line of its code on: `on_startup` waits for the state, not the other way."""
    seed(diary, '{\n  "name": "Ada",\n  "tags": ["x"]\n}\n')
    with running_agent(diary) as agent:
        assert agent.call("known_at_start") == ["name", "tags"]
        assert agent.call("read", {"key": "tags"}) == ["x"]
        agent.call("write", {"key": "name", "value": "Grace"})
        agent.call("write", {"key": "gone", "value": 1, "ttl_s": 0.001})

    assert left(diary) == {"name": "Grace", "tags": ["x"]}


def test_what_an_agent_leaves_is_what_another_begins_with(diary: Path) -> None:
    """The file alone carries the state, lifetimes included."""
    with running_agent(diary) as agent:
        agent.call("write", {"key": "kept", "value": {"ä": [1.50, None]}})
        agent.call("write", {"key": "session", "value": 1, "ttl_s": 3600})
    drop_database(diary)
    with running_agent(diary) as agent:
        assert agent.call("read", {"key": "kept"}) == {"ä": [1.5, None]}
        assert agent.call("known_at_start") == ["kept", "session"]
        agent.wait_logged("state_imported", keys=2)


def test_a_kill_takes_nothing_but_the_file_s_last_lines(diary: Path) -> None:
    """What a task wrote is on disk when its caller is told, exported or not."""
    with running_agent(diary, exit_code=None, env={"AGENT_STATE__EXPORT_S": "3600"}) as agent:
        agent.call("write", {"key": "a", "value": 1})
        for process in agent.processes():
            process.send_signal(signal.SIGKILL)
        agent.wait()
        (diary / "runtime" / "host.json").unlink(missing_ok=True)
    with running_agent(diary) as agent:
        assert agent.call("read", {"key": "a"}) == 1
        wait_state(agent, lambda found: found["exported_version"] == 1)

    assert left(diary) == {"a": 1}


def test_status_and_metrics_tell_of_the_state(diary: Path) -> None:
    """How much of the quota is used, and how old the file is."""
    with running_agent(diary, env={"AGENT_STATE__QUOTA_BYTES": "2048"}) as agent:
        assert state(agent)["version"] == 0
        agent.call("write", {"key": "a", "value": "x" * 97})
        found = wait_state(agent, lambda found: found["exported_version"] == 1)
        metrics = agent.get("/metrics").body.decode()

        assert (found["keys"], found["used_bytes"], found["quota_bytes"]) == (1, 100, 2048)
        assert found["exported_at"].startswith("20")
        assert (found["export_error"], found["problems"]) == (None, [])
        assert "kagent_state_keys 1.0" in metrics
        assert "kagent_state_bytes 100.0" in metrics
        assert "kagent_state_quota_bytes 2048.0" in metrics


def test_a_state_that_is_full_fails_the_task_and_not_the_agent(diary: Path) -> None:
    """Its caller reads why; what makes room is taken."""
    with running_agent(diary, env={"AGENT_STATE__QUOTA_BYTES": "1024"}) as agent:
        agent.call("write", {"key": "a", "value": "x" * 900})
        answer = agent.post("/v1/capabilities/write", {"key": "b", "value": "x" * 200})

        assert answer.json()["code"] == "state_quota_exceeded"
        agent.call("write", {"key": "a", "value": "x" * 500})
        agent.call("write", {"key": "b", "value": "x" * 200})


def test_a_torn_file_gives_way_to_the_version_before(diary: Path) -> None:
    """With the database gone too: an old state is better than none, and everybody is told."""
    with running_agent(diary) as agent:
        agent.call("write", {"key": "a", "value": 1})
        wait_state(agent, lambda found: found["exported_version"] == 1)
        agent.call("write", {"key": "a", "value": 2})
    drop_database(diary)
    file = diary / "runtime" / "memory_store.json"
    file.write_bytes(file.read_bytes()[:-10])
    with running_agent(diary) as agent:
        assert agent.call("read", {"key": "a"}) == 1
        (problem,) = state(agent)["problems"]
        screen = show_status(diary)

        assert problem["reason"].startswith("line ")
        assert (diary / "runtime" / problem["file"]).is_file()
        assert problem["file"] in screen
        agent.wait_logged("state_file_put_aside", file=f"runtime/{problem['file']}")
        agent.wait_logged("state_imported", file="runtime/memory_store.previous.json")


def show_status(diary: Path) -> str:
    """Return the screen of ``kos-agent status``."""
    command = [sys.executable, "-m", "kagent_sdk", "status", "-C", str(diary)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    return done.stdout


def test_an_agent_whose_files_are_all_broken_starts_and_says_so(diary: Path) -> None:
    """It begins empty, but not silently: status, log and the files themselves tell."""
    seed(diary, '{"$kagent": {"format": 1, "agent": "other"}, "a": 1}')
    seed(diary, "", "memory_store.previous.json")
    with running_agent(diary) as agent:
        assert agent.call("known_at_start") == []
        reasons = [problem["reason"] for problem in state(agent)["problems"]]
        agent.wait_logged("state_begins_empty", level="error")

        assert "belongs to another agent, 'other'" in reasons[0]
        assert reasons[1].startswith("line 1, column 1: the text ends")


def test_a_file_that_was_edited_is_kept_and_the_way_to_use_it_works(diary: Path) -> None:
    """The agent says what to do, and that does it."""
    with running_agent(diary) as agent:
        agent.call("write", {"key": "a", "value": 1})
    seed(diary, '{"a": 2}')
    with running_agent(diary) as agent:
        assert agent.call("read", {"key": "a"}) == 1
        (problem,) = wait_state(agent, lambda found: found["problems"] != [])["problems"]
        assert "stop the agent, move journal.db away and rename this file" in problem["reason"]

    drop_database(diary)
    (diary / "runtime" / problem["file"]).rename(diary / "runtime" / "memory_store.json")
    with running_agent(diary) as agent:
        assert agent.call("read", {"key": "a"}) == 2
        assert state(agent)["problems"] == []


def test_a_file_that_cannot_be_written_is_told_and_does_no_harm(diary: Path) -> None:
    """A folder stands in the way of the draft; tasks go on."""
    (diary / "runtime" / "memory_store.json.tmp").mkdir(parents=True)
    with running_agent(diary) as agent:
        agent.call("write", {"key": "a", "value": 1})
        found = wait_state(agent, lambda found: found["export_error"] is not None)
        assert found["export_error"].startswith(
            "memory_store.json cannot be written: Is a directory"
        )
        assert agent.call("read", {"key": "a"}) == 1
        (diary / "runtime" / "memory_store.json.tmp").rmdir()
        wait_state(agent, lambda found: found["export_error"] is None)

    assert left(diary) == {"a": 1}
