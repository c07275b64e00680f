"""What is kept of tasks, for how long, and that memory keeps nothing of what has ended."""

from __future__ import annotations

import gc

import pytest

from kagent_sdk.orchestrator.agents import Agents
from kagent_sdk.orchestrator.reports import ReportIn
from kagent_sdk.orchestrator.settings import BrokerLimits
from kagent_sdk.orchestrator.task import Ending, OpenTask
from kagent_sdk.protocol.link import ReportAnswer
from kagent_sdk.protocol.problem import RequestError
from kagent_sdk.protocol.tasks import TaskState
from tests.unit.orchestrator.meshes import FakeMesh, fake_mesh, registration, submission


async def finish(mesh: FakeMesh, task: OpenTask, output: bytes = b"1") -> str:
    """Let the agent report the end of a task; return what became of the report."""
    answer = await tell(mesh.agents, task, b'{"state":"completed","output":%b}' % output)
    return answer.reason or answer.outcome


async def tell(
    agents: Agents, task: OpenTask, payload: bytes, *, is_result: bool = True
) -> ReportAnswer:
    """Let the agent report something of a task."""
    assert task.record.lease is not None
    report = ReportIn("r", task.id, task.record.lease, is_result, payload)
    (answer,) = await agents.report("a".ljust(16, "-"), [report])
    return answer


async def test_an_ended_task_leaves_nothing_in_memory() -> None:
    """An orchestrator runs for months: what it holds must not grow with what it has done."""
    async with fake_mesh() as mesh:
        mesh.agents.register(registration())
        for number in range(50):
            assert await finish(mesh, await mesh.submit(f"t{number}")) == "taken"
        gc.collect()
        alive = [found for found in gc.get_objects() if issubclass(type(found), OpenTask)]
        kept = await mesh.book.find("t0")

    assert alive == []
    assert kept is not None
    assert (kept.record.state.value, kept.record.output) == ("completed", b"1")


async def test_ended_tasks_beyond_the_bounds_go_the_oldest_first() -> None:
    """The disk is bounded too."""
    async with fake_mesh(BrokerLimits(retention_count=20)) as mesh:
        mesh.agents.register(registration())
        for number in range(30):
            await finish(mesh, await mesh.submit(f"t{number}"))
            mesh.clock.go(1)
        await mesh.settle()
        found = [await mesh.book.is_kept(f"t{number}") for number in (0, 29)]

    assert found == [False, True]
    assert mesh.book.kept <= 21


async def test_one_end_counts_and_duplicates_are_told_so() -> None:
    """Two reports of the same end in one message: an outbox sends again what it is not sure of."""
    async with fake_mesh() as mesh:
        mesh.agents.register(registration())
        task = await mesh.submit("t")
        lease = task.record.lease or ""
        report = ReportIn("r", "t", lease, True, b'{"state":"completed","output":1}')  # noqa: FBT003
        other = ReportIn("s", "t", lease, True, b'{"state":"completed","output":2}')  # noqa: FBT003
        answers = await mesh.agents.report("a".ljust(16, "-"), [report, other])

        assert [answer.reason for answer in answers] == [None, "ended"]
        assert task.record.output == b"1"
        assert mesh.counters.duplicates == 1
        assert await finish(mesh, task) == "ended"


async def test_events_are_bounded_and_counted_once() -> None:
    """A chatty task costs its own oldest events, and not the disk."""
    async with fake_mesh(BrokerLimits(max_events=5)) as mesh:
        mesh.agents.register(registration())
        task = await mesh.submit("t")
        for number in (*range(1, 9), 8, 7):
            payload = b'{"id":%d,"event":"event","data":%d}' % (number, number)
            answer = await tell(mesh.agents, task, payload, is_result=False)
            assert answer.outcome == "taken"
        events = await mesh.book.events(task, 0)

    assert [(event.id, event.data) for event in events] == [
        (number, b"%d" % number) for number in range(4, 9)
    ]
    assert mesh.counters.duplicates == 2


async def test_another_attempt_goes_on_with_the_stream() -> None:
    """The agent's ids begin anew, the caller's do not."""
    async with fake_mesh() as mesh:
        mesh.agents.register(registration())
        task = await mesh.submit("t")
        await tell(mesh.agents, task, b'{"id":1,"event":"event","data":1}', is_result=False)
        mesh.leases.lose(task, may_be_taken=True)
        await mesh.settle()
        await tell(mesh.agents, task, b'{"id":1,"event":"event","data":2}', is_result=False)
        events = await mesh.book.events(task, 0)

    assert [(event.id, event.data) for event in events] == [(1, b"1"), (2, b"2")]


async def test_a_disk_that_does_not_take_a_task_is_told_and_forgets_it() -> None:
    """What was never acknowledged is offered to nobody."""
    async with fake_mesh() as mesh:
        mesh.agents.register(registration())
        await mesh.storage.aclose()
        with pytest.raises(RequestError) as caught:
            await mesh.broker.submit(submission("t"))

        assert (caught.value.problem.status, caught.value.problem.code) == (
            503,
            "journal_unavailable",
        )
        assert mesh.book.open == {}
        assert mesh.courier.offers == []


@pytest.mark.parametrize("limits", [{"max_open": 2}, {"max_open_bytes": 100}], ids=str)
async def test_tasks_that_an_agent_has_taken_are_bounded_too(limits: dict[str, int]) -> None:
    """One that takes everything and does nothing would fill the memory of the orchestrator."""
    async with fake_mesh(BrokerLimits(**limits)) as mesh:
        mesh.agents.register(registration(max_concurrency=1000))
        task = await mesh.submit("a", input=b"1" * 50)
        await mesh.submit("b", input=b"1" * 50)
        with pytest.raises(RequestError, match="429"):
            await mesh.submit("c", input=b"1" * 50)
        mesh.leases.end(task, Ending(TaskState.COMPLETED, b"1"))
        await task.ended.wait()
        await mesh.submit("c", input=b"1" * 50)

    assert mesh.leases.queues.count == 0
    assert mesh.book.open_bytes == 100


async def test_inputs_that_wait_are_bounded_in_bytes() -> None:
    """A few large ones are as much as many small ones."""
    async with fake_mesh(BrokerLimits(max_queue_bytes=100)) as mesh:
        await mesh.submit("a", input=b"1" * 60)
        with pytest.raises(RequestError, match="429"):
            await mesh.submit("b", input=b"1" * 60)
        await mesh.submit("c", input=b"1" * 40)

    assert mesh.leases.queues.size_bytes == 100
