"""`kagent_sdk.testing.AgentProcess`: a real agent, and faults that did happen."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from kagent_sdk import TaskError
from kagent_sdk.testing import AgentFailedError, AgentProcess

KIT = Path(__file__).parent / "kit"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def process() -> AsyncIterator[AgentProcess]:
    """Run one agent for the tests of this file that leave it as it was."""
    async with AgentProcess(KIT, secrets={"key": "first"}) as running:
        yield running


async def test_it_is_called_as_its_users_call_it(process: AgentProcess) -> None:
    """Outputs, streams, errors, tasks, the status and the log."""
    assert await process.call("greet", name="Ada") == "Hello, Ada!"
    assert await process.call("count", {"to": 3}) == [0, 1, 2]
    assert [item async for item in process.stream("count", to=3)] == [0, 1, 2]
    with pytest.raises(TaskError, match="there is nobody") as caught:
        await process.call("greet", name="")
    error = caught.value
    assert (error.code, error.status, error.details) == ("nobody", 418, {"n": 1})
    with pytest.raises(TaskError, match="nothing to count"):
        [item async for item in process.stream("count", to=0)]
    with pytest.raises(TaskError) as unknown:
        [item async for item in process.stream("counts", to=0)]
    assert unknown.value.code == "unknown_capability"

    await process.tasks.submit("greet", {"name": "Bob"}, id="t-1", metadata={"user": "x"})
    task = await process.tasks.wait("t-1")
    assert (task["state"], task["output"], task["metadata"]) == (
        "completed",
        "Hello, Bob!",
        {"user": "x"},
    )
    assert "t-1" in [each["id"] for each in await process.tasks.list()]
    assert (await process.status())["agent"]["name"] == "kit"
    assert (await process.wait_logged("worker_ready"))["level"] == "info"
    with pytest.raises(TaskError) as missing:
        await process.tasks.get("t-2")
    assert missing.value.code == "unknown_task"


async def test_a_task_is_cancelled(process: AgentProcess) -> None:
    """And returned as it has ended."""
    await process.tasks.submit("hang", id="c-1")

    assert (await process.tasks.cancel("c-1"))["state"] == "canceled"


async def test_the_workers_death_is_survived(process: AgentProcess) -> None:
    """What was idempotent and at work is done by the next worker."""
    await process.tasks.submit("hang", id="k-1")
    pid = await process.kill_worker()

    assert await process.worker_pid() != pid
    assert (await process.tasks.wait("k-1"))["output"] == 2
    assert process.logs("worker_crashed", worker_pid=pid)


async def test_a_loop_stands_still_and_goes_on(process: AgentProcess) -> None:
    """The host has noticed, and probes were answered all the time."""
    async with process.faults.blocked_loop() as pid:
        assert psutil.Process(pid).status() == psutil.STATUS_STOPPED
        status, _ = await process.request("GET", "/healthz")
        assert status == 200

    assert process.logs("worker_stalled", worker_pid=pid)
    assert await process.call("greet", name="Ada") == "Hello, Ada!"
    assert await process.worker_pid() == pid


async def test_a_task_that_is_delivered_thrice_runs_once(process: AgentProcess) -> None:
    """At the same time, and after its end."""
    deliveries = await process.faults.deliver_twice("mark", id="d-1")

    assert deliveries.is_one
    assert len(deliveries.answers) == 3
    assert (process.folder / "runtime/data/runs").read_text() == "d-1\n"


async def test_a_rotated_vault_is_taken(process: AgentProcess) -> None:
    """The next task sees the new secret."""
    assert await process.call("reveal") == "first"
    generation = await process.faults.rotate_vault({"key": "second"})

    assert generation == 2
    assert await process.call("reveal") == "second"


async def test_a_full_disk_refuses_durable_tasks_alone(process: AgentProcess) -> None:
    """And is over when the block is."""
    async with process.faults.full_disk():
        with pytest.raises(TaskError) as caught:
            await process.tasks.submit("greet", {"name": "Ada"}, id="f-1")
        assert await process.call("greet", name="Ada") == "Hello, Ada!"

    assert (caught.value.code, caught.value.retryable) == ("journal_unavailable", True)
    assert process.logs("journal_failed")
    await process.tasks.submit("greet", {"name": "Ada"}, id="f-2")
    assert (await process.tasks.wait("f-2"))["state"] == "completed"


async def test_sigterm_in_mid_task_and_a_torn_state_file_lose_no_more_than_they_must() -> None:
    """A task that may run again does after the start; half of a state is put aside, and said."""
    async with AgentProcess(KIT, secrets={"key": "k"}) as process:
        await process.call("remember", key="k", value=7)
        await process.tasks.submit("hang", id="s-1")
        interruption = await process.faults.terminate_during("s-1")
        assert (interruption.task["state"], interruption.exit_code) == ("working", 0)
        half = process.faults.tear_state_file(with_database=False)
        with pytest.raises(json.JSONDecodeError):
            json.loads(half.after)
        await process.start()
        assert (await process.tasks.wait("s-1"))["output"] == 2
        assert await process.call("recall", key="k") == 7
        await process.wait_logged("state_file_put_aside")
        with pytest.raises(RuntimeError, match="stop the agent first"):
            process.faults.tear_state_file()
        await process.terminate()

        torn = process.faults.tear_state_file()
        assert torn.before.startswith(torn.after)
        await process.start()
        assert await process.call("recall", key="k") is None
        await process.wait_logged("state_begins_empty")


async def test_an_agent_that_does_not_start_is_shown_with_why(tmp_path: Path) -> None:
    """And nothing of it is left."""
    (tmp_path / "entrypoint.py").write_text("raise OSError('no such luck')\n")
    process = AgentProcess(tmp_path, config={"worker": {"crash_limit": 1}})

    with pytest.raises(AgentFailedError, match="no such luck"):
        await process.__aenter__()
    assert process.host.processes() == []
    assert not process.folder.exists()


async def test_an_agent_that_ends_unasked_fails_the_test() -> None:
    """A test that never noticed proves nothing; nothing is left of it, whatever it has started."""
    process = AgentProcess(KIT, secrets={"key": "k"}, environ={"AGENT_TASKS__MAX_QUEUE": "3"})
    await process.__aenter__()
    folder = process.folder
    os.kill(process.host.pid, signal.SIGKILL)
    await process.wait_until(lambda: process.exit_code is not None)

    with pytest.raises(AgentFailedError, match="exit code -9"):
        await process.__aexit__(None, None, None)
    assert not folder.exists()
    assert process.host.processes() == []
