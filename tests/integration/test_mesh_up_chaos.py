"""`kos-agent up` whose orchestrator, hosts and workers die: every task ends once, none is lost."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.integration.auditing import Books
from tests.integration.conftest import copy_ledger
from tests.integration.mesh_audit import check_ends, describe_tasks
from tests.integration.mesh_chaos import plan_faults
from tests.integration.mesh_up_chaos import QUICK_WEIGHTS, REPLICAS, WEIGHTS, Stand, Up, UpChaos

CLIENTS = 8
EVERY_S = 1.5
UNHEALTHY_S = 6
SEED_NAME = "KOS_TEST_SEED"
"""Set it to the seed that a failure has printed, to have the same faults and orders again."""

LONG = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    ("seconds", "weights"),
    [
        pytest.param(5, QUICK_WEIGHTS, marks=pytest.mark.timeout(300)),  # over a task's, to see it
        pytest.param(300, WEIGHTS, marks=LONG),
    ],
    ids=["short", "300"],
)
async def test_every_task_of_one_command_ends_once_whatever_dies(
    tmp_path: Path, seconds: float, weights: dict[str, int]
) -> None:
    """The command may die like any program: its agents work on, and the next one goes on with them."""
    seed = int(os.environ.get(SEED_NAME) or random.SystemRandom().randrange(1 << 32))
    sys.stdout.write(f"{SEED_NAME}={seed}\n")
    copy_ledger(tmp_path)
    count = sum(REPLICAS.values())
    plan = plan_faults(seed, agents=count, seconds=seconds, every_s=EVERY_S, weights=weights)
    unhealthy_s = UNHEALTHY_S if "hang_replica" in weights else 60
    async with Up(tmp_path, unhealthy_s) as up:
        stands = [Stand(up, agent, at) for agent, all_ in REPLICAS.items() for at in range(all_)]
        for stand in stands:
            await stand.wait_ready()
        chaos = UpChaos(up, stands, plan, seed)
        await chaos.run(seconds=seconds, clients=CLIENTS)
        await chaos.load.ask_again()
        code = await up.stop()
        books = [await asyncio.to_thread(stand.read_books) for stand in stands]
        sys.stdout.write(describe(chaos, up, stands, books) + "\n")  # pytest -rP shows it

        assert code == 0, up.starts[-1].text
        assert chaos.done + chaos.skipped == Counter(fault.kind for fault in plan)
        assert chaos.done.keys() == weights.keys()
        assert up.kills == chaos.done["kill_up"]
        assert up.count_told("replica_adopted") >= up.kills
        check_ends(chaos.load.seen, books)


def describe(chaos: UpChaos, up: Up, stands: list[Stand], books: list[Books]) -> str:
    """Return the figures of a run."""
    rows: dict[str, object] = {
        "faults": dict(chaos.done),
        "not while broken": dict(chaos.skipped),
        "kills of the command": up.kills,
        "kills of others": dict(chaos.kills),
        "adopted": up.count_told("replica_adopted"),
        "started again": up.count_told("replica_waiting"),
        "duplicates refused": sum(stand.count_refusals() for stand in stands),
        "of the orchestrator": dict(up.figures()),
        **describe_tasks(chaos.load.seen, books),
    }
    return "\n".join(f"{name:<22} {value}" for name, value in rows.items())
