"""What `kos-agent call` makes of a NATS server that fails in the middle, and of what agents say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from typing import Any, cast

import nats.errors
import pytest

from kagent_sdk.cli import nats_calls
from kagent_sdk.cli.boundary import CommandError, UnreachableError, UsageError
from kagent_sdk.cli.nats_calls import NatsCalls
from kagent_sdk.cli.nats_session import NatsSession
from kagent_sdk.link.nats.caller import NatsCaller, Submission, TaskEvent
from kagent_sdk.link.nats.record_store import RecordError
from kagent_sdk.link.nats.records import TaskRecord
from kagent_sdk.link.port import CallFailedError
from kagent_sdk.protocol.tasks import TaskFailure, TaskState

DOCUMENT = {"id": "one", "capability": "desk/say", "input": {"text": "hi"}, "timeout_s": 3.0}
END = {"id": "one", "state": "completed", "output": None}


def item(number: int, attempt: int = 1) -> TaskEvent:
    """Return an item of a stream."""
    payload = {"id": number, "event": "event", "data": f"item {number}"}
    return TaskEvent(attempt, json.dumps(payload).encode())


class FakeCaller:
    """Has the events of one task; each list of them is one connection, which fails but for the last."""

    def __init__(self, *connections: Sequence[TaskEvent], failure: Exception | None = None) -> None:
        self.submitted: list[Submission] = []
        self.cancelled: list[tuple[str, str]] = []
        self._connections = list(connections)
        self._failure = failure

    async def submit(self, submission: Submission) -> TaskRecord:
        """Take a task."""
        self.submitted.append(submission)
        if self._failure is not None:
            raise self._failure
        return self._record(TaskState.WORKING)

    async def find(self, agent: str, task: str) -> TaskRecord:
        """Return a task that has ended."""
        return self._record(TaskState.COMPLETED)

    async def document(self, record: TaskRecord) -> dict[str, Any]:
        """Return it as its agent answers it."""
        return END

    async def cancel(self, agent: str, task: str) -> None:
        """Cancel it."""
        self.cancelled.append((agent, task))

    async def events(self, agent: str, task: str) -> AsyncGenerator[TaskEvent]:
        """Yield what this connection has."""
        for event in self._connections.pop(0):
            yield event
        if self._connections:
            raise nats.errors.ConnectionClosedError

    def _record(self, state: TaskState) -> TaskRecord:
        record = TaskRecord(task="one", agent="desk", capability="say", created_at=0, state=state)
        return record.with_changes(result=END) if state == TaskState.COMPLETED else record


Open = Callable[[FakeCaller], NatsCalls]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Return what gives the calls of a caller; nothing is waited for."""
    monkeypatch.setattr(nats_calls, "RETRY_S", 0)
    with asyncio.Runner() as runner:
        yield lambda caller: NatsCalls(NatsSession(runner, cast("NatsCaller", caller)))


def test_a_call_goes_on_where_it_was_when_the_server_is_back(
    calls: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    """No item twice, none missing, and one word about it."""
    caller = FakeCaller([item(1), item(2)], [], [item(1), item(2), item(3), item(4, attempt=2)])
    updates = list(calls(caller).send(DOCUMENT))

    assert [one.data for one in updates] == ["item 1", "item 2", "item 3", "item 4", END]
    assert [one.task for one in caller.submitted] == ["one"] * 3
    assert (caller.submitted[0].agent, caller.submitted[0].capability) == ("desk", "say")
    assert caller.submitted[0].timeout_s == 3
    assert capsys.readouterr().err.count("waiting for it") == 1


def test_a_server_that_stays_away_ends_the_call_with_a_way_out(
    calls: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task may run: who repeats it under its id does it once."""
    monkeypatch.setattr(nats_calls, "AWAY_S", -1)
    with pytest.raises(UnreachableError, match="the same --id") as caught:
        list(calls(FakeCaller([item(1)], [])).send(DOCUMENT))

    assert caught.value.code == "connection_lost"


@pytest.mark.parametrize(
    "payload", [b"{", b"[]", b'{"event":"task","data":{}}', b"[" * 100_000], ids=range(4)
)
def test_what_is_no_event_is_left_out(calls: Open, payload: bytes) -> None:
    """Whoever may publish may publish nonsense; above all nobody else says how a task ended."""
    caller = FakeCaller([TaskEvent(1, payload), item(1)])

    assert [one.data for one in calls(caller).send(DOCUMENT)] == ["item 1", END]


@pytest.mark.parametrize(
    ("failure", "kind", "code"),
    [
        (
            CallFailedError(TaskFailure("unknown_capability", "no")),
            UsageError,
            "unknown_capability",
        ),
        (CallFailedError(TaskFailure("conflict", "no")), UsageError, "conflict"),
        (CallFailedError(TaskFailure("queue_full", "no")), CommandError, "queue_full"),
        (RecordError(), CommandError, "unreachable"),
        (nats.errors.TimeoutError(), UnreachableError, "connection_lost"),
    ],
)
def test_a_task_that_is_not_taken_says_why(
    calls: Open, failure: Exception, kind: type[CommandError], code: str
) -> None:
    """With the exit code that the same failure has over HTTP."""
    with pytest.raises(kind) as caught:
        calls(FakeCaller(failure=failure)).start(DOCUMENT)

    assert caught.value.code == code


def test_what_was_sent_is_cancelled_and_nothing_else(calls: Open) -> None:
    """Where it went is known from sending it."""
    caller = FakeCaller()
    sent = calls(caller)
    with pytest.raises(CommandError, match="not known to have been sent"):
        sent.cancel("one")
    assert sent.start(DOCUMENT) == END
    sent.cancel("one")

    assert caller.cancelled == [("desk", "one")]


def test_ctrl_c_is_heard_even_as_a_wait_begins() -> None:
    """Then the runner gives a bare cancellation, and what it was to wait for has not begun."""

    class Runner:
        def run(self, waiting: Coroutine[Any, Any, Any]) -> None:
            waiting.close()
            raise asyncio.CancelledError

    async def work() -> None:
        raise AssertionError

    session = NatsSession(cast("asyncio.Runner", Runner()), cast("NatsCaller", None))

    with pytest.raises(KeyboardInterrupt):
        session.run(work())
