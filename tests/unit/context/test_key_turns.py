"""Those that change one key do it in turn."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

import pytest

from kagent_sdk.context.key_turns import KeyTurns
from kagent_sdk.context.pending import Pending, Steps
from kagent_sdk.context.state import State
from kagent_sdk.context.state_access import DirectAccess
from kagent_sdk.protocol.state import Answer
from tests.unit.context.fake_host import FakeHost


class Works:
    """Works on keys, which note that they begin and wait until they may end."""

    def __init__(self) -> None:
        self.turns = KeyTurns()
        self.begun: list[str] = []
        self.gates: dict[str, Future[Answer]] = {}

    def start(self, key: str, name: str) -> asyncio.Future[None]:
        """Start one."""
        self.gates[name] = Future()
        pending = Pending(self.turns.run(key, self._steps(name)), at_once=False)
        return asyncio.ensure_future(pending)

    def end(self, name: str) -> None:
        """Let one end."""
        self.gates[name].set_result(Answer(None, 1, None, 0))

    def _steps(self, name: str) -> Steps[None]:
        self.begun.append(name)
        yield self.gates[name]


async def settle() -> None:
    """Let the loop turn until nothing happens any more."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_key_is_changed_by_one_after_the_other() -> None:
    """In the order in which they came; other keys do not wait."""
    works = Works()
    jobs = [works.start("a", "first"), works.start("a", "second"), works.start("b", "other")]
    await settle()
    assert works.begun == ["first", "other"]
    works.end("other")
    works.end("first")
    await settle()
    assert works.begun == ["first", "other", "second"]
    works.end("second")
    await asyncio.gather(*jobs)

    assert works.turns._queues == {}


@pytest.mark.parametrize("order", [("first", "second"), ("second", "first")])
async def test_one_that_is_cancelled_leaves_the_queue(order: tuple[str, str]) -> None:
    """Whether it is its turn or not, or both go at once."""
    works = Works()
    jobs = {name: works.start("a", name) for name in ("first", "second", "third")}
    await settle()
    for name in order:
        jobs[name].cancel()
    await settle()
    works.end("third")
    await jobs["third"]

    assert works.begun[-1] == "third"
    assert works.turns._queues == {}


async def test_one_that_fails_leaves_the_queue() -> None:
    """An author's function may raise anything."""
    works = Works()
    jobs = [works.start("a", "first"), works.start("a", "second")]
    await settle()
    works.gates["first"].set_exception(ValueError())
    works.end("second")

    with pytest.raises(ValueError):  # noqa: PT011 - any will do
        await jobs[0]
    await jobs[1]


async def test_many_updates_of_one_key_cost_one_commit_each() -> None:
    """Without turns, two hundred take five thousand."""
    host = FakeHost(is_prompt=False)
    state = State(DirectAccess(host))
    jobs = [
        asyncio.ensure_future(state.update("n", lambda number: number + 1, default=0))
        for _ in range(200)
    ]
    while not all(job.done() for job in jobs):
        host.answer(host.waiting)
        await asyncio.sleep(0)

    assert len(host.commits) == 200
    assert host.values == {"n": b"200"}


async def test_updates_may_be_awaited_in_any_order() -> None:
    """One that was begun and is not awaited holds up nobody."""
    state = State(DirectAccess(FakeHost()))
    first, second = (state.update("n", lambda number: number + 1, default=0) for _ in range(2))

    assert [await second, await first] == [1, 2]


def test_a_function_that_waits_for_the_state_is_told_so() -> None:
    """It would wait for itself."""
    state = State(DirectAccess(FakeHost()))

    def change(number: int) -> int:
        return int(state.update("n", lambda _: 1).result()) + number

    with pytest.raises(RuntimeError, match=r"the function of update\('n'\) must not wait"):
        state.update("n", change, default=0).result()
    assert state.update("n", lambda number: number + 1, default=0).result() == 1
