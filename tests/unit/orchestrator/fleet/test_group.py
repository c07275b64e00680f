"""What is done with all replicas of an agent."""

from __future__ import annotations

from pathlib import Path

import pytest

from kagent_sdk.config.mesh import MeshAgent
from kagent_sdk.orchestrator.fleet.client import ReplicaClient
from kagent_sdk.orchestrator.fleet.group import AgentGroup, GroupBusyError
from kagent_sdk.orchestrator.fleet.layout import Layout
from kagent_sdk.orchestrator.fleet.news import tell_nobody
from kagent_sdk.orchestrator.fleet.record import AgentRecord
from kagent_sdk.orchestrator.fleet.workplace import LinkGrounds, Preparation


async def test_nothing_is_begun_with_an_agent_that_is_being_stopped(tmp_path: Path) -> None:
    """A restart that was asked for in a shutdown left processes that nobody stopped."""

    async def save() -> None:
        pass

    preparation = Preparation(
        "steady", MeshAgent(path="steady"), tmp_path, LinkGrounds(None, None), {}
    )
    group = AgentGroup(
        preparation,
        Layout(tmp_path),
        ReplicaClient(),
        record=AgentRecord(),
        save=save,
        tell=tell_nobody,
    )
    await group.stop(1)

    for begin in (group.update, group.restart, lambda: group.scale(1)):
        with pytest.raises(GroupBusyError, match="the orchestrator stops"):
            await begin()
    assert group.operation is None
