"""A task of the link runs once, under whichever lease it has, and its end is told until it is heard."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from kagent_sdk.host import link_intake
from kagent_sdk.host.admission import Refusal
from kagent_sdk.host.engine import IdConflictError, RefusedError, UnknownCapabilityError
from kagent_sdk.host.task import CancelReason, Submission
from kagent_sdk.journal import reports
from kagent_sdk.protocol.tasks import TaskState
from tests.unit.host.links import NEW, OLD, LinkBench, link_bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[LinkBench]:
    """Give an engine with a worker."""
    async with link_bench(tmp_path) as bench:
        yield bench


async def test_an_offer_is_durable_whatever_the_capability_says(bench: LinkBench) -> None:
    """The orchestrator believes that the agent has it."""
    task = await bench.take()

    assert task.is_durable
    assert (task.lease, task.hops) == (OLD, 2)
    assert bench.held() == [("t1", OLD)]


async def test_an_offer_is_named_while_it_is_on_its_way_to_the_disk(bench: LinkBench) -> None:
    """Else two heartbeats within a slow write would let it be offered to another agent too."""
    taking = asyncio.create_task(bench.take())
    while bench.journal.find("t1") is None:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0)

    assert not taking.done()
    assert bench.held() == [("t1", OLD)]
    task = await taking
    assert (task.lease, bench.held()) == (OLD, [("t1", OLD)])


async def test_the_end_is_told_and_held_until_it_is_heard(bench: LinkBench) -> None:
    """Between the end and its acknowledgement the agent still answers for the task."""
    task = await bench.take()
    bench.complete(task)
    await task.wait()
    (report,) = await bench.reports()

    assert (report.task, report.lease, report.kind) == ("t1", OLD, "result")
    assert json.loads(report.payload) == json.loads(task.document())
    assert bench.box.added.is_set()
    assert bench.held() == [("t1", OLD)]
    await bench.box.settle([report.id])
    assert (bench.held(), await bench.reports()) == ([], [])
    assert bench.box.pending == bench.box.pending_bytes == 0


async def test_the_same_offer_again_changes_nothing(bench: LinkBench) -> None:
    """Its answer was lost on the way."""
    task = await bench.take()

    assert await bench.take() is task
    assert task.attempt == 1


async def test_a_task_that_runs_goes_on_under_a_new_lease(bench: LinkBench) -> None:
    """The orchestrator had lost sight of the agent, and offers it the task again."""
    task = await bench.take()
    assert await bench.take(lease=NEW) is task
    bench.complete(task)
    await task.wait()

    assert [one.lease for one in await bench.reports()] == [NEW]
    assert task.attempt == 1
    assert bench.held() == [("t1", NEW)]


async def test_a_task_that_has_ended_is_told_again_under_a_new_lease(bench: LinkBench) -> None:
    """It must not run twice for an answer that was lost."""
    task = await bench.take()
    bench.complete(task)
    await task.wait()
    (before,) = await bench.reports()
    again = await bench.take(lease=NEW)
    (report,) = await bench.reports()

    assert again is task
    assert report.lease == NEW
    assert (report.payload, report.id == before.id) == (before.payload, False)
    assert bench.held() == [("t1", NEW)]


async def test_an_end_that_is_on_its_way_to_the_disk_is_told_under_the_new_lease(
    bench: LinkBench,
) -> None:
    """The new offer came in that very moment."""
    task = await bench.take()
    bench.complete(task)
    again = await bench.take(lease=NEW)
    await task.wait()

    assert again is task
    assert [one.lease for one in await bench.reports()] == [NEW]
    assert bench.held() == [("t1", NEW)]


async def test_another_input_or_capability_is_refused(bench: LinkBench) -> None:
    """Two tasks of one id would get each other's results."""
    await bench.take()
    with pytest.raises(IdConflictError):
        await bench.take(lease=NEW, input=b"[1]")
    with pytest.raises(UnknownCapabilityError):
        await bench.intake.admit(Submission("t2", "nothing", b"{}", kept=True, lease=NEW))

    assert bench.held() == [("t1", OLD)]


async def test_no_offer_is_taken_while_too_much_waits_to_be_told(bench: LinkBench) -> None:
    """Its result would only wait too; one that is known is still answered."""
    task = await bench.take()
    bench.intake.is_full = True
    with pytest.raises(RefusedError) as caught:
        await bench.take("t2")

    assert caught.value.refusal is Refusal.OUTBOX
    assert await bench.take(lease=NEW) is task


async def test_an_offer_is_taken_until_two_beats_did_not_name_it(bench: LinkBench) -> None:
    """From then on it may be at another agent: also what must not run twice would run at both."""
    sent = Submission("t1", "echo", b"{}", kept=True, lease=OLD, beat=bench.intake.next_beat())
    bench.intake.next_beat()
    task = await bench.intake.admit(sent)
    bench.intake.next_beat()
    again = await bench.intake.admit(sent)
    with pytest.raises(RefusedError) as caught:
        await bench.intake.admit(replace(sent, task_id="t2"))
    with pytest.raises(RefusedError):
        await bench.intake.admit(replace(sent, lease=NEW))

    assert again is task  # the same offer once more, which the second beat has named
    assert caught.value.refusal is Refusal.LATE
    assert bench.held() == [("t1", OLD)]


