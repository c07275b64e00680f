"""Thousands of tasks through a worker that is killed again and again: nothing is lost or done twice."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from itertools import islice
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.agents import RunningAgent, running_agent_async
from tests.integration.orders import Customer, Order, Outcome, read_marks, write_orders
from tests.integration.vitals import assert_calm, assert_settles, take_vitals
from tests.integration.waiting import POLL_S

CLIENTS = 40
KILL_EVERY_S = 1.0
CHECK_EVERY = 20
"""Every so many orders the finished task is asked for again, in both ways."""

ENVIRONMENT = {
    # A worker that is killed once a second never gets old enough to count as stable by age.
    "AGENT_WORKER__CRASH_LIMIT": "1000",
    # What is kept of finished tasks is no leak; small, so that it is all there from the start.
    "AGENT_TASKS__RETENTION_COUNT": "200",
}


@pytest.mark.parametrize(
    ("workers", "tasks", "kills"),
    [
        (1, 2_000, 5),
        pytest.param(1, 10_000, 20, marks=[pytest.mark.long, pytest.mark.timeout(600)]),
        pytest.param(3, 10_000, 20, marks=[pytest.mark.long, pytest.mark.timeout(600)]),
    ],
)
async def test_tasks_survive_a_worker_that_is_killed_once_a_second(
    subject: Path,
    workers: int,
    tasks: int,
    kills: int,
) -> None:
    """The promise of the whole design: a definite end for each task, and a host as on its first day."""
    env = ENVIRONMENT | {"AGENT_WORKER__COUNT": str(workers)}
    async with running_agent_async(subject, env=env) as agent:
        warm = await torment(agent, "warm", tasks=400, kills=1)
        before = await asyncio.to_thread(take_vitals, agent)
        restarts = (await asyncio.to_thread(agent.status))["workers"]["restarts"]
        hot = await torment(agent, "hot", tasks=tasks, kills=kills)

        assert len(hot.outcomes) >= tasks
        assert hot.kills >= kills
        status = await asyncio.to_thread(agent.status)
        assert status["workers"]["restarts"] - restarts >= hot.kills - 1
        for outcome in (*warm.outcomes, *hot.outcomes):
            assert_definite(outcome)
        assert_done_once([*warm.outcomes, *hot.outcomes], subject)
        await asyncio.to_thread(assert_settles, agent, before)
        assert_counted(agent, warm, hot)
        assert_calm(agent)
        sys.stdout.write(describe(hot) + "\n")  # pytest -rP shows it


class Torment:
    """One run of orders and kills.

    Attributes:
        outcomes: of every order.
        kills: workers that were ready, got a SIGKILL and are gone.
        checked: orders whose task was asked for again after its end.
    """

    def __init__(self, agent: RunningAgent, prefix: str, *, tasks: int, kills: int) -> None:
        self._agent = agent
        self._orders = write_orders(20, prefix)
        self._tasks = tasks
        self._kills = kills
        self.outcomes: list[Outcome] = []
        self._killed_pid = 0
        self.kills = 0
        self.checked = 0

    @property
    def is_over(self) -> bool:
        """Whether enough was done, and enough was destroyed."""
        return len(self.outcomes) >= self._tasks and self.kills >= self._kills

    async def run(self) -> None:
        """Place orders from many clients and kill workers, until it is over."""
        limits = aiohttp.TCPConnector(limit=CLIENTS)
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(connector=limits, timeout=timeout) as session:
            customer = Customer(session, self._agent.url)
            async with asyncio.TaskGroup() as group:
                killer = group.create_task(self._kill())
                clients = [group.create_task(self._order(customer)) for _ in range(CLIENTS)]
                await asyncio.gather(*clients)
                killer.cancel()

    async def _order(self, customer: Customer) -> None:
        while not self.is_over:
            (order,) = islice(self._orders, 1)
            outcome = await customer.place(order)
            self.outcomes.append(outcome)
            if order.route != "call" and len(self.outcomes) % CHECK_EVERY == 0:
                await self._check_again(customer, order)

    async def _check_again(self, customer: Customer, order: Order) -> None:
        """The answer to a task that has ended never changes, whoever asks and however."""
        task = await customer.read(order)
        again = await customer.place_again(order) if order.route != "keyed" else task
        assert again == task, (again, task)
        assert task["id"] == order.token
        self.checked += 1

    async def _kill(self) -> None:
        while True:
            worker = await asyncio.to_thread(self._find_ready_worker)
            # Counted from its readiness: on a busy machine a worker that is killed as soon as it is
            # there ends no task, and the last ones wait as long as the killing goes on.
            await asyncio.sleep(KILL_EVERY_S)
            self._killed_pid = worker.pid
            os.kill(worker.pid, signal.SIGKILL)
            await asyncio.to_thread(worker.wait, 10)
            self.kills += 1

    def _find_ready_worker(self) -> psutil.Process:
        while True:
            self._agent.wait_ready()
            # The host may not have noticed the last kill yet.
            pids = [pid for pid in self._agent.worker_pids if pid != self._killed_pid]
            if pids:
                return psutil.Process(pids[self.kills % len(pids)])
            time.sleep(POLL_S)


async def torment(agent: RunningAgent, prefix: str, *, tasks: int, kills: int) -> Torment:
    """Run orders and kills to their end."""
    run = Torment(agent, prefix, tasks=tasks, kills=kills)
    await run.run()
    return run


def assert_definite(outcome: Outcome) -> None:
    """Idempotent orders are done; the others are done or told that the worker crashed."""
    if outcome.code is None:
        assert outcome.order.fits(outcome.output), outcome
    else:
        assert not outcome.order.is_idempotent, outcome
        assert outcome.code == "worker_crashed", outcome
        assert outcome.output is None, outcome


def assert_done_once(outcomes: list[Outcome], directory: Path) -> None:
    """What must not be done twice was begun once at the most, and once if it was done."""
    marks = read_marks(directory)
    tokens = Counter(outcome.order.token for outcome in outcomes)
    assert max(tokens.values()) == 1
    assert marks.keys() <= tokens.keys()
    for outcome in outcomes:
        began = marks[outcome.order.token]
        if outcome.code is None:
            assert began >= 1, outcome
        if not outcome.order.is_idempotent:
            assert began <= 1, (began, outcome)


def assert_counted(agent: RunningAgent, *runs: Torment) -> None:
    """The agent's own books agree with those of its clients."""
    outcomes = [outcome for run in runs for outcome in run.outcomes]
    tasks = agent.status()["tasks"]
    assert tasks["submitted"] == len(outcomes)
    assert tasks["completed"] == sum(outcome.code is None for outcome in outcomes)
    assert tasks["failed"] == sum(outcome.code is not None for outcome in outcomes)
    assert (tasks["canceled"], tasks["working"], tasks["queued"]) == (0, 0, 0)


def describe(run: Torment) -> str:
    """Say in numbers what a run did."""
    codes = Counter(outcome.code or "completed" for outcome in run.outcomes)
    refusals = sum(outcome.refusals for outcome in run.outcomes)
    again = sum(
        outcome.output["attempt"] > 1
        for outcome in run.outcomes
        if isinstance(outcome.output, dict)
    )
    return (
        f"{len(run.outcomes)} tasks, {run.kills} kills: {dict(codes)}, {again} ran again, "
        f"{refusals} refusals, {run.checked} asked for again"
    )
