"""Tests of what the agent does, inside this process, and of how it runs, as its users call it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kagent_sdk import TaskError
from kagent_sdk.testing import AgentHarness, AgentProcess

FOLDER = Path(__file__).resolve().parent.parent


@pytest.fixture
async def harness() -> AsyncIterator[AgentHarness]:
    """Run the agent inside the test: milliseconds, and no waiting for its time."""
    async with AgentHarness(FOLDER) as running:
        yield running


async def test_greets_by_name(harness: AgentHarness) -> None:
    """The output is what `greet` returns, as JSON; what it logs is there, too."""
    answer = await harness.call("greet", name="Ada", count=2)

    assert answer == {"text": "Hello, Ada! Hello, Ada!"}
    assert harness.logged("greeted", count=2)


async def test_refuses_what_is_no_name(harness: AgentHarness) -> None:
    """What does not validate never reaches `greet`."""
    with pytest.raises(TaskError) as caught:
        await harness.call("greet", name="")
    assert caught.value.code == "invalid_input"


async def test_counts_down_and_tells_how_far_it_is(harness: AgentHarness) -> None:
    """A second of pauses passes at once."""
    task = await harness.start("countdown", start=5)
    await harness.advance(2)

    assert [number async for number in task.events()] == [5, 4, 3, 2, 1, 0]
    assert task.progress[-1] == (1.0, "0 to go")


async def test_runs_as_in_production() -> None:
    """A host and a worker, with config.yaml and the sandbox, in a copy of the folder."""
    async with AgentProcess(FOLDER) as process:
        assert await process.call("greet", name="Ada") == {"text": "Hello, Ada!"}
