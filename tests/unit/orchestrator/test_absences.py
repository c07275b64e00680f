"""Tasks whose agents are away end in a bounded time, however often the orchestrator is killed."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kagent_sdk.orchestrator.absences import TICK_S
from kagent_sdk.orchestrator.schema import APPLICATION_ID, ORCHESTRATOR_SCHEMA, TASK_TABLES
from kagent_sdk.orchestrator.settings import BrokerLimits
from kagent_sdk.orchestrator.task import OpenTask, Phase
from kagent_sdk.protocol.link import Held
from kagent_sdk.storage.schema import Schema, migrate
from tests.unit.orchestrator.meshes import FakeMesh, fake_mesh, registration

LIMITS = BrokerLimits()
GRACE_S = 2 * LIMITS.lease_s
LIFE_S = 3.0
"""Of an orchestrator that is killed again and again: far from a lease."""


@pytest.fixture
async def mesh() -> AsyncIterator[FakeMesh]:
    """Give a broker."""
    async with fake_mesh() as made:
        yield made


async def restart(mesh: FakeMesh, *, down_s: float = 0.5) -> FakeMesh:
    """Kill the orchestrator, and start another one with the same database; its clock begins anew."""
    after = FakeMesh(mesh.storage, LIMITS)
    after.clock.epoch_s = mesh.clock.wall_s() + down_s - after.clock.at_s
    await after.broker.load()
    return after


async def live(mesh: FakeMesh, lives: int) -> FakeMesh:
    """Let so many orchestrators live, and be killed after a while."""
    for _ in range(lives):
        mesh = await restart(mesh)
        await mesh.settle(LIFE_S)
    return mesh


def open_task(mesh: FakeMesh, name: str = "t") -> OpenTask:
    """Return a task that must not have ended."""
    return mesh.book.open[name]


@pytest.mark.parametrize("is_idempotent", [True, False])
async def test_an_agent_that_never_comes_back_is_given_up_over_many_restarts(
    mesh: FakeMesh, is_idempotent: bool
) -> None:
    """Each of them gave it two leases of its own: with one kill every few seconds that was for ever."""
    mesh.agents.register(registration("a", idempotent=is_idempotent))
    await mesh.submit("t")
    before = await live(mesh, int(GRACE_S / LIFE_S) - 1)
    phase = open_task(before).phase
    within_s = GRACE_S if is_idempotent else LIMITS.return_s
    # What a life writes down of its time may be short by one tick.
    lives = int(within_s / (LIFE_S - TICK_S)) + 2
    after = await live(before, lives)
    await after.storage.read(lambda _connection: None)
    found = await after.book.find("t")

    assert phase is Phase.AWAY
    assert found is not None
    if is_idempotent:
        assert (found.phase, found.record.lease) == (Phase.QUEUED, None)
    else:
        assert found.record.failure is not None
        assert found.record.failure.code == "agent_lost"


async def test_a_deadline_holds_over_many_restarts(mesh: FakeMesh) -> None:
    """It was put off by two leases with each of them."""
    mesh.agents.register(registration("a", idempotent=False))
    await mesh.submit("t", timeout_s=5)
    before = await live(mesh, int(GRACE_S / LIFE_S) - 1)
    is_open = "t" in before.book.open
    after = await live(before, int(GRACE_S / (LIFE_S - TICK_S)) + 2)
    found = await after.book.find("t")

    assert is_open  # its agent may have the result ready
    assert found is not None
    assert found.record.failure is not None
    assert found.record.failure.code == "timeout"


async def test_the_time_in_which_no_orchestrator_was_there_does_not_count(mesh: FakeMesh) -> None:
    """An agent cannot come back to an orchestrator that is down; it may have the result ready."""
    mesh.agents.register(registration("a", idempotent=False))
    task = await mesh.submit("t")
    lease = task.record.lease or ""
    after = await live(mesh, 3)
    after = await restart(after, down_s=100_000)
    await after.settle(LIFE_S)
    held = (Held(task="t", lease=lease),)
    after.agents.register(registration("b", idempotent=False, tasks=held))

    assert open_task(after).phase is Phase.HELD
    assert open_task(after).record.away_at is None


async def test_an_agent_that_came_back_has_all_its_time_again(mesh: FakeMesh) -> None:
    """What counts is one absence, and not all of them together."""
    mesh.agents.register(registration("a"))
    task = await mesh.submit("t")
    held = (Held(task="t", lease=task.record.lease or ""),)
    for _ in range(4):
        mesh = await live(mesh, 8)
        assert open_task(mesh).phase is Phase.AWAY
        mesh.agents.register(registration("a", tasks=held))
        await mesh.settle()

    assert open_task(mesh).phase is Phase.HELD
    assert open_task(mesh).record.attempt == 1


def test_a_database_of_the_release_before_is_taken_over(tmp_path: Path) -> None:
    """Its tasks begin to wait when the first orchestrator that knows of it starts."""
    path = tmp_path / "orchestrator.db"
    with sqlite3.connect(path, isolation_level=None) as connection:
        migrate(connection, schema=Schema(APPLICATION_ID, (TASK_TABLES,), "an orchestrator"))
        assert migrate(connection, schema=ORCHESTRATOR_SCHEMA) == 1
        (served_s,) = connection.execute(
            "SELECT value FROM meta WHERE name = 'served_s'"
        ).fetchone()
    connection.close()

    assert served_s == 0.0