async def test_a_cancelled_task_is_told_as_canceled(bench: LinkBench) -> None:
    """Whoever asked for it waits for that."""
    task = await bench.take()
    bench.intake.cancel("t1", OLD)
    bench.end_cancelled(task)
    await task.wait()

    (report,) = await bench.reports()
    assert json.loads(report.payload)["state"] == "canceled"


async def test_a_lost_lease_cancels_the_task_and_tells_nothing(bench: LinkBench) -> None:
    """Somebody else has it now."""
    task = await bench.take()
    bench.intake.lose("t1", NEW)
    assert bench.held() == [("t1", OLD)]
    bench.intake.lose("t1", OLD)
    assert task.cancel_reason is CancelReason.LEASE
    bench.end_cancelled(task)
    await task.wait()

    assert task.state is TaskState.CANCELED
    assert (bench.held(), await bench.reports()) == ([], [])


async def test_a_task_whose_lease_was_lost_runs_anew_when_it_comes_back(bench: LinkBench) -> None:
    """That it was cancelled is no result of it."""
    lost = await bench.take()
    bench.intake.lose("t1", OLD)
    taking = asyncio.create_task(bench.take(lease=NEW))
    await asyncio.sleep(0)
    bench.end_cancelled(lost)
    task = await taking
    assert task is not lost
    assert task.attempt == 1
    bench.complete(task)
    await task.wait()

    (report,) = await bench.reports()
    assert (report.lease, json.loads(report.payload)["state"]) == (NEW, "completed")


