"""The example `hello`, run as its README says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.agents import RunningAgent, copy_example, running_agent

WAYS = {"kos-agent run": None, "python entrypoint.py": ("entrypoint.py",)}


@pytest.fixture(scope="module", params=WAYS, ids=list(WAYS))
def hello(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningAgent]:
    """The running agent, started in both of the ways that are documented."""
    folder = copy_example("hello", tmp_path_factory.mktemp("hello"))
    with running_agent(folder, arguments=WAYS[request.param]) as agent:
        yield agent


def test_an_async_capability_answers_its_output_alone(hello: RunningAgent) -> None:
    """The first thing that a newcomer tries."""
    assert hello.call("greet", {"name": "Ada"}) == {"text": "Hello, Ada!"}


def test_a_sync_capability_is_called_in_the_same_way(hello: RunningAgent) -> None:
    """The caller need not know how a capability is written."""
    assert hello.call("fingerprint", {"text": "ä"}) == sha256("ä".encode()).hexdigest()


def test_a_stream_sends_its_items_as_they_come_and_then_the_task(hello: RunningAgent) -> None:
    """Streaming works with nothing but HTTP."""
    events = list(hello.stream("countdown", {"start": 3, "pause_s": 0.05}))

    assert [event.data for event in events if event.name == "event"] == [3, 2, 1, 0]
    assert any(event.name == "progress" for event in events)
    assert events[-1].name == "task"
    assert events[-1].data["state"] == "completed"


def test_a_stream_called_plainly_is_an_array(hello: RunningAgent) -> None:
    """A caller without server-sent events gets the same items."""
    assert hello.call("countdown", {"start": 2, "pause_s": 0}) == [2, 1, 0]


def test_an_input_that_does_not_fit_is_refused_with_the_place(hello: RunningAgent) -> None:
    """The hints of the function are the contract."""
    answer = hello.post("/v1/capabilities/greet", {"name": ""})

    assert answer.status == 422
    assert "name" in json.dumps(answer.json())


def test_the_capabilities_describe_themselves(hello: RunningAgent) -> None:
    """Names, descriptions and schemas come from the code alone."""
    capabilities = hello.get("/v1/capabilities").json()["capabilities"]

    by_name = {capability["name"]: capability for capability in capabilities}
    assert set(by_name) == {"greet", "fingerprint", "countdown"}
    assert by_name["greet"]["description"] == "Greet somebody by name."
    assert by_name["countdown"]["streams"] is True


def test_every_start_is_ended_cleanly(tmp_path: Path) -> None:
    """Started and stopped by SIGTERM: exit code 0, nothing left (checked by the block itself)."""
    with running_agent(copy_example("hello", tmp_path)) as agent:
        host_file = agent.directory / "runtime" / "host.json"
        assert json.loads(host_file.read_text())["pid"] == agent.pid

    assert not host_file.exists()
