"""kLink over NATS, against a real nats-server: what becomes of tasks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from nats.js.api import ConsumerInfo, SequenceInfo

from kagent_sdk.link.nats import build_link, streams
from kagent_sdk.link.nats.client import connect_caller
from kagent_sdk.link.nats.record_store import RecordStore
from kagent_sdk.link.nats.records import TaskRecord
from kagent_sdk.link.nats.sweeper import Sweeper
from kagent_sdk.link.port import CallFailedError
from kagent_sdk.link.settings import LinkSettings
from kagent_sdk.protocol.tasks import TaskFailure
from tests.integration.link_hosts import FakeHost, capability
from tests.integration.link_replicas import QUICK, end_of, linked, task, until
from tests.integration.nats_server import NatsServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """Return a server that the tests of this file share; each has an agent of another name."""
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    server.stop()


async def test_each_task_is_done_once_by_one_of_two_replicas(server: NatsServer) -> None:
    """Replicas share the work: what is done twice costs twice, and may book twice."""
    hosts = [FakeHost("pair"), FakeHost("pair")]
    async with linked(server, *hosts), connect_caller(server.url, limits=QUICK) as caller:
        ids = [f"task:{number}" for number in range(40)]
        await asyncio.gather(*(caller.submit(task("pair", id)) for id in ids))
        ends = await asyncio.gather(*(end_of(caller, "pair", id) for id in ids))

        assert [end["output"] for end in ends] == [{"say": "hi"}] * 40
        assert sorted(offer.task for host in hosts for offer in host.offers) == sorted(ids)
        await until(lambda: not any(host.reports.reports for host in hosts))
        queue = await caller._bus.js.stream_info("KAGENT_TASKS_pair=echo")
        assert queue.state.messages == 0


async def test_a_task_that_is_sent_again_is_the_same_task(server: NatsServer) -> None:
    """A caller that does not know whether it was heard sends again, also long after the end."""
    host = FakeHost("again")
    async with linked(server, host), connect_caller(server.url, limits=QUICK) as caller:
        await asyncio.gather(*(caller.submit(task("again", "one")) for _ in range(5)))
        await end_of(caller, "again", "one")
        await caller.submit(task("again", "one"))
        with pytest.raises(CallFailedError) as caught:
            await caller.submit(task("again", "one", input=b'{"say":"other"}'))

        assert caught.value.failure.code == "conflict"
        assert len(host.offers) == 1


async def test_a_lost_agent_s_task_goes_to_another_and_its_late_result_is_refused(
    server: NatsServer,
) -> None:
    """An agent that was cut off must not overwrite what the one after it has done."""
    slow, other = FakeHost("cut", is_quick=False), FakeHost("cut", is_quick=False)
    slow.capabilities = other.capabilities = (capability(idempotent=True),)
    async with linked(server, slow) as [first], connect_caller(server.url, limits=QUICK) as caller:
        await caller.submit(task("cut", "job"))
        await slow.wait(lambda: "job" in slow.held)
        await first.die()
        async with linked(server, other):
            await other.wait(lambda: "job" in other.held)
            assert other.offers[0].attempt == 2
            slow.finish("job", output="late")
            async with linked(server, slow) as [back]:
                await until(lambda: back.link.status.refused == 1)
                other.finish("job", output="in time")
                end = await end_of(caller, "cut", "job")

        assert (end["output"], end["attempt"]) == ("in time", 2)


async def test_an_agent_that_comes_back_is_told_what_it_has_lost(server: NatsServer) -> None:
    """It must stop working on a task that another one has."""
    slow, other = FakeHost("told", is_quick=False), FakeHost("told")
    slow.capabilities = other.capabilities = (capability(idempotent=True),)
    async with linked(server, slow) as [first], connect_caller(server.url, limits=QUICK) as caller:
        await caller.submit(task("told", "job"))
        await slow.wait(lambda: "job" in slow.held)
        await first.die()
        async with linked(server, other):
            await end_of(caller, "told", "job")
        slow.instance = "0" * 16
        async with linked(server, slow) as [back]:
            await slow.wait(lambda: slow.lost)

            assert slow.lost[0].task == "job"
            assert back.link.status.lost == 1


async def test_a_task_that_must_not_run_twice_waits_for_its_agent(server: NatsServer) -> None:
    """The journal of an agent that was restarted has the task: nobody else may begin it anew."""
    slow, other = FakeHost("wait", is_quick=False), FakeHost("wait")
    patient = replace(QUICK, lost_after_s=60.0)
    async with (
        linked(server, slow, limits=patient) as [first],
        connect_caller(server.url, limits=patient) as caller,
    ):
        await caller.submit(task("wait", "job"))
        await slow.wait(lambda: "job" in slow.held)
        await first.die()
        async with linked(server, other, limits=patient):

            async def is_missed() -> bool:
                record = await caller.find("wait", "job")
                return record is not None and record.missed_at is not None

            async def is_back() -> bool:
                return not await is_missed()

            await until(is_missed)
            slow.instance = "1" * 16
            async with linked(server, slow, limits=patient):
                await until(is_back)
                slow.finish("job")
                end = await end_of(caller, "wait", "job")

        assert end["attempt"] == 1
        assert other.offers == []


async def test_a_claim_that_is_written_and_not_confirmed_is_no_loss(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server was killed in between: the task has not begun, and need not fail for that."""
    host = FakeHost("once")
    lost: list[str] = []
    write = RecordStore.write

    async def write_and_lose(store: RecordStore, record: TaskRecord, revision: int) -> int | None:
        written = await write(store, record, revision)
        if record.lease is not None and not lost:
            lost.append(record.lease)
            raise TimeoutError
        return written

    monkeypatch.setattr(RecordStore, "write", write_and_lose)
    async with linked(server, host), connect_caller(server.url, limits=QUICK) as own:
        await own.submit(task("once", "job"))
        end = await end_of(own, "once", "job")

        assert len(lost) == 1
        assert end["state"] == "completed"
        assert [offer.attempt for offer in host.offers] == [1]


