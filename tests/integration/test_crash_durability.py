"""Kills at random points: nothing that was accepted is lost, and nothing is done twice."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.integration.auditing import Audit, read_books
from tests.integration.conftest import copy_ledger
from tests.integration.mayhem import KINDS, WORKER_KINDS, Killer, Site, stop
from tests.integration.payments import (
    ANSWER_DEADLINE_S,
    Payer,
    Payment,
    Record,
    write_payments,
)

CLIENTS = 12
THINK_S = 0.2
ASK_AGAIN_SHARE = 0.1
SEED_NAME = "KOS_TEST_SEED"
"""Set it to the seed that a failure has printed, to have the same kills and payments again."""

ACCOUNTS = 8
OPENING_BALANCE = 1000
SWEPT = ("account/0", "account/1")

ENVIRONMENT = {
    "AGENT_WORKER__COUNT": "2",
    # A worker that is killed every other second never gets old enough to count as stable by age.
    "AGENT_WORKER__CRASH_LIMIT": "1000",
    # Every task is asked for again in the end.
    "AGENT_TASKS__RETENTION_S": "86400",
    "AGENT_TASKS__RETENTION_COUNT": "1000000",
    "AGENT_TASKS__RETENTION_BYTES": str(4 * 1024**3),
}


@pytest.mark.parametrize(
    ("cycles", "tasks"),
    [
        (12, 300),
        pytest.param(300, 5_000, marks=[pytest.mark.long, pytest.mark.timeout(3_600)]),
    ],
)
async def test_no_kill_loses_a_task_or_does_it_twice(
    tmp_path: Path, cycles: int, tasks: int
) -> None:
    """The promise that an agent is bought for, kept while everything that can die does."""
    seed = int(os.environ.get(SEED_NAME) or random.SystemRandom().randrange(1 << 32))
    sys.stdout.write(f"{SEED_NAME}={seed}\n")
    site = Site(copy_ledger(tmp_path), ENVIRONMENT)
    try:
        run = Run(site, Killer(site, seed=seed, cycles=cycles), seed=seed, tasks=tasks)
        await run.run()
        assert await asyncio.to_thread(stop, site) == 0
        audit = Audit(run.records, read_books(site.directory), run.killer.kills)
        sys.stdout.write(audit.describe() + "\n")  # pytest -rP shows it

        audit.check(accounts=ACCOUNTS, opening_balance=OPENING_BALANCE, swept=SWEPT)
        assert len(run.records) >= tasks
        assert_killed(run, audit, cycles)
    finally:
        site.agent.kill()


def assert_killed(run: Run, audit: Audit, cycles: int) -> None:
    """The kills did happen, each kind of them, and they hit tasks that ran."""
    kills = run.killer.kills
    assert len(kills) == cycles
    assert Counter(kill.kind for kill in kills).keys() == KINDS.keys()
    assert any(kill.working for kill in kills if kill.kind not in WORKER_KINDS)
    assert audit.hits() > 0
    assert sum(record.retries for record in run.records) > 0


class Run:
    """Payments and kills, side by side, until both are enough.

    Attributes:
        records: of every payment, in the order in which they ended.
        killer: who did the killing.
    """

    def __init__(self, site: Site, killer: Killer, *, seed: int, tasks: int) -> None:
        self._site = site
        self._payments = write_payments(seed, ACCOUNTS)
        self._chance = random.Random(seed)  # noqa: S311 - when to ask again, no secret
        self._tasks = tasks
        self._is_over = asyncio.Event()
        self.killer = killer
        self.records: list[Record] = []

    async def run(self) -> None:
        """Pay and kill; then ask for every task once more."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_DEADLINE_S)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            payer = Payer(session, self._site.find_url)
            opening = Payment("open-accounts", "open_accounts", {}, "wait")
            assert (await payer.pay(opening)).task["output"] == ACCOUNTS * OPENING_BALANCE
            async with asyncio.TaskGroup() as group:
                group.create_task(self._kill())
                for _ in range(CLIENTS):
                    group.create_task(self._pay(payer, self._payments))
            for record in self.records:
                await payer.read(record)

    async def _kill(self) -> None:
        killing = asyncio.ensure_future(asyncio.to_thread(self.killer.run))
        try:
            await asyncio.shield(killing)
        finally:
            self.killer.call_off()
            await asyncio.wait([killing])
        self._is_over.set()

    async def _pay(self, payer: Payer, payments: Iterator[Payment]) -> None:
        while not self._is_over.is_set() or len(self.records) < self._tasks:
            record = await payer.pay(next(payments))
            self.records.append(record)
            if self._chance.random() < ASK_AGAIN_SHARE:
                await payer.ask_again(self._chance.choice(self.records))
            await asyncio.sleep(self._chance.uniform(0, THINK_S))