async def test_a_task_that_does_not_let_go_is_not_taken_twice(
    bench: LinkBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The offer is refused for a while; nothing of it runs beside the old attempt."""
    monkeypatch.setattr(link_intake, "CANCEL_WAIT_S", 0.01)
    await bench.take()
    bench.intake.lose("t1", OLD)
    with pytest.raises(RefusedError) as caught:
        await bench.take(lease=NEW)

    assert caught.value.refusal is Refusal.CANCELING


async def test_results_under_a_lost_lease_are_forgotten(bench: LinkBench) -> None:
    """They would be refused."""
    task = await bench.take()
    bench.complete(task)
    await task.wait()
    await bench.box.forget("t1", NEW)
    assert bench.held() == [("t1", OLD)]
    await bench.box.forget("t1", OLD)

    assert (bench.held(), await bench.reports()) == ([], [])


async def test_a_task_of_somebody_else_is_told_from_its_offer_on(bench: LinkBench) -> None:
    """A caller of the agent has used the id before; the work is done once."""
    task = bench.engine.submit(Submission("t1", "echo", b"{}", kept=True))
    bench.complete(task)
    await task.wait()
    again = await bench.take()

    assert again is task
    assert [one.lease for one in await bench.reports()] == [OLD]


async def test_events_are_told_in_their_order_before_the_result(bench: LinkBench) -> None:
    """Whoever follows the task at the orchestrator sees them as they come."""
    task = await bench.intake.admit(Submission("t1", "tail", b"{}", kept=True, lease=OLD))
    for number in (b"1", b"2"):
        bench.engine.events.announce(task, "event", number)
    bench.complete(task, b"[1,2]")
    await task.wait()
    found = [json.loads(one.payload) for one in await bench.reports()]

    events, result = found[:-1], found[-1]
    assert [event["id"] for event in events] == list(range(1, len(events) + 1))
    assert [event["data"] for event in events if event["event"] == "event"] == [1, 2]
    assert result["output"] == [1, 2]


async def test_the_next_host_answers_for_what_this_one_had(tmp_path: Path) -> None:
    """It was killed between an end and its report, and while another task waited."""
    async with link_bench(tmp_path) as bench:
        done = await bench.take("done")
        bench.complete(done)
        await done.wait()
        bench.worker.is_open = False
        await bench.take("waits", NEW)
        before = await bench.reports()
        bench.engine.cancel_all(CancelReason.SHUTDOWN)
    async with link_bench(tmp_path) as bench:
        assert bench.held() == [("done", OLD), ("waits", NEW)]
        assert await bench.reports() == before
        assert bench.box.added.is_set()
        task = bench.intake.find("waits", NEW)
        assert task is not None
        assert (task.lease, task.hops) == (NEW, 2)
        bench.intake.confirm({("waits", NEW)}, in_force=True)
        bench.complete(task)
        await task.wait()

        assert [one.task for one in await bench.reports()] == ["done", "waits"]


async def leave(folder: Path, *capabilities: str) -> None:
    """Let a host take a task of each capability, by its name, and stop before it begins them."""
    async with link_bench(folder) as bench:
        bench.worker.is_open = False
        for name in capabilities:
            await bench.intake.admit(Submission(name, name, b"{}", kept=True, lease=OLD))
        bench.engine.cancel_all(CancelReason.SHUTDOWN)


@pytest.mark.parametrize("has_begun", [False, True])
async def test_the_next_host_begins_nothing_before_its_lease_is_confirmed(
    tmp_path: Path, has_begun: bool
) -> None:
    """It may be another agent's by now, or its caller may have been told that it is lost."""
    if has_begun:
        async with link_bench(tmp_path) as bench:
            begun = Submission("safe", "safe", b"{}", kept=True, lease=OLD)
            assert (await bench.intake.admit(begun)).attempt == 1
            bench.engine.cancel_all(CancelReason.SHUTDOWN)
    await leave(tmp_path, *(["echo"] if has_begun else ["echo", "safe"]))
    async with link_bench(tmp_path) as bench:
        queue = bench.engine.dispatcher.queue
        safe = bench.intake.find("safe", OLD)
        assert safe is not None
        assert safe.attempt == int(has_begun)
        assert not bench.worker.calls
        assert sorted(task.id for task in queue) == ["echo", "safe"]
        assert len(queue) == 0
        bench.intake.confirm({("echo", NEW), ("other", OLD)}, in_force=True)
        assert not bench.worker.calls
        bench.intake.confirm({("echo", OLD), ("safe", OLD)}, in_force=True)

        assert sorted(task.id for task in bench.worker.calls.values()) == ["echo", "safe"]


async def test_what_may_run_twice_begins_without_an_orchestrator_after_a_while(
    tmp_path: Path,
) -> None:
    """An agent goes on with its work when nobody is there to confirm it; what is dangerous waits."""
    await leave(tmp_path, "echo", "safe")
    async with link_bench(tmp_path) as bench:
        assert not bench.worker.calls
        bench.engine.gate = Refusal.DRAINING
        bench.intake.start_unconfirmed()
        assert not bench.worker.calls  # the next host goes on with it
        bench.engine.gate = None
        bench.intake.start_unconfirmed()

        assert [task.id for task in bench.worker.calls.values()] == ["safe"]
        assert [task.id for task in bench.engine.dispatcher.queue] == ["echo"]


async def test_what_the_orchestrator_does_not_confirm_never_begins(tmp_path: Path) -> None:
    """It has ended for its caller."""
    await leave(tmp_path, "echo")
    async with link_bench(tmp_path) as bench:
        task = bench.intake.find("echo", OLD)
        assert task is not None
        bench.intake.confirm({("echo", OLD)}, in_force=False)
        await task.wait()

        assert (task.state, task.attempt) == (TaskState.CANCELED, 0)
        assert (bench.held(), await bench.reports()) == ([], [])


async def test_a_new_offer_confirms_a_task_too(tmp_path: Path) -> None:
    """Nobody but the orchestrator makes one."""
    await leave(tmp_path, "echo")
    async with link_bench(tmp_path) as bench:
        task = await bench.take("echo", NEW)

        assert (task.lease, task.attempt) == (NEW, 1)


async def test_a_task_that_waits_for_the_orchestrator_holds_up_no_stop(tmp_path: Path) -> None:
    """An orchestrator that is away would cost every stop its whole grace."""
    await leave(tmp_path, "echo")
    async with link_bench(tmp_path) as bench:
        async with asyncio.timeout(5):
            await bench.engine.dispatcher.wait_idle()
        assert bench.engine.dispatcher.is_idle
        bench.engine.cancel_all(CancelReason.SHUTDOWN)
    async with link_bench(tmp_path) as bench:
        assert bench.held() == [("echo", OLD)]


async def test_an_end_without_a_lease_that_is_on_its_way_to_the_disk_is_told_too(
    bench: LinkBench,
) -> None:
    """A caller of the agent has used the id, and the offer comes in the moment of its end."""
    task = bench.engine.submit(Submission("t1", "safe", b"{}", kept=True))
    assert task.safe is not None
    await task.safe
    bench.complete(task)
    again = await bench.intake.admit(Submission("t1", "safe", b"{}", kept=True, lease=OLD))
    await task.wait()

    assert again is task
    assert [one.lease for one in await bench.reports()] == [OLD]


async def test_events_that_are_dropped_are_counted_and_do_not_wait(
    bench: LinkBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the orchestrator is away nothing else tells the operator of it."""
    monkeypatch.setattr(reports, "MAX_EVENT_BYTES", 0)
    task = await bench.intake.admit(Submission("t1", "tail", b"{}", kept=True, lease=OLD))
    bench.engine.events.announce(task, "event", b"1")
    bench.complete(task, b"[1]")
    await task.wait()

    assert [one.kind for one in await bench.reports()] == ["result"]
    assert bench.box.pending == 1
    assert bench.box.dropped > 0


async def test_a_task_is_named_though_whoever_offered_it_has_hung_up(bench: LinkBench) -> None:
    """It runs: an orchestrator that does not hear of it would give it to another agent too."""
    offering = asyncio.create_task(bench.take())
    while not bench.worker.calls:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0)
    assert not offering.done()
    offering.cancel()
    await asyncio.wait([offering])

    assert offering.cancelled()
    assert bench.held() == [("t1", OLD)]