async def test_a_task_whose_agents_are_lost_again_and_again_is_buried(server: NatsServer) -> None:
    """A task that kills whoever takes it must not kill them all, and its caller must hear of it."""
    slow, other = FakeHost("doom", is_quick=False), FakeHost("doom", is_quick=False)
    slow.capabilities = (capability(idempotent=True, max_attempts=1),)
    other.capabilities = slow.capabilities
    async with linked(server, slow) as [first], connect_caller(server.url, limits=QUICK) as caller:
        await caller.submit(task("doom", "job"))
        await slow.wait(lambda: "job" in slow.held)
        await first.die()
        async with linked(server, other):
            end = await end_of(caller, "doom", "job")
        dead = await caller._bus.js.get_last_msg("KAGENT_DEAD", "kagent.dead.doom.echo")

        assert (end["state"], end["error"]["code"]) == ("failed", "agent_lost")
        assert other.offers == []
        assert json.loads(dead.data or b"")["id"] == "job"
        assert (dead.headers or {})["Klink-Reason"] == "agent_lost"


async def test_what_is_no_task_is_buried_and_holds_up_nothing(server: NatsServer) -> None:
    """Anybody with the right to publish can send anything."""
    host = FakeHost("junk")
    async with linked(server, host), connect_caller(server.url, limits=QUICK) as caller:
        for body in (b"", b"\xff", b"[]", b'{"capability":"other"}', b'{"capability":1}'):
            await caller._bus.js.publish("kagent.tasks.junk.echo", body)
        by_hand = b'{"capability":"echo","input":[1]}'
        await caller._bus.js.publish("kagent.tasks.junk.echo", by_hand)
        await host.wait(lambda: host.offers)
        end = await end_of(caller, "junk", host.offers[0].task)
        info = await caller._bus.js.stream_info("KAGENT_DEAD", subjects_filter="kagent.dead.junk.>")

        assert end["output"] == [1]
        assert info.state.subjects == {"kagent.dead.junk.echo": 5}


async def test_a_refused_offer_is_given_back_and_costs_no_attempt(server: NatsServer) -> None:
    """An agent that cannot take a task just now has not tried it."""
    host = FakeHost("busy")
    host.refusal = TaskFailure("queue_full", "not now", retryable=True)
    async with linked(server, host), connect_caller(server.url, limits=QUICK) as caller:
        await caller.submit(task("busy", "job"))

        async def was_offered() -> bool:
            record = await caller.find("busy", "job")
            return record is not None and record.sequence is not None

        await until(was_offered)
        host.refusal = None
        end = await end_of(caller, "busy", "job")
        host.refusal = TaskFailure("invalid_input", "never", retryable=False)
        await caller.submit(task("busy", "never"))
        refused = await end_of(caller, "busy", "never")

        assert end["attempt"] == 1
        assert refused["error"]["code"] == "invalid_input"


