"""SIGTERM in the middle of the work: what was accepted is answered, and the exit comes in time."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import aiohttp

from tests.agents import RunningAgent, running_agent_async
from tests.integration.orders import Customer, Order, Outcome, read_marks, write_orders
from tests.integration.vitals import assert_calm
from tests.integration.waiting import wait_until
from tests.integration.wire import build, exchange, split_answers

CLIENTS = 40
READERS = 8
LOAD_S = 1.5
GRACE_S = 15.0

MIX = {"mark": 4, "mark_once": 3, "mark_items": 1, "mark_big": 1, "mark_nested": 2}
ROUTES = {"call": 3, "keyed": 1, "task": 3}
"""All of them wait for the end: an answer that is lost is noticed."""

LATE_CHECKS = """
import time
from itertools import count
from pathlib import Path
from kagent_sdk.cli.entry import main
from kagent_sdk.host import worker_frames

check, data, numbers = worker_frames.is_json, Path("runtime/data"), count()

def check_late(text):
    if len(text) > worker_frames.SMALL_BYTES:
        number = next(numbers)
        Path(data, f"check-{number}").touch()
        while not Path(data, f"go-{number}").exists():
            time.sleep(0.01)
    return check(text)

worker_frames.is_json = check_late
main()
"""
"""Runs the host so that large outputs are checked for as long as the test likes, not the machine."""


async def test_sigterm_under_load_drops_no_accepted_task_twice_in_a_row(subject: Path) -> None:
    """A rolling update under traffic: callers see answers and refusals, never a lost task."""
    for number in range(2):
        env = {"AGENT_SHUTDOWN__GRACE_S": str(GRACE_S), "AGENT_TASKS__MAX_CONCURRENCY": "24"}
        async with running_agent_async(subject, env=env) as agent:
            shift = Shift(agent, f"round{number}")
            await shift.work_until_closed()

            assert shift.exit_code == 0
            assert shift.exit_took_s < GRACE_S
            assert (shift.first_ready_status, shift.first_ready_word) == (503, "draining")
            shift.assert_nothing_dropped(subject)
            assert_calm(agent)


async def test_a_worker_that_dies_while_the_agent_drains_is_replaced(subject: Path) -> None:
    """The budget is there to be used: what may run again does, and still has its answer."""
    env = {"AGENT_SHUTDOWN__GRACE_S": str(GRACE_S), "AGENT_TASKS__MAX_CONCURRENCY": "24"}
    async with running_agent_async(subject, env=env) as agent:
        shift = Shift(agent, "killed", mix={"mark": 4, "mark_items": 1, "mark_big": 1})
        await shift.work_until_closed(kill_worker=True)

        wait_until(lambda: agent.log_text.count("worker_ready") == 2)
        assert shift.exit_code == 0
        assert shift.exit_took_s < GRACE_S
        shift.assert_nothing_dropped(subject, attempts=2)
        assert_calm(agent)


async def test_results_that_are_still_being_checked_are_not_dropped(subject: Path) -> None:
    """A task that the worker has done is not done before its caller has the answer."""
    size, data = 1_000_000, subject / "runtime" / "data"
    arguments = ["-c", LATE_CHECKS, "run", str(subject)]
    async with (
        running_agent_async(subject, arguments=arguments) as agent,
        aiohttp.ClientSession() as session,
        asyncio.TaskGroup() as group,
    ):
        body = {"capability": "big", "input": {"size": size}}
        calls = [group.create_task(_post(session, agent, body)) for _ in range(3)]
        await asyncio.to_thread(wait_until, lambda: len(list(data.glob("check-*"))) == len(calls))
        tasks = (await asyncio.to_thread(agent.status))["tasks"]
        assert (tasks["working"], tasks["queued"], tasks["completed"]) == (0, 0, 0)

        os.kill(agent.pid, signal.SIGTERM)
        await asyncio.to_thread(wait_until, lambda: _tell_readiness(agent) == "draining")
        (data / "go-0").touch()
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0.5)  # a host that thinks that it has nothing to do would go on
        assert _tell_readiness(agent) == "draining"
        for number in (1, 2):
            (data / f"go-{number}").touch()
        for call in calls:
            status, got = await call
            assert status == 200
            assert got > size
        assert await asyncio.to_thread(agent.wait) == 0


def _tell_readiness(agent: RunningAgent) -> object:
    return agent.get("/readyz").json()["status"]


async def _post(
    session: aiohttp.ClientSession, agent: RunningAgent, body: Mapping[str, object]
) -> tuple[int, int]:
    async with session.post(f"{agent.url}/v1/tasks", json=body) as answer:
        return answer.status, len(await answer.read())


class Shift:
    """One round of load that ends with SIGTERM.

    Attributes:
        outcomes: orders that were answered, or refused with a problem.
        cut_off: orders whose connection ended without an answer.
        streams: the last event of every stream that was read.
        exit_code, exit_took_s: of the host, since the signal.
        first_ready_status, first_ready_word: what ``/readyz`` said right after the signal.
    """

    def __init__(self, agent: RunningAgent, prefix: str, *, mix: Mapping[str, int] = MIX) -> None:
        self._agent = agent
        self._orders: Iterator[Order] = write_orders(7, prefix, mix=mix, routes=ROUTES)
        self._is_closing = False
        self.outcomes: list[Outcome] = []
        self.cut_off: list[Order] = []
        self.streams: list[tuple[str, str]] = []
        self.exit_code: int | None = None
        self.exit_took_s = 0.0
        self.first_ready_status = 0
        self.first_ready_word = ""

    async def work_until_closed(self, *, kill_worker: bool = False) -> None:
        """Load the agent, send the signal, and wait until everyone has gone home.

        With ``kill_worker`` no streams are read, which would begin anew.
        """
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=60)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            asyncio.TaskGroup() as group,
        ):
            customer = Customer(session, self._agent.url)
            for _ in range(CLIENTS):
                group.create_task(self._order(customer))
            for _ in range(0 if kill_worker else READERS):
                group.create_task(self._read_streams(session))
            await asyncio.sleep(LOAD_S)
            await asyncio.to_thread(self._close, kill_worker=kill_worker)

    def assert_nothing_dropped(self, directory: Path, *, attempts: int = 1) -> None:
        """Every task that began has its answer, and what was refused never began."""
        marks = read_marks(directory)
        codes = Counter(outcome.code for outcome in self.outcomes)
        for outcome in self.outcomes:
            if outcome.code is None:
                assert outcome.order.fits(outcome.output), outcome
                assert 1 <= marks[outcome.order.token] <= attempts, outcome
            else:
                assert outcome.code == "draining", outcome
                assert marks[outcome.order.token] == 0, outcome
        assert [order for order in self.cut_off if marks[order.token]] == []
        assert codes[None] > CLIENTS
        assert codes["draining"] > 0
        assert set(self.streams) <= {("task", "completed")}
        assert self.streams or attempts > 1

    async def _order(self, customer: Customer) -> None:
        while True:
            (order,) = islice(self._orders, 1)
            try:
                outcome = await customer.place_once(order)
            except aiohttp.ClientConnectionError:
                self.cut_off.append(order)
                assert self._is_closing, order
                return
            self.outcomes.append(outcome)
            if outcome.code is not None:
                return

    async def _read_streams(self, session: aiohttp.ClientSession) -> None:
        while not self._is_closing:
            async with session.post(
                f"{self._agent.url}/v1/capabilities/count",
                json={"n": 200, "pause_s": 0.002},
                headers={"Accept": "text/event-stream"},
            ) as answer:
                if answer.status == 200:
                    self.streams.append(parse_last_event(await answer.read()))
                else:
                    assert answer.status == 503

    def _close(self, *, kill_worker: bool) -> None:
        self._is_closing = True
        if kill_worker:
            os.kill(self._agent.worker_pids[0], signal.SIGKILL)
        began_s = time.monotonic()
        os.kill(self._agent.pid, signal.SIGTERM)
        (ready,) = split_answers(
            exchange(self._agent, build("GET", "/readyz", headers=[("Connection", "close")]))
        )
        self.first_ready_status = ready.status
        self.first_ready_word = ready.json()["status"]
        self.exit_code = self._agent.wait()
        self.exit_took_s = time.monotonic() - began_s


def parse_last_event(raw: bytes) -> tuple[str, str]:
    """Return the kind of a stream's last event, and the state that its task ended in."""
    last = raw.strip().split(b"\n\n")[-1]
    fields = dict(line.split(": ", 1) for line in last.decode().splitlines())
    return fields["event"], json.loads(fields["data"])["state"]
