"""A mesh in which agents, the orchestrator and connections die: every task ends once, none is lost."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.integration.auditing import Books, read_books
from tests.integration.mesh_audit import check_ends, describe_tasks
from tests.integration.mesh_chaos import (
    WEIGHTS,
    Chaos,
    Member,
    Middle,
    plan_faults,
)
from tests.integration.mesh_middles import HttpMiddle
from tests.integration.mesh_nats_middle import NatsMiddle

AGENTS = 3
CLIENTS = 8
SEED_NAME = "KOS_TEST_SEED"
"""Set it to the seed that a failure has printed, to have the same faults and orders again."""


LONG = [pytest.mark.long, pytest.mark.timeout(900)]
MIDDLES: dict[str, Callable[[Path], Middle]] = {"http": HttpMiddle, "nats": NatsMiddle}


@pytest.mark.parametrize(
    ("kind", "seconds", "every_s"),
    [
        ("http", 6, 1.0),
        ("nats", 5, 1.2),
        pytest.param("http", 300, 1.5, marks=LONG),
        pytest.param("nats", 300, 1.5, marks=LONG),
    ],
)
async def test_every_task_of_a_mesh_ends_once_whatever_dies(
    tmp_path: Path, kind: str, seconds: float, every_s: float
) -> None:
    """What an orchestrator is for: nobody asks twice, and nothing is done twice."""
    seed = int(os.environ.get(SEED_NAME) or random.SystemRandom().randrange(1 << 32))
    sys.stdout.write(f"{SEED_NAME}={seed}\n")
    plan = plan_faults(seed, agents=AGENTS, seconds=seconds, every_s=every_s)
    async with AsyncExitStack() as stack:
        middle = await stack.enter_async_context(MIDDLES[kind](tmp_path / "mesh"))
        members = [Member(tmp_path / f"agent-{number}", number, middle) for number in range(AGENTS)]
        for member in members:
            await stack.enter_async_context(member)
        await middle.wait_agents(AGENTS)
        chaos = Chaos(middle, members, plan, seed)
        await chaos.run(seconds=seconds, clients=CLIENTS)
        await middle.wait_agents(AGENTS)
        await chaos.load.ask_again()
        codes = [await member.stop() for member in members]
        codes.append(await middle.stop())
        books = [await asyncio.to_thread(read_books, member.directory) for member in members]
        sys.stdout.write(describe(chaos, middle, members, books) + "\n")  # pytest -rP shows it

        assert codes == [0] * (AGENTS + 1)
        assert chaos.done + chaos.skipped == Counter(fault.kind for fault in plan)
        assert chaos.done.keys() == WEIGHTS.keys()
        assert sum(member.kills for member in members) == chaos.done["kill_agent"]
        assert middle.kills == chaos.done["kill_middle"]
        check_ends(chaos.load.seen, books)


def describe(chaos: Chaos, middle: Middle, members: list[Member], books: list[Books]) -> str:
    """Return the figures of a run."""
    cables = [cable for member in members for cable in member.cables]
    rows: dict[str, object] = {
        "faults": dict(chaos.done),
        "not while broken": dict(chaos.skipped),
        "kills of agents": sum(member.kills for member in members),
        "kills of the middle": middle.kills,
        "connections broken": sum(cable.cuts for cable in cables),
        "data held back": sum(cable.held_back for cable in cables),
        "duplicates refused": sum(member.count_refusals() for member in members),
        "of the middle": dict(middle.figures()),
        **describe_tasks(chaos.load.seen, books),
    }
    return "\n".join(f"{name:<22} {value}" for name, value in rows.items())
