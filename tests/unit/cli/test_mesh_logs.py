"""Tests of `kagent_sdk.cli.mesh_logs`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from kagent_sdk.cli.boundary import UnreachableError, UsageError
from kagent_sdk.cli.client import ANSWER_TIMEOUT_S, AgentClient, Answer
from kagent_sdk.cli.mesh_logs import RemoteLog, find_orchestrator, new_lines
from kagent_sdk.cli.options import AgentOptions
from kagent_sdk.cli.problems import ProblemError
from kagent_sdk.cli.target import Credentials, Target


class Orchestrator(AgentClient):
    """Answers from memory, and notes what it was asked for."""

    def __init__(self, body: bytes, status: int = 200) -> None:
        super().__init__(Target("http://127.0.0.1:8080"))
        self.body, self.status = body, status
        self.paths: list[str] = []

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> Answer:
        """Return the same answer to everything."""
        self.paths.append(path)
        return Answer(self.status, "application/x-ndjson", None, self.body)


def test_the_last_lines_of_a_replica_are_asked_for() -> None:
    """By the agent's name, and a number where there are several."""
    client = Orchestrator(b'{"event": "one"}\n{"event": "two"}\n{"ev')

    assert RemoteLog(client, "hello/2").read() == [b'{"event": "one"}', b'{"event": "two"}']
    assert RemoteLog(Orchestrator(b""), "hello").read() == []
    assert client.paths == ["/v1/fleet/hello/logs?lines=10000&replica=2"]


@pytest.mark.parametrize("name", ["", "/1", "hello/", "hello/one", "hello/1/2", "hello/-1"])
def test_what_is_no_name_of_a_replica_is_a_usage_error(name: str) -> None:
    """Better said here than as a strange answer from there."""
    with pytest.raises(UsageError, match="write NAME, or NAME/N"):
        RemoteLog(Orchestrator(b""), name)


def test_an_agent_that_is_not_there_is_the_orchestrators_answer() -> None:
    """It knows the names."""
    client = Orchestrator(b'{"detail": "no agent \'helo\'", "code": "unknown_agent"}', 404)

    with pytest.raises(ProblemError, match="no agent 'helo'"):
        RemoteLog(client, "helo").read()


def test_following_shows_each_line_once() -> None:
    """Each answer is the end of the file, so most of it has been shown."""
    client = Orchestrator(b"one\n")
    log = RemoteLog(client, "hello")
    log.read()
    client.body = b"one\ntwo\ntwo\n"

    assert log.read_new() == [b"two", b"two"]
    assert log.read_new() == []
    client.body = b"anew\n"
    assert log.read_new() == [b"anew"]


@pytest.mark.parametrize(
    ("before", "after", "new"),
    [
        (b"a b", b"a b c", b"c"),
        (b"a b", b"b c", b"c"),
        (b"a b", b"x y", b"x y"),
        (b"", b"a", b"a"),
    ],
)
def test_the_new_lines_are_those_behind_the_old_ones(
    before: bytes, after: bytes, new: bytes
) -> None:
    """A log that moves on loses its first lines; one that was rotated all of them."""
    found = list(new_lines(before.split(), after.split()))

    assert found == new.split()


def test_a_folder_without_an_orchestrator_says_how_to_name_one(tmp_path: Path) -> None:
    """The log of an agent by its name is not in the agent's folder."""
    options = AgentOptions(None, tmp_path, Credentials(), as_json=False)

    with pytest.raises(UnreachableError, match=r"no orchestrator is running in .* --url URL"):
        find_orchestrator(options)
