"""`kagent_sdk.testing.FakeOrchestrator` with a real agent: tasks, and an orchestrator that is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from kagent_sdk.testing import AgentProcess, FakeOrchestrator

KIT = Path(__file__).parent / "kit"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair() -> AsyncIterator[tuple[FakeOrchestrator, AgentProcess]]:
    """Run an orchestrator, and an agent that is linked to it."""
    async with (
        FakeOrchestrator() as orchestrator,
        AgentProcess(KIT, config=orchestrator.config, secrets={"key": "k"}) as process,
    ):
        registration = await orchestrator.wait_registered()
        assert registration["agent"] == "kit"
        yield orchestrator, process


async def test_tasks_are_taken_and_their_ends_reported(
    pair: tuple[FakeOrchestrator, AgentProcess],
) -> None:
    """With the output, or the error."""
    orchestrator, _ = pair
    good = orchestrator.send("greet", {"name": "Ada"})
    bad = orchestrator.send("greet", {})

    assert (await orchestrator.wait_result(good))["output"] == "Hello, Ada!"
    assert (await orchestrator.wait_result(bad))["error"]["code"] == "invalid_input"


async def test_a_task_that_is_delivered_again_and_again_runs_once(
    pair: tuple[FakeOrchestrator, AgentProcess],
) -> None:
    """Its end is told under each lease, and is the same."""
    orchestrator, process = pair
    ends = await orchestrator.deliver_twice("mark", id="o-1")

    assert len(ends) >= 2
    assert {(end["state"], end["output"], end["finished_at"]) for end in ends} == {
        ("completed", "o-1", ends[0]["finished_at"])
    }
    runs = (process.folder / "runtime/data/runs").read_text()
    assert runs.splitlines().count("o-1") == 1


async def test_an_end_waits_for_an_orchestrator_that_is_away(
    pair: tuple[FakeOrchestrator, AgentProcess],
) -> None:
    """The agent has noticed, works on, and tells everything when it is back."""
    orchestrator, process = pair
    before = len(orchestrator.at("agents"))
    await process.tasks.submit("hang", id="w-1")
    task = orchestrator.send("hang")
    await process.wait_until(lambda: not orchestrator.offers)
    async with orchestrator.away(process):
        await process.kill_worker()
        assert (await process.tasks.wait(task))["output"] == 2
        assert orchestrator.results(task) == []

    assert (await orchestrator.wait_result(task))["output"] == 2
    assert len(orchestrator.at("agents")) > before


async def test_being_away_is_proven(pair: tuple[FakeOrchestrator, AgentProcess]) -> None:
    """A port that still answers is no absence."""
    orchestrator, _ = pair
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    other = FakeOrchestrator()
    other._port = server.sockets[0].getsockname()[1]

    with pytest.raises(AssertionError, match="still takes connections"):
        await other._assert_refused()
    server.close()
    await server.wait_closed()
    assert orchestrator.url.endswith(str(orchestrator.port))
