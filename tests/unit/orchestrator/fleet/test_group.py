"""What is done with all replicas of an agent."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kagent_sdk.config.mesh import MeshAgent
from kagent_sdk.orchestrator.fleet.client import ReplicaClient
from kagent_sdk.orchestrator.fleet.drivers import make_driver
from kagent_sdk.orchestrator.fleet.group import AgentGroup
from kagent_sdk.orchestrator.fleet.layout import Layout
from kagent_sdk.orchestrator.fleet.news import News, tell_nobody
from kagent_sdk.orchestrator.fleet.operation import GroupBusyError, Operation
from kagent_sdk.orchestrator.fleet.preparation import Preparation
from kagent_sdk.orchestrator.fleet.record import AgentRecord
from kagent_sdk.orchestrator.fleet.releases import make_release
from kagent_sdk.orchestrator.fleet.workplace import LinkGrounds
from tests.unit.orchestrator.fleet.test_drivers import Engine


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


async def test_an_agent_whose_image_cannot_be_found_goes_on_with_the_release_that_it_had(
    tmp_path: Path,
) -> None:
    """An engine that is slow to come up after a boot must not cost the agent its start."""
    told: list[News] = []

    async def save() -> None:
        pass

    layout, source = Layout(tmp_path / "data"), tmp_path / "agent"
    source.mkdir()
    (source / "entrypoint.py").touch()
    spec = MeshAgent(path="agent", driver="container", network="klp-mesh", replicas=0)
    driver = make_driver(spec, Engine(image=None))
    preparation = Preparation("steady", spec, source, LinkGrounds(None, None), {}, driver)
    layout.releases("steady").mkdir(parents=True)
    known = make_release(source, layout.releases("steady"), "one")

    async def begin(record: AgentRecord) -> Operation:
        group = AgentGroup(
            preparation, layout, ReplicaClient(), record=record, save=save, tell=told.append
        )
        before = asyncio.all_tasks()
        group.begin(is_moved=False)
        await asyncio.wait(asyncio.all_tasks() - before)
        assert group.operation is not None
        return group.operation

    done = await begin(AgentRecord(release=known, asked=0))
    failed = await begin(AgentRecord())

    assert (done.state, failed.state) == ("done", "failed")
    (news,) = [one for one in told if one.event == "release_not_made"]
    assert news.values == {"reason": "podman has no image agent:1", "running": known}
    assert news.is_bad
    assert failed.reason == "podman has no image agent:1"
