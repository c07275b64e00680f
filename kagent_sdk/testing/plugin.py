"""The pytest plugin: loaded in every run of an environment that has the library, so it costs nothing.

Only what is asked for is imported: the fixtures import `kagent_sdk.testing` when a test uses them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from kagent_sdk.testing.fake_orchestrator import FakeOrchestrator
    from kagent_sdk.testing.harness import AgentHarness
    from kagent_sdk.testing.process import AgentProcess

MakeHarness = Callable[..., Awaitable["AgentHarness"]]
MakeProcess = Callable[..., Awaitable["AgentProcess"]]

_NEEDS = "this fixture needs pytest-asyncio: pip install 'kagent-sdk[testing]'"


async def _agent_harness() -> AsyncIterator[MakeHarness]:
    """Return what opens an agent in the test's own event loop; it is closed after the test.

    ``harness = await agent_harness(agent, secrets={...})``; see `kagent_sdk.testing.AgentHarness`.
    """
    async with AsyncExitStack() as stack:

        async def make(*arguments: Any, **options: Any) -> AgentHarness:
            from kagent_sdk.testing.harness import AgentHarness  # noqa: PLC0415 - who uses it pays

            return await stack.enter_async_context(AgentHarness(*arguments, **options))

        yield make


async def _agent_process() -> AsyncIterator[MakeProcess]:
    """Return what starts a real agent; it is stopped after the test.

    ``process = await agent_process(folder, config={...})``; see `kagent_sdk.testing.AgentProcess`.
    """
    async with AsyncExitStack() as stack:

        async def make(*arguments: Any, **options: Any) -> AgentProcess:
            from kagent_sdk.testing.process import AgentProcess  # noqa: PLC0415 - who uses it pays

            return await stack.enter_async_context(AgentProcess(*arguments, **options))

        yield make


async def _fake_orchestrator() -> AsyncIterator[FakeOrchestrator]:
    """Return an orchestrator that listens; see `kagent_sdk.testing.FakeOrchestrator`."""
    from kagent_sdk.testing.fake_orchestrator import (  # noqa: PLC0415 - who uses it pays
        FakeOrchestrator,
    )

    async with FakeOrchestrator() as orchestrator:
        yield orchestrator


def _refuse() -> None:
    pytest.fail(_NEEDS, pytrace=False)


if find_spec("pytest_asyncio") is not None:
    # It is a plugin of this run itself: importing it here costs nothing more.
    import pytest_asyncio

    agent_harness = pytest_asyncio.fixture(_agent_harness, name="agent_harness")
    agent_process = pytest_asyncio.fixture(_agent_process, name="agent_process")
    fake_orchestrator = pytest_asyncio.fixture(_fake_orchestrator, name="fake_orchestrator")
else:
    agent_harness = pytest.fixture(_refuse, name="agent_harness")
    agent_process = pytest.fixture(_refuse, name="agent_process")
    fake_orchestrator = pytest.fixture(_refuse, name="fake_orchestrator")
