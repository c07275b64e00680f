"""Calls of the author's code on their way out, with a link that the test plays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from kagent_sdk.config.models import AgentConfig
from kagent_sdk.errors import ProtocolError
from kagent_sdk.host.call_desk import MAX_OPEN_BYTES, MAX_OPEN_CALLS
from kagent_sdk.host.counters import Counters
from kagent_sdk.host.engine import Engine
from kagent_sdk.host.own_calls import OwnCalls
from kagent_sdk.host.worker_connection import WorkerConnection
from kagent_sdk.journal.memory import MemoryJournal
from kagent_sdk.link.port import CallFailedError, Link, OutgoingCall
from kagent_sdk.protocol.frames import Frame, Kind
from kagent_sdk.protocol.link import MAX_HOPS
from kagent_sdk.protocol.messages import (
    CALL_WINDOW,
    CALL_WINDOW_BYTES,
    COUNT,
    CallHead,
    encode_call,
)
from kagent_sdk.protocol.tasks import TaskFailure
from tests.unit.host.tasks import make_task
from tests.unit.host.test_reception import Wire

OnItem = Callable[[bytes], Awaitable[None]]
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class FakeLink:
    """Notes what is sent, and does with it what the test says.

    Attributes:
        sent: every call.
        cancelled: how many were cancelled.
    """

    def __init__(self, act: Callable[[OnItem | None], Awaitable[bytes]]) -> None:
        self.sent: list[OutgoingCall] = []
        self.cancelled = 0
        self._act = act

    async def call(self, call: OutgoingCall, on_item: OnItem | None = None) -> bytes:
        """Take a call."""
        self.sent.append(call)
        try:
            return await self._act(on_item)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


class Desk:
    """One worker of an agent called ``desk``, and the frames that it is sent.

    Args:
        act: what the link does with a call; None: there is no link.
    """

    def __init__(self, act: Callable[[OnItem | None], Awaitable[bytes]] | None) -> None:
        journal = MemoryJournal(retention_s=1, retention_count=1, retention_bytes=1)
        self.engine = Engine(AgentConfig(), journal, Counters(), lambda _worker, _reason: None)
        self.link = None if act is None else FakeLink(act)
        self.calls = OwnCalls(self.engine, "desk", lambda: cast("Link | None", self.link))
        self.wire = Wire()
        self.connection = WorkerConnection(
            limit_bytes=1 << 26,
            places=1,
            handlers=self.calls.handlers(),
            on_room=lambda: self.calls.on_room(self.connection),
            on_lost=lambda _connection, _error: None,
        )
        self.connection.connection_made(self.wire)

    def call(self, number: int = 1, input: bytes = b"{}", **head: Any) -> None:
        """Let the worker send a call."""
        said = CallHead(**{"agent": "other", "capability": "c", **head})
        self.calls.on_call(self.connection, number, encode_call(said, input))

    def cancel(self, number: int = 1) -> None:
        """Let the worker want no answer any more."""
        self.calls.on_cancel(self.connection, number, b"")

    def acknowledge(self, count: int, number: int = 1) -> None:
        """Let the worker say that it has read items."""
        self.calls.on_ack(self.connection, number, COUNT.pack(count))

    async def frames(self) -> list[Frame]:
        """Let the loop turn until nothing happens, and return what the worker was sent."""
        for _ in range(20):
            await asyncio.sleep(0)
        return await self.wire.frames()

    async def answers(self) -> list[Any]:
        """Return the answers that the worker was sent, parsed."""
        return [json.loads(text) for kind, _, text in await self.frames() if kind == Kind.ANSWER]


async def give_one(on_item: OnItem | None) -> bytes:
    """Answer at once."""
    del on_item
    return b'{"n": 1}'


async def never(on_item: OnItem | None) -> bytes:
    """Answer never."""
    del on_item
    await asyncio.Event().wait()
    return b""


def flow(items: list[bytes]) -> Callable[[OnItem | None], Awaitable[bytes]]:
    """Return what streams these items."""

    async def act(on_item: OnItem | None) -> bytes:
        assert on_item is not None
        for item in items:
            await on_item(item)
        return b"[]"

    return act


async def test_a_call_goes_to_the_link_with_all_that_belongs_to_it() -> None:
    """The orchestrator sees who is asked for what, for how long, and how far it has come."""
    desk = Desk(give_one)
    task = make_task()
    task.hops = 3
    task.deadline_at = asyncio.get_running_loop().time() + 60
    desk.connection.calls[7] = task
    labels = {"zone": "a"}
    desk.call(5, b'{"x": 1}', task=7, timeout_s=9, traceparent=TRACE, labels=labels, id="t-1")
    frames = await desk.frames()

    assert desk.link is not None
    (sent,) = desk.link.sent
    assert (sent.task, sent.agent, sent.capability, sent.input) == (
        "t-1",
        "other",
        "c",
        b'{"x": 1}',
    )
    assert (sent.labels, sent.timeout_s, sent.hops, sent.is_streamed) == (labels, 9, 4, False)
    assert sent.traceparent.split("-")[1] == TRACE.split("-")[1]
    assert sent.traceparent.split("-")[2] != TRACE.split("-")[2]
    assert frames == [(Kind.ANSWER, 5, b'{"output":{"n": 1}}')]


async def test_a_call_of_a_loop_has_no_deadline_and_the_first_hop() -> None:
    """It is no task's: nothing bounds it but what it asks for."""
    desk = Desk(give_one)
    desk.call(agent=None)
    await desk.frames()

    assert desk.link is not None
    (sent,) = desk.link.sent
    assert (sent.agent, sent.timeout_s, sent.hops, sent.traceparent) == (None, None, 1, "")
    assert sent.task


