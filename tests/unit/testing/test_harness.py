"""Tests of `kagent_sdk.testing.harness`: what holds in production holds in a test."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog

from kagent_sdk import Agent, ConfigError, StartupError, TaskError
from kagent_sdk.testing import AgentHarness, Clock, MadeCall, Progress
from kagent_sdk.testing.clock import ClockError
from tests.unit.testing.subject import Document, make_agent


async def failure_of(work: Any) -> TaskError:
    """Return what a call fails with."""
    with pytest.raises(TaskError) as caught:
        await work
    return caught.value


async def test_a_call_is_validated_on_both_sides() -> None:
    """JSON in, JSON out, or the models; by name, or as a whole."""
    async with AgentHarness(make_agent()) as harness:
        assert await harness.call("upper", {"text": "a"}) == {"text": "A"}
        assert await harness.call("upper", Document(text="a")) == {"text": "A"}
        assert await harness.call("upper", text="a", output=Document) == Document(text="A")
        assert await harness.call("double", number=21) == 42
        assert await harness.call("count", to=3) == [0, 1, 2]
        with pytest.raises(TypeError, match="not both"):
            await harness.call("upper", {}, text="a")


async def test_errors_are_those_of_production() -> None:
    """Their codes, statuses and details are what a caller over HTTP gets."""
    async with AgentHarness(make_agent()) as harness:
        invalid = await failure_of(harness.call("upper", {}))
        own = await failure_of(harness.call("fail", code="out_of_paper"))
        bug = await failure_of(harness.call("crash"))
        unknown = await failure_of(harness.call("uper"))
        missing = await failure_of(harness.call("reveal", name="key"))

        assert (invalid.code, invalid.status) == ("invalid_input", 422)
        assert invalid.details == [{"loc": ["text"], "msg": "Field required", "type": "missing"}]
        assert (own.code, own.message, own.retryable, own.details, own.status) == (
            "out_of_paper",
            "as asked",
            True,
            {"n": 1},
            418,
        )
        assert (bug.code, bug.message) == ("internal_error", "ValueError: unforeseen")
        assert (unknown.code, unknown.status) == ("unknown_capability", 404)
        assert "did you mean 'upper'?" in unknown.message
        assert missing.code == "internal_error"
        # The traceback is for the log alone.
        assert "ValueError: unforeseen" in harness.logs[0]["exception"]


async def test_a_running_task_is_cancelled_as_its_caller_would() -> None:
    """It has said how far it is, and what it logged is there."""
    async with AgentHarness(make_agent()) as harness:
        task = await harness.start("wait")
        assert (task.state, task.attempt, task.error) == ("working", 1, None)
        assert task.progress == [Progress(0.5, "halfway")]

        assert await task.cancel() == "canceled"

        error = await failure_of(task.result())
        assert error.code == "canceled"
        assert task.error is not None
        waits = harness.logged("waits", why="to be cancelled")
        assert waits[0]["task_id"] == task.id
        assert harness.logged("said with logging", logger="subject", capability="wait")
        assert "canceled" in repr(task)


async def test_a_deadline_passes_when_the_test_says_so() -> None:
    """The shorter of the caller's and the capability's own; nobody waits for a minute."""
    async with AgentHarness(make_agent()) as harness:
        own, asked = await harness.start("wait"), await harness.start("wait", timeout_s=5)
        await harness.advance(4)
        assert (own.state, asked.state) == ("working", "working")
        await harness.advance(2)
        assert (own.state, asked.state) == ("working", "failed")
        await harness.advance(60)

        assert (await failure_of(own.result())).code == "timeout"
        assert (await failure_of(asked.result())).message == "not finished within 5 s"


async def test_a_stream_is_read_as_it_comes_and_again() -> None:
    """Also by a reader that comes late; a thousand items pass the window of 256."""
    async with AgentHarness(make_agent()) as harness:
        task = await harness.start("count", to=1000)
        early = [item async for item in task.events()]
        late = [item async for item in task.events()]

        assert early == late == list(range(1000)) == await task.result(list[int])


async def test_the_state_is_committed_with_the_task_or_not_at_all() -> None:
    """The test can look at it, and say what it begins with."""
    async with AgentHarness(make_agent(), state={"ada": 41}) as harness:
        assert await harness.call("visit", name="ada") == 42
        await failure_of(harness.call("visit", name="ada", give_up=True))

        assert await harness.state.get("ada") == 42
        assert await harness.state.get("starts") == 1


async def test_tasks_that_conflict_run_again() -> None:
    """As with the database of a real agent: no visit is lost."""
    async with AgentHarness(make_agent()) as harness:
        calls = [harness.call("visit", name="ada") for _ in range(10)]
        assert sorted(await asyncio.gather(*calls)) == list(range(1, 11))


async def test_keys_of_the_state_expire_by_the_clock() -> None:
    """A day's `ttl_s` takes no day to test."""
    at = datetime(2030, 1, 1, tzinfo=UTC)
    async with AgentHarness(make_agent(), clock=Clock(at)) as harness:
        await harness.call("remember", key="k", ttl_s=86400)
        await harness.advance(86300)
        assert await harness.state.get("k") == 1
        await harness.advance(200)

        assert await harness.state.get("k") is None
        assert (harness.clock.now() - at).total_seconds() == pytest.approx(86500, abs=5)
    assert harness.clock.now().year == 2030


