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
from tests.integration.mesh_chaos import (
    PAST_FAILURES,
    WEIGHTS,
    Chaos,
    Member,
    Middle,
    Seen,
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
        ("http", 8, 1.0),
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
        await chaos.ask_again()
        codes = [await member.stop() for member in members]
        codes.append(await middle.stop())
        books = [await asyncio.to_thread(read_books, member.directory) for member in members]
        sys.stdout.write(describe(chaos, middle, members, books) + "\n")  # pytest -rP shows it

        assert codes == [0] * (AGENTS + 1)
        assert chaos.done + chaos.skipped == Counter(fault.kind for fault in plan)
        assert chaos.done.keys() == WEIGHTS.keys()
        assert sum(member.kills for member in members) == chaos.done["kill_agent"]
        assert middle.kills == chaos.done["kill_middle"]
        check(chaos.seen, books)


def check(found: list[Seen], books: list[Books]) -> None:
    """Fail on anything that was lost, ended twice, done twice, or made up."""
    assert [seen.wrongs for seen in found if seen.wrongs] == []
    for seen in found:
        assert seen.end is not None, seen
        state, token = seen.end["state"], seen.order.token
        marks = sum(len(book.marks_by_token.get(token, [])) for book in books)
        if seen.order.capability == "charge":
            check_charge(seen, marks)
            continue
        counts = [
            book.state[f"counter/{token}"] for book in books if f"counter/{token}" in book.state
        ]
        assert state == "completed", seen.end
        assert seen.end["output"]["number"] == 1, seen.end
        assert set(counts) == {1}, (token, counts)
    ordered = {seen.order.token for seen in found}
    for book in books:
        assert book.marks_by_token.keys() <= ordered


def check_charge(seen: Seen, marks: int) -> None:
    """A task that must not be run twice was not, and did not fail without a reason."""
    assert seen.end is not None
    assert marks <= 1, (seen.end, marks)
    if seen.end["state"] == "completed":
        assert marks == 1, seen.end
    else:
        assert seen.end["error"]["code"] in PAST_FAILURES, seen.end


def describe(chaos: Chaos, middle: Middle, members: list[Member], books: list[Books]) -> str:
    """Return the figures of a run."""
    ends = Counter(seen.end["state"] if seen.end else "none" for seen in chaos.seen)
    twice = Counter(key for book in books for key in book.state if key.startswith("counter/"))
    cables = [cable for member in members for cable in member.cables]
    delays = sorted(seen.took_s for seen in chaos.seen)
    rows: dict[str, object] = {
        "tasks": f"{len(chaos.seen)}: {dict(ends)}",
        "faults": dict(chaos.done),
        "not while broken": dict(chaos.skipped),
        "kills of agents": sum(member.kills for member in members),
        "kills of the middle": middle.kills,
        "connections broken": sum(cable.cuts for cable in cables),
        "data held back": sum(cable.held_back for cable in cables),
        "requests sent again": sum(seen.retries for seen in chaos.seen),
        "refusals": sum(seen.refusals for seen in chaos.seen),
        "duplicates refused": sum(member.count_refusals() for member in members),
        "of the middle": dict(middle.figures()),
        "begun anew elsewhere": sum(count > 1 for count in twice.values()),
        "median delay": f"{delays[len(delays) // 2]:.1f} s",
        "worst delay": f"{delays[-1]:.1f} s",
    }
    return "\n".join(f"{name:<22} {value}" for name, value in rows.items())