async def test_a_call_has_no_more_time_than_its_task() -> None:
    """Whatever the worker says."""
    desk = Desk(give_one)
    task = make_task()
    task.deadline_at = asyncio.get_running_loop().time() + 5
    desk.connection.calls[7] = task
    desk.call(task=7, timeout_s=100)
    await desk.frames()

    assert desk.link is not None
    assert 0 < cast("float", desk.link.sent[0].timeout_s) <= 5


@pytest.mark.parametrize(
    ("hops", "left_s", "code"),
    [(MAX_HOPS, 60, "too_many_hops"), (0, -1, "timeout"), (0, None, "canceled")],
    ids=["a circle", "no time left", "the task has ended"],
)
async def test_a_call_that_cannot_be_is_not_sent(
    hops: int, left_s: float | None, code: str
) -> None:
    """The link hears nothing of it."""
    desk = Desk(give_one)
    if left_s is not None:
        task = make_task()
        task.hops = hops
        task.deadline_at = asyncio.get_running_loop().time() + left_s
        desk.connection.calls[7] = task
    desk.call(task=7)
    (answer,) = await desk.answers()

    assert answer["error"]["code"] == code
    assert desk.link is not None
    assert not desk.link.sent


@pytest.mark.parametrize(
    ("head", "is_sent"),
    [
        ({"agent": "desk"}, False),
        ({"agent": None}, True),
        ({"agent": "desk", "labels": {"zone": "a"}}, True),
        ({"agent": "other"}, True),
    ],
    ids=["itself", "anybody", "itself elsewhere", "another"],
)
async def test_only_what_is_not_here_goes_to_the_link(head: Any, is_sent: bool) -> None:
    """This agent has no capability ``c``: asked for it by name, it says so itself."""
    desk = Desk(give_one)
    desk.engine.gate = None
    desk.call(**head)
    (answer,) = await desk.answers()

    assert desk.link is not None
    assert bool(desk.link.sent) is is_sent
    assert ("output" in answer) is is_sent


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({"agent": "other"}, "agent 'other' cannot be reached"),
        ({"agent": "x" * 1000}, "agent 'xxx"),
        ({"agent": None}, "there is no capability 'c' here"),
        ({"agent": "desk", "labels": {"zone": "a"}}, "agents with labels are found by an orch"),
    ],
)
async def test_without_a_link_the_way_out_is_told(head: Any, message: str) -> None:
    """Most agents begin without an orchestrator."""
    desk = Desk(None)
    desk.call(**head)
    (answer,) = await desk.answers()

    assert answer["error"]["code"] == "unreachable"
    assert answer["error"]["message"].startswith(message)
    assert answer["error"]["message"].endswith("set orchestrator.url in config.yaml")
    assert len(answer["error"]["message"]) < 300