async def test_loops_run_one_turn_at_a_time_or_by_the_clock() -> None:
    """By themselves only when they are asked to; a turn that raises tells the test."""
    agent = make_agent()
    async with AgentHarness(agent) as harness:
        await harness.advance(100)
        assert await harness.state.get("sweeps", 0) == 0
        await harness.run_loop("sweep")
        assert await harness.state.get("sweeps") == 1
        with pytest.raises(RuntimeError, match="no luck"):
            await harness.run_loop("break_down")
        with pytest.raises(LookupError, match="there is 'sweep', 'break_down'"):
            await harness.run_loop("sweeep")
    async with AgentHarness(agent, loops=True) as harness:
        await harness.advance(95)
        assert await harness.state.get("sweeps") == 4


async def test_secrets_are_given_and_rotated() -> None:
    """The agent is told, as by a vault that was replaced."""
    async with AgentHarness(make_agent(), secrets={"key": "old"}) as harness:
        assert await harness.call("reveal", name="key") == "old"
        await harness.rotate_secrets({"key": "new", "other": "x"})

        assert await harness.call("reveal", name="key") == "new"
        assert await harness.state.get("secrets") == ["key", "other"]


async def test_calls_to_itself_run_and_to_others_are_scripted() -> None:
    """Values, functions of the input, plain or async, and failures; all of them are noted."""

    async def later(input: dict[str, str]) -> str:
        await asyncio.sleep(0)
        return input["text"] * 2

    async def items(_input: object) -> AsyncIterator[int]:
        yield 1
        yield 2

    async with AgentHarness(make_agent()) as harness:
        assert await harness.call("ask", target="upper") == {"text": "A"}
        assert harness.calls == []
        alone = await failure_of(harness.call("ask", target="other/value"))
        harness.answer("other/value", [1, 2])
        harness.answer("other/later", later)
        harness.answer("anyone", lambda input: input)
        harness.answer("other/items", items)
        harness.answer("other/no", TaskError("closed", "on Sundays"))

        assert alone.code == "unreachable"
        assert await harness.call("ask", target="other/value") == [1, 2]
        assert await harness.call("listen", target="other/value") == [1, 2]
        assert await harness.call("ask", target="other/later") == "aa"
        assert await harness.call("ask", target="anyone") == {"text": "a"}
        assert await harness.call("listen", target="other/items") == [1, 2]
        assert await harness.call("ask", target="other/items") == [1, 2]
        assert (await failure_of(harness.call("ask", target="other/no"))).code == "closed"
        forgotten = await failure_of(harness.call("ask", target="other/more"))
        assert "harness.answer('other/more', …) does" in forgotten.message
        made = harness.calls[0]
        assert isinstance(made, MadeCall)
        assert (made.agent, made.capability, made.input) == ("other", "value", {"text": "a"})


