"""The state of a real agent: many tasks on many workers, one memory."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from textwrap import dedent

import pytest

from tests.agents import RunningAgent, running_agent
from tests.integration.waiting import wait_until

ACCOUNTS = 5
START = 100

BANK = f"""
    import os, signal
    from kagent_sdk import Agent, LoopContext, StateConflictError, StateQuotaError, TaskContext

    agent = Agent()

    @agent.on_startup
    async def begin() -> None:
        async with agent.state.transaction() as state:
            for number in range({ACCOUNTS}):
                await state.compare_and_set(f"accounts/{{number}}", None, {START})

    @agent.capability(idempotent=True)
    async def transfer(source: int, target: int, amount: int, ctx: TaskContext) -> None:
        await ctx.state.update(f"accounts/{{source}}", lambda old: old - amount)
        await ctx.state.update(f"accounts/{{target}}", lambda old: old + amount)
        await ctx.state.set(f"log/{{ctx.task_id}}", amount)

    @agent.capability(idempotent=True)
    def transfer_in_thread(source: int, target: int, amount: int, ctx: TaskContext) -> None:
        taken = ctx.state.get(f"accounts/{{source}}").result()
        ctx.state.set(f"accounts/{{source}}", taken - amount)
        given = ctx.state.get(f"accounts/{{target}}").result()
        ctx.state.set(f"accounts/{{target}}", given + amount)
        ctx.state.set(f"log/{{ctx.task_id}}", amount)

    @agent.capability
    async def total(ctx: TaskContext) -> int:
        found = await ctx.state.items("accounts/")
        await ctx.state.set("total", sum(balance for _, balance in found))
        return await ctx.state.get("total")

    @agent.capability
    async def all_items() -> dict[str, int]:
        return {{key: value async for key, value in agent.state.items()}}

    @agent.capability
    async def count_outside(times: int) -> int:
        for _ in range(times):
            await agent.state.update("outside", lambda old: old + 1, default=0)
        return await agent.state.get("outside")

    @agent.capability
    async def die(ctx: TaskContext) -> None:
        await ctx.state.set("died", 1)
        await agent.state.set("outlived", 1)
        os.kill(os.getpid(), signal.SIGKILL)

    @agent.capability
    async def fill(ctx: TaskContext) -> str:
        try:
            await agent.state.set("big", "x" * 1_000_000)
        except StateQuotaError as error:
            await ctx.state.set("note", 1)
            return type(error).__name__
        return "done"

    @agent.capability
    async def overfill(ctx: TaskContext) -> None:
        await ctx.state.set("big", "x" * 1_000_000)

    @agent.loop(every_s=0.05)
    async def audit(ctx: LoopContext) -> None:
        try:
            async with ctx.state.transaction() as state:
                found = await state.items("accounts/")
                total = sum(balance for _, balance in found)
                if total != {ACCOUNTS * START}:
                    await state.set("audit/wrong", total)
                else:
                    await state.update("audit/right", lambda old: old + 1, default=0)
        except StateConflictError:
            pass

    if __name__ == "__main__":
        agent.run()
"""


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    """An agent with two workers, whose quota is small."""
    folder = tmp_path_factory.mktemp("state") / "bank"
    folder.mkdir()
    (folder / "entrypoint.py").write_text(dedent(BANK))
    env = {"AGENT_WORKER__COUNT": "2", "AGENT_STATE__QUOTA_BYTES": "100000"}
    with running_agent(folder, env=env) as running:
        yield running


def test_nothing_is_lost_between_tasks_that_change_the_same(bank: RunningAgent) -> None:
    """Every transfer happens once, whole, whoever came between; loops see no half of one."""
    chance = random.Random(4711)  # noqa: S311 - the same transfers each time
    orders = [
        {
            "capability": chance.choice(["transfer", "transfer_in_thread"]),
            "id": f"order-{number}",
            "input": {
                "source": chance.randrange(ACCOUNTS),
                "target": chance.randrange(ACCOUNTS),
                "amount": chance.randrange(1, 9),
            },
        }
        for number in range(120)
    ]
    with ThreadPoolExecutor(12) as pool:
        tasks = list(pool.map(lambda order: bank.post("/v1/tasks", order).json(), orders))
    assert {task["state"] for task in tasks} == {"completed"}
    items = bank.call("all_items")
    expected = [START] * ACCOUNTS
    for order in orders:
        transfer = order["input"]
        assert isinstance(transfer, dict)
        expected[transfer["source"]] -= transfer["amount"]
        expected[transfer["target"]] += transfer["amount"]

    assert [items[f"accounts/{number}"] for number in range(ACCOUNTS)] == expected
    assert len([key for key in items if key.startswith("log/")]) == len(orders)
    assert max(task["attempt"] for task in tasks) > 1, "nothing has ever conflicted"
    assert bank.call("total") == ACCOUNTS * START
    wait_until(lambda: bank.call("all_items").get("audit/right", 0) > 0)
    assert "audit/wrong" not in bank.call("all_items")


def test_updates_outside_of_tasks_count_each(bank: RunningAgent) -> None:
    """Also from two workers at once."""
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda _: bank.call("count_outside", {"times": 20}), range(8)))

    assert max(counts) == 160


def test_a_task_whose_worker_dies_has_changed_nothing(bank: RunningAgent) -> None:
    """What it has done outside of its own transaction stays."""
    answer = bank.post("/v1/capabilities/die", {})
    assert answer.json()["code"] == "worker_crashed"
    bank.wait_ready()
    items = bank.call("all_items")

    assert items["outlived"] == 1
    assert "died" not in items


def test_a_full_state_is_an_error_and_changes_nothing(bank: RunningAgent) -> None:
    """In the author's code, and as the end of a task."""
    assert bank.call("fill") == "StateQuotaError"
    answer = bank.post("/v1/capabilities/overfill", {})
    assert (answer.status, answer.json()["code"]) == (507, "state_quota_exceeded")
    items = bank.call("all_items")

    assert items["note"] == 1
    assert "big" not in items