async def test_a_link_that_goes_away_meanwhile_is_no_link() -> None:
    """A reload may take it away while an input is checked."""
    desk = Desk(give_one)
    desk.call()
    links = iter([desk.link])
    desk.calls._link = lambda: cast("Link | None", next(links, None))
    (answer,) = await desk.answers()

    assert answer["error"]["code"] == "unreachable"


async def test_the_others_failure_reaches_the_caller() -> None:
    """With all that it says."""

    async def fail(on_item: OnItem | None) -> bytes:
        del on_item
        raise CallFailedError(TaskFailure("busy", "later", retryable=True, details=[1], status=429))

    desk = Desk(fail)
    desk.call()
    (answer,) = await desk.answers()

    assert answer["error"] == {
        "code": "busy",
        "message": "later",
        "retryable": True,
        "details": [1],
        "status": 429,
    }


async def test_a_link_that_breaks_is_an_error_of_the_call() -> None:
    """The author's code must not wait for ever; the host's log has the traceback."""

    async def fail(on_item: OnItem | None) -> bytes:
        del on_item
        raise KeyError("a fault of ours")

    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    desk = Desk(fail)
    desk.call()
    (answer,) = await desk.answers()

    assert answer["error"]["code"] == "internal_error"
    assert "fault" not in answer["error"]["message"]
    assert not desk.calls._desks[desk.connection].open


async def test_a_link_that_is_too_late_is_cut_off() -> None:
    """The deadline is the host's promise, not the orchestrator's."""
    desk = Desk(never)
    desk.call(timeout_s=0.001)
    (call,) = desk.calls._desks[desk.connection].open.values()
    await desk.frames()
    assert call.job is not None
    await call.job
    (answer,) = await desk.answers()

    assert answer["error"]["code"] == "timeout"
    assert desk.link is not None
    assert desk.link.cancelled == 1


async def test_cancelling_a_call_cancels_it_at_the_link() -> None:
    """Nothing is answered: nobody waits. Doing so twice, or for another number, does nothing."""
    desk = Desk(never)
    desk.call()
    await desk.frames()
    desk.cancel(99)
    desk.cancel()
    desk.cancel()

    assert await desk.frames() == []
    assert desk.link is not None
    assert desk.link.cancelled == 1


async def test_a_lost_worker_cancels_its_calls() -> None:
    """A worker that dies must not leave the tasks of other agents running for nobody."""
    desk = Desk(never)
    for number in range(3):
        desk.call(number)
    await desk.frames()
    desk.calls.forget(desk.connection)
    await desk.frames()

    assert desk.link is not None
    assert desk.link.cancelled == 3
    desk.cancel()
    desk.acknowledge(1)


async def test_items_stay_within_the_window() -> None:
    """What the worker does not read stays with who sends it."""
    desk = Desk(flow([b"%d" % number for number in range(CALL_WINDOW + 10)]))
    desk.call(stream=True)
    first = await desk.frames()
    desk.acknowledge(4)
    second = await desk.frames()
    desk.acknowledge(CALL_WINDOW)
    rest = await desk.frames()

    assert first == [(Kind.CALL_ITEM, 1, b"%d" % number) for number in range(CALL_WINDOW)]
    assert [text for _, _, text in second] == [b"%d" % (CALL_WINDOW + more) for more in range(4)]
    assert len(rest) == 6 + 1
    assert rest[-1] == (Kind.ANSWER, 1, b'{"output":null}')