async def test_the_same_id_is_the_same_task() -> None:
    """Delivered twice, before and after its end: one run, one answer."""
    async with AgentHarness(make_agent()) as harness:
        tasks = [await harness.start("visit", id="v-1", name="ada") for _ in range(2)]
        assert [await task.result() for task in tasks] == [1, 1]
        again = await harness.start("visit", id="v-1", name="ada")
        assert (await again.result(), again.id, again.attempt) == (1, "v-1", 1)

        other = await failure_of(harness.start("visit", id="v-1", name="bob"))
        assert other.code == "id_conflict"
        assert await harness.state.get("ada") == 1


async def test_a_lost_worker_costs_an_idempotent_task_an_attempt() -> None:
    """All others fail, and the agent starts again."""
    async with AgentHarness(make_agent()) as harness:
        once, again = await harness.start("wait"), await harness.start("persist")
        await harness.crash_worker()

        assert await again.result() == 2
        assert (await failure_of(once.result())).code == "worker_crashed"
        assert await harness.state.get("starts") == 2
        assert await harness.call("double", number=1) == 2


async def test_a_task_that_ignores_its_cancellation_costs_the_worker() -> None:
    """By the same ladder as in production: asked, asked harder, and then the worker is replaced."""
    agent = make_agent()
    asked = 0

    @agent.capability
    async def ignore() -> None:
        nonlocal asked
        while asked < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                asked += 1

    async with AgentHarness(agent) as harness:
        task = await harness.start("ignore")
        cancelling = asyncio.create_task(task.cancel())
        await harness.advance(3)
        assert (asked, task.state) == (1, "working")
        await harness.advance(3)
        assert (asked, task.state) == (2, "working")
        await harness.advance(5)

        assert await cancelling == "canceled"
        assert asked == 3
        assert await harness.call("double", number=1) == 2
        assert await harness.state.get("starts") == 2


async def test_a_call_that_is_given_up_cancels_its_task() -> None:
    """As a caller who hangs up does."""
    async with AgentHarness(make_agent()) as harness:
        call = asyncio.create_task(harness.call("wait"))
        await harness.advance(0)
        assert harness.logged("waits")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

        assert not harness._running.services.running


async def test_metadata_reaches_the_task() -> None:
    """As a caller sends it along."""
    async with AgentHarness(make_agent()) as harness:
        told = await harness.call("tell", metadata={"user": "ada"})

        assert told["metadata"] == {"user": "ada"}


async def test_the_configuration_counts(tmp_path: Path) -> None:
    """Of a mapping, or of a folder with its config.yaml; one that is none is refused."""
    (tmp_path / "config.yaml").write_text("name: filed\ntasks:\n  default_timeout_s: 7\n")
    agent = Agent()

    @agent.capability
    async def hang() -> None:
        await asyncio.Event().wait()

    async with AgentHarness(agent, config=tmp_path) as harness:
        task = await harness.start("hang")
        await harness.advance(8)
        assert task.state == "failed"
    async with AgentHarness(
        agent, config={"tasks": {"max_concurrency": 1, "max_queue": 0}}
    ) as harness:
        await harness.start("hang")
        assert (await failure_of(harness.call("hang"))).code == "queue_full"
    with pytest.raises(ConfigError, match=r"tasks\.max_queueing"):
        AgentHarness(agent, config={"tasks": {"max_queueing": 1}})


