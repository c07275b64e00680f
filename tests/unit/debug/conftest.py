"""What the tests of debug sessions share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.debug.rig import AgentLoop, Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A server with a fake worker; ended with the test."""
    made = Rig()
    yield made
    made.close()


@pytest.fixture
def agent_loop() -> Iterator[AgentLoop]:
    """A loop in a thread of its own; ended with the test."""
    made = AgentLoop()
    yield made
    made.close()