async def test_cancelling_reaches_a_task_that_runs_and_one_that_waits(server: NatsServer) -> None:
    """Nobody wants the work any more: it must not go on, or begin."""
    host = FakeHost("stop", room=1, is_quick=False)
    async with linked(server, host), connect_caller(server.url, limits=QUICK) as caller:
        await caller.submit(task("stop", "runs"))
        await host.wait(lambda: "runs" in host.held)
        await caller.submit(task("stop", "waits"))
        await caller.cancel("stop", "waits")
        await caller.cancel("stop", "runs")
        ends = [await end_of(caller, "stop", id) for id in ("waits", "runs")]

        assert [end["state"] for end in ends] == ["canceled", "canceled"]
        assert [held.task for held in host.cancelled] == ["runs"]
        assert [offer.task for offer in host.offers] == ["runs"]


async def test_tasks_are_found_without_their_agent_and_without_their_id(server: NatsServer) -> None:
    """A person who looks knows the one or the other, and some records may be nobody's."""
    hosts = [FakeHost("found"), FakeHost("found.too")]
    async with linked(server, *hosts), connect_caller(server.url, limits=QUICK) as caller:
        for agent, id in (("found", "1"), ("found", "same"), ("found.too", "same")):
            await caller.submit(task(agent, id))
            await end_of(caller, agent, id)
        await caller._bus.tasks.put("found.broken", b"{")
        await caller._bus.tasks.create("_any.same", b"found")
        newest = await caller.index.newest(9, lambda record: record.has_ended, agent="found")
        one = await caller.index.newest(1, lambda record: record.agent.startswith("found"))
        same = await caller.index.of_id("same")
        none = await caller.index.of_id("nobody-has-it")

    assert [record.task for record in newest] == ["same", "1"]
    assert [(record.agent, record.task) for record in one] == [("found.too", "same")]
    assert {record.agent for record in same} == {"found", "found.too"}
    assert none == []


async def test_large_bodies_go_through_the_object_store(server: NatsServer) -> None:
    """The server takes messages of one megabyte; inputs and outputs may be larger."""
    host = FakeHost("big")
    large = json.dumps("x" * 2_000_000).encode()
    async with linked(server, host), connect_caller(server.url, limits=QUICK) as caller:
        await caller.submit(task("big", "job", input=large))
        end = await end_of(caller, "big", "job")

        assert end["output"] == "x" * 2_000_000


async def test_messages_that_the_server_forgot_to_remove_are_removed(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is killed may leave some, which are never delivered and would fill the stream."""
    async with connect_caller(server.url, limits=QUICK) as caller:
        js = caller._bus.js
        stream, _ = await streams.open_queue(js, "sweep", "echo", QUICK)
        await caller.submit(task("sweep", "ended"))
        await caller.submit(task("sweep", "not-ended"))
        record = await caller.find("sweep", "ended")
        assert record is not None
        ended = record.with_changes(sequence=1, result={"state": "completed"})
        await caller._bus.tasks.put("sweep.ended", ended.model_dump_json().encode())
        real: ConsumerInfo = await js.consumer_info(stream, "agents")
        # What such a server says; it cannot be brought to it at will.
        real.num_pending, real.num_ack_pending = 0, 1
        real.delivered = SequenceInfo(consumer_seq=2, stream_seq=2)

        async def forgetful(*_: object) -> ConsumerInfo:
            return real

        sweeper = Sweeper(caller._bus, FakeHost("sweep"))
        untouched = await sweeper.sweep("unknown")
        monkeypatch.setattr(js, "consumer_info", forgetful)
        removed = [await sweeper.sweep("echo"), await sweeper.sweep("echo")]
        message = await js.get_msg(stream, seq=2)

        assert untouched == 0
        assert removed == [1, 0]
        assert (message.headers or {})["Nats-Msg-Id"] == "not-ended"


def test_the_link_is_built_without_connecting() -> None:
    """A host makes its link before it has a loop to spare."""
    link = build_link(LinkSettings("nats://127.0.0.1:1"), FakeHost("none"))

    assert link.status.state == "connecting"