async def test_a_start_that_fails_is_the_tests_to_see() -> None:
    """With what was raised as its cause; nothing stays behind, and another try is free."""
    agent = Agent("subject")
    faults = [OSError("no network")]

    @agent.on_startup
    def begin() -> None:
        if faults:
            raise faults[0]

    @agent.capability
    async def here() -> bool:
        return True

    with pytest.raises(StartupError, match="OSError: no network") as caught:
        await AgentHarness(agent).__aenter__()
    assert caught.value.__cause__ is faults.pop()
    async with AgentHarness(agent) as harness:
        assert await harness.call("here")
        with pytest.raises(StartupError, match="runs already"):
            await AgentHarness(agent).__aenter__()
        assert await harness.call("here")


async def test_what_is_not_open_says_so() -> None:
    """Before the block and after it."""
    harness = AgentHarness(make_agent())
    with pytest.raises(RuntimeError, match="async with"):
        await harness.call("double", number=1)
    with pytest.raises(ClockError, match="not open"):
        await harness.advance(1)
    with pytest.raises(ClockError, match="none is"):
        await Clock().advance(1)
    async with harness:
        with pytest.raises(ValueError, match="does not go back"):
            await harness.advance(-1)
        with pytest.raises(ClockError, match="one harness at a time"):
            await AgentHarness(make_agent(), clock=harness.clock).__aenter__()


async def test_two_agents_side_by_side_keep_to_their_own() -> None:
    """Logs, states and jobs, also when the first one ends first."""
    first, second = AgentHarness(make_agent()), AgentHarness(make_agent())
    await first.__aenter__()
    await second.__aenter__()
    await (await first.start("wait")).cancel()
    await first.__aexit__(None, None, None)
    await second.call("visit", name="ada")
    task = await second.start("wait")
    await second.__aexit__(None, None, None)

    assert len(first.logged("waits")) == len(second.logged("waits")) == 1
    assert second.logged("waits", task_id=task.id)
    assert asyncio.get_running_loop().get_task_factory() is None
    assert "time" not in vars(asyncio.get_running_loop())
    assert task.state == "canceled"


@pytest.mark.parametrize("configure", [None, lambda: structlog.configure(processors=[])])
async def test_nothing_is_left_behind(configure: Callable[[], None] | None) -> None:
    """Jobs, threads, logging, structlog, stdout and the loop itself are as they were."""
    if configure is not None:
        configure()
    loop = asyncio.get_running_loop()

    def everything() -> dict[str, object]:
        return {
            "jobs": asyncio.all_tasks(),
            "factory": loop.get_task_factory(),
            "time": vars(loop).get("time"),
            "root": (logging.getLogger().handlers[:], logging.getLogger().level),
            "basic": logging.basicConfig,
            "structlog": (structlog.is_configured(), structlog.get_config()),
            "streams": (sys.stdout, sys.stderr, sys.excepthook, threading.excepthook),
            "finders": sys.meta_path[:],
        }

    agent = make_agent()
    stray: list[asyncio.Task[None]] = []

    @agent.capability
    async def stray_off() -> None:
        stray.append(asyncio.create_task(asyncio.sleep(3600)))

    before = everything()
    threads = set(threading.enumerate())
    async with AgentHarness(agent, loops=True) as harness:
        await harness.call("double", number=1)
        await harness.call("stray_off")
        task = await harness.start("wait")

    left = [thread for thread in set(threading.enumerate()) - threads if thread.is_alive()]
    for thread in left:
        thread.join(10)
    structlog_after = everything()
    structlog.reset_defaults()
    assert structlog_after == before
    assert stray[0].cancelled()
    assert task.state == "canceled"
    assert agent.ended  # type: ignore[attr-defined]
    assert agent.parts.state.requests is None
    assert not [thread for thread in left if thread.is_alive()]


async def test_a_thousand_calls_are_nothing() -> None:
    """A suite may call as often as it likes: `benchmarks/harness.py` measures it."""
    async with AgentHarness(make_agent()) as harness:
        for number in range(1000):
            assert await harness.call("upper", text=f"a{number}") == {"text": f"A{number}"}