async def test_large_items_stay_within_the_windows_bytes() -> None:
    """It is full when that is reached: an item that is larger than the rest does not wait for ever."""
    half = b'"%b"' % (b"x" * (CALL_WINDOW_BYTES // 2))
    desk = Desk(flow([b"1", half, half, b"2", half + half, b"3"]))
    desk.call(stream=True)
    sizes = []
    for _ in range(4):
        sizes.append([len(text) for kind, _, text in await desk.frames() if kind == Kind.CALL_ITEM])
        if sizes[-1]:
            desk.acknowledge(len(sizes[-1]))

    assert sizes == [[1, len(half), len(half)], [1, 2 * len(half)], [1], []]


async def test_a_worker_that_does_not_read_is_sent_no_items() -> None:
    """Its socket's buffer is the host's memory."""
    desk = Desk(flow([b"1", b"2"]))
    desk.connection.pause_writing()
    desk.call(stream=True)
    before = await desk.frames()
    desk.connection.resume_writing()
    after = await desk.frames()

    assert before == []
    assert [kind for kind, _, _ in after] == [Kind.CALL_ITEM, Kind.CALL_ITEM, Kind.ANSWER]


@pytest.mark.parametrize("count", [0, 2, 2**32 - 1])
async def test_items_that_were_never_sent_cannot_be_acknowledged(count: int) -> None:
    """A worker that claims more than there was would get more than it may hold."""

    async def give_and_wait(on_item: OnItem | None) -> bytes:
        await flow([b"1"])(on_item)
        return await never(None)

    desk = Desk(give_and_wait)
    desk.call(stream=True)
    await desk.frames()
    with pytest.raises(ProtocolError, match="CALL_ACK"):
        desk.acknowledge(count)


@pytest.mark.parametrize("head", [{"id": "."}, {"id": "a" * 129}])
async def test_a_malformed_id_breaks_the_protocol(head: Any) -> None:
    """It would stand in a URL."""
    with pytest.raises(ProtocolError, match="id"):
        Desk(give_one).call(**head)


async def test_a_number_is_used_once_at_a_time() -> None:
    """Two answers of one number could not be told apart."""
    desk = Desk(never)
    desk.call(1)
    with pytest.raises(ProtocolError, match="a second call of number 1"):
        desk.call(1)
    desk.cancel(1)
    await desk.frames()
    desk.call(1)


async def test_an_input_that_is_no_json_is_not_sent() -> None:
    """It would make the orchestrator's message malformed."""
    desk = Desk(give_one)
    desk.call(input=b"{")
    (answer,) = await desk.answers()

    assert answer["error"]["code"] == "invalid_input"


@pytest.mark.parametrize(
    ("count", "size_bytes"), [(MAX_OPEN_CALLS, 2), (3, MAX_OPEN_BYTES // 3 + 1)]
)
async def test_open_calls_are_bounded(count: int, size_bytes: int) -> None:
    """In number and in size; those that are being cancelled count too, for they hold memory."""
    desk = Desk(never)
    for number in range(count):
        desk.call(number, b'"%b"' % (b"x" * (size_bytes - 2)))
    desk.cancel(0)
    desk.call(count)
    (refused,) = await desk.answers()
    desk.call(count + 1)

    assert (refused["error"]["code"], refused["error"]["retryable"]) == ("too_many_calls", True)
    assert await desk.answers() == []


async def test_calls_are_counted_by_their_way_and_by_what_came_of_them() -> None:
    """Whether another agent is slow, or away, or this one asks in vain, is seen at a glance."""

    async def fail(on_item: OnItem | None) -> bytes:
        del on_item
        raise CallFailedError(TaskFailure(codes.pop(), "no"))

    codes = ["unreachable", "timeout", "no_such_order"]
    desk = Desk(give_one)
    desk.call(1)
    desk.call(2, agent="desk")
    desk.call(3, task=99)
    desk.call(4)
    desk.cancel(4)
    await desk.frames()
    desk.link = FakeLink(fail)
    for number in (5, 6, 7):
        desk.call(number)
    await desk.frames()
    desk.link = FakeLink(never)
    desk.call(8)
    await desk.frames()
    desk.cancel(8)
    await desk.frames()
    counted = {
        way: ({name: n for name, n in one.outcomes.items() if n}, sum(one.duration.buckets))
        for way, one in desk.engine.counters.calls.items()
    }

    assert counted == {
        "link": (
            {
                "completed": 1,
                "refused": 1,
                "canceled": 2,
                "failed": 1,
                "timeout": 1,
                "unreachable": 1,
            },
            6,
        ),
        "local": ({"unreachable": 1}, 1),
    }
