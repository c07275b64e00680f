"""Hosts that die by SIGKILL, and the folders that they leave to the next one."""

from __future__ import annotations

import signal
import sqlite3
import urllib.request
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.agents import RunningAgent, SentEvent, parse_events, start_agent
from tests.integration.waiting import wait_until


@contextmanager
def doomed_agent(
    directory: Path, *, env: Mapping[str, str] | None = None
) -> Iterator[RunningAgent]:
    """Run an agent for the time of the block, whose end kills the host alone, with SIGKILL.

    It fails when the host does not die of that, or when a worker outlives it.
    """
    agent = start_agent(directory, env=env)
    try:
        agent.wait_ready()
        yield agent
        code = agent.stop(signal.SIGKILL)
        assert code == -signal.SIGKILL, f"exit code {code}\n{agent.log_text[-4000:]}"
        wait_until(lambda: not agent.processes())
    finally:
        agent.kill()


def submit(agent: RunningAgent, id: str, capability: str, input: object, **members: object) -> None:
    """Hand in a task and have it acknowledged, without waiting for it."""
    body = {"id": id, "capability": capability, "input": input, **members}
    answer = agent.post("/v1/tasks", body, headers={"Prefer": "respond-async"})
    assert answer.status == 202, (answer.status, answer.body)


def run(agent: RunningAgent, id: str, capability: str, input: object, **members: object) -> bytes:
    """Hand in a task, wait for its end and return its document, byte for byte."""
    body = {"id": id, "capability": capability, "input": input, **members}
    answer = agent.post("/v1/tasks", body)
    assert answer.status == 200, (answer.status, answer.body)
    return answer.body


def read(agent: RunningAgent, id: str, *, wait_s: int = 0) -> Any:
    """Return the document of a task that the agent has."""
    answer = agent.get(f"/v1/tasks/{id}" + (f"?wait_s={wait_s}" if wait_s else ""))
    assert answer.status == 200, (answer.status, answer.body)
    return answer.json()


def wait_working(agent: RunningAgent, id: str) -> None:
    """Wait until a task runs, and the journal knows of the attempt if it knows of the task."""
    journal = agent.directory / "runtime" / "journal.db"

    def is_noted() -> bool:
        shown = read(agent, id)
        if shown["state"] != "working" or not journal.exists():
            return bool(shown["state"] == "working")
        with closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT attempt FROM tasks WHERE id = ?", (id,)).fetchall()
        return rows in ([], [(shown["attempt"],)])

    wait_until(is_noted)


def read_events(agent: RunningAgent, id: str, *, after: int = 0) -> list[tuple[int, str, Any]]:
    """Return the events of a task that has ended: number, kind and data of each."""
    answer = agent.get(f"/v1/tasks/{id}/events", headers={"Last-Event-ID": str(after)})
    assert answer.status == 200, (answer.status, answer.body)
    lines = answer.body.decode().splitlines()
    return [(int(event.id or 0), event.name, event.data) for event in parse_events(iter(lines))]


def follow(agent: RunningAgent, id: str) -> Generator[SentEvent, None, None]:
    """Yield the events of a task as they come; closing it closes the connection."""
    url = f"{agent.url}/v1/tasks/{id}/events"
    with urllib.request.urlopen(url, timeout=60) as response:
        yield from parse_events(line.decode() for line in response)


def let_go(agent: RunningAgent, name: str) -> None:
    """Make the file that tasks of the subject wait for."""
    (agent.directory / "runtime" / "data" / name).touch()
