"""The worker as debug sessions see it: what runs, and no secret of it."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Iterator
from typing import cast

import pytest
import structlog

from kagent_sdk import Agent, TaskContext
from kagent_sdk.context import Flag, Secrets
from kagent_sdk.protocol.messages import Run
from kagent_sdk.worker.execution import execution_type
from kagent_sdk.worker.inspection import WorkerInspection, WorkerRedaction, with_members
from kagent_sdk.worker.loops import LoopRunner
from kagent_sdk.worker.output import LineStream
from kagent_sdk.worker.runtime import Runtime
from kagent_sdk.worker.structlog_setup import StructlogSetup, change_level
from tests.unit.worker.rig import Bench


@pytest.fixture
def root_level() -> Iterator[None]:
    """Put the level of the root logger, and structlog's defaults, back."""
    before = logging.getLogger().level
    yield
    logging.getLogger().setLevel(before)
    structlog.reset_defaults()


async def test_before_the_host_has_said_anything_there_is_nothing_to_see() -> None:
    """A session may come while the agent starts."""
    agent = Agent()
    loop = asyncio.get_running_loop()
    inspection = WorkerInspection(agent, Runtime(agent.parts), loop)

    assert inspection.agent is agent
    assert inspection.loop is loop
    assert inspection.tasks() == ()
    assert inspection.loops() == ()
    assert inspection.secret_names() == ()
    assert inspection.redact("hunter22") == "hunter22"


async def test_tasks_and_loops_are_seen_as_they_are() -> None:
    """Which task, for how long, how far, and in which job."""
    agent = Agent()
    bench = Bench()
    is_seen = asyncio.Event()

    @agent.capability
    async def work(ctx: TaskContext) -> None:
        await ctx.progress(0.5, "half")
        is_seen.set()
        await asyncio.sleep(1000)

    @agent.loop
    async def sweep() -> None: ...

    runtime = Runtime(agent.parts)
    runtime.services = bench.services
    runtime.loops = [LoopRunner(agent.parts.loops[0], bench.services, Flag())]
    inspection = WorkerInspection(agent, runtime, bench.loop)
    capability = agent.capabilities["work"]
    for number in (1, 2):
        run = Run(0, number, 60.0, f"task-{number}", "", b"{}", b"{}")
        task = execution_type(capability)(bench.services, number, capability, run)
        bench.services.running[number] = task
    first, second = bench.services.running.values()
    first.start()  # type: ignore[attr-defined]
    await is_seen.wait()
    one, two = inspection.tasks()

    assert (one.task, one.capability, one.attempt, one.state) == ("task-1", "work", 1, "working")
    assert one.progress == (0.5, "half")
    assert one.job is first.job
    assert one.started_at <= two.started_at
    assert (two.progress, two.job, two.thread) == (None, None, None)
    (loop,) = inspection.loops()
    assert (loop.name, loop.state, loop.runs) == ("sweep", "waiting", 0)
    second.cancel("caller")
    first.cancel("caller")
    assert {task.state for task in inspection.tasks()} == {"canceling"}
    job = first.job
    assert job is not None
    await asyncio.wait([job])


async def test_state_is_read_or_a_key_error() -> None:
    """A key that is not there is no empty value."""

    class FakeState:
        async def get(self, key: str, default: object) -> object:
            return {"there": None}.get(key, default)

    agent = Agent()
    parts = agent.parts
    parts.state._state = FakeState()  # type: ignore[assignment]
    inspection = WorkerInspection(agent, Runtime(parts), asyncio.get_running_loop())

    assert await inspection.state("there") is None
    with pytest.raises(KeyError):
        await inspection.state("elsewhere")


async def test_secrets_are_named_and_not_shown() -> None:
    """Whoever looks into an agent is not meant to read its keys in passing."""
    agent = Agent()
    bench = Bench()
    bench.services.secrets.replace({"db.password": "hunter22", "api": {"key": "correct horse"}})
    runtime = Runtime(agent.parts)
    runtime.services = bench.services
    inspection = WorkerInspection(agent, runtime, bench.loop)

    assert inspection.secret_names() == ("api", "db.password")
    assert inspection.redact("hunter22, correct horse") == "***db.password***, ***api.key***"


def test_a_rotation_is_followed_and_what_was_secret_stays_so() -> None:
    """An old password is often the new one's brother."""
    secrets = Secrets({"password": "hunter22"})
    redaction = WorkerRedaction()
    assert redaction.redact("hunter22 hunter33", secrets) == "***password*** hunter33"

    secrets.replace({"password": "hunter33"})

    assert redaction.redact("hunter22 hunter33", secrets) == "***password*** ***password***"


def test_members_of_a_json_secret_are_secret() -> None:
    """Numbers too; what only looks like JSON is left as it is."""
    values = {"a": '{"user": "someone", "pins": [123456, true, null]}', "b": "[no json"}

    found = with_members(values)

    assert found == values | {"a.user": "someone", "a.pins.0": "123456"}


@pytest.mark.usefixtures("root_level")
def test_the_level_of_logging_and_structlog_changes() -> None:
    """Details are wanted when something is wrong, without a restart that would mend it."""
    stream = io.StringIO()
    setup = StructlogSetup(cast("LineStream", stream), logging.INFO)
    structlog.reset_defaults()
    setup.configure()
    inspection = WorkerInspection(
        None, cast("Runtime", None), cast("asyncio.AbstractEventLoop", None)
    )

    inspection.set_log_level("debug")

    assert logging.getLogger().level == logging.DEBUG
    assert structlog.get_config()["wrapper_class"] is structlog.make_filtering_bound_logger(10)
    assert not structlog.is_configured()
    with pytest.raises(ValueError, match="LOUD"):
        inspection.set_log_level("loud")


@pytest.mark.usefixtures("root_level")
def test_a_structlog_of_the_authors_own_is_left_alone() -> None:
    """They have chosen what it writes."""
    wrapper = structlog.make_filtering_bound_logger(logging.ERROR)
    structlog.configure(processors=[structlog.processors.JSONRenderer()], wrapper_class=wrapper)

    change_level(logging.DEBUG)

    assert structlog.get_config()["wrapper_class"] is wrapper
