"""What the author's functions are given; the port behind it is a fake."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any, cast

import pytest

from kagent_sdk.context import (
    CallRequest,
    Flag,
    LoopContext,
    PendingCall,
    PendingItems,
    Secrets,
    TaskContext,
)
from kagent_sdk.context.state import State
from kagent_sdk.context.state_access import DirectAccess
from kagent_sdk.errors import KagentError, SecretMissingError
from kagent_sdk.protocol.messages import Run
from tests.unit.context.fake_host import FakeHost


class FakePort:
    """Notes what a context asks for."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.secrets = Secrets({"key": "hunter2"})
        self.cancelled = Flag()
        self.stopping = Flag()
        self.state = State(DirectAccess(FakeHost()))

    def progress(self, fraction: float | None, message: str | None) -> Awaitable[None]:
        """Note it."""
        self.asked.append(("progress", fraction, message))
        return asyncio.sleep(0)

    def emit(self, event: object) -> Awaitable[None]:
        """Note it."""
        self.asked.append(("emit", event))
        return asyncio.sleep(0)

    def call(self, request: CallRequest) -> PendingCall[Any]:
        """Note it."""
        self.asked.append(("call", request))
        return cast("PendingCall[Any]", asyncio.sleep(0, "answer"))

    def stream(self, request: CallRequest) -> PendingItems[Any]:
        """Note it."""
        self.asked.append(("stream", request))
        return cast("PendingItems[Any]", None)


def make_context(timeout_s: float = inf, metadata: bytes = b"{}") -> TaskContext:
    """Return a context with a fake port."""
    run = Run(0, 2, timeout_s, "t-1", "00-a-b-01", metadata, b"{}")
    return TaskContext(run, "digest", FakePort())


def test_it_tells_which_task_it_is() -> None:
    """The id is the same in every attempt."""
    context = make_context()

    assert (context.task_id, context.capability, context.attempt) == ("t-1", "digest", 2)
    assert context.traceparent == "00-a-b-01"
    assert repr(context) == "<TaskContext digest t-1 attempt 2>"


def test_a_task_without_a_timeout_has_no_deadline() -> None:
    """None, not a date in the year 9999."""
    context = make_context()

    assert context.remaining_s is None
    assert context.deadline is None


def test_a_deadline_is_in_utc_and_stays_where_it_is() -> None:
    """An author passes it on to a server."""
    context = make_context(timeout_s=30)
    deadline = context.deadline

    assert deadline is not None
    assert timedelta(seconds=29) < deadline - datetime.now(UTC) <= timedelta(seconds=30)
    assert context.deadline is deadline
    assert context.remaining_s is not None
    assert 29 < context.remaining_s <= 30
    assert make_context(timeout_s=-1).remaining_s == 0


@pytest.mark.parametrize(
    ("raw", "metadata"), [(b'{"who": "me"}', {"who": "me"}), (b"", {}), (b"[1]", {})]
)
def test_metadata_is_an_object(raw: bytes, metadata: dict[str, Any]) -> None:
    """Parsed when it is asked for, once."""
    context = make_context(metadata=raw)

    assert context.metadata == metadata
    assert context.metadata is context.metadata


async def test_progress_events_and_calls_go_to_the_port() -> None:
    """The context decides nothing."""
    context = make_context()
    await context.progress(0.5, "halfway")
    await context.progress(None)
    await context.emit({"a": 1})
    answer = await context.call("other", "c", [1], timeout_s=3)
    context.stream("c", {"a": 1}, labels={"zone": "a"}, id="t-1")

    port = cast("FakePort", context._port)
    assert port.asked == [
        ("progress", 0.5, "halfway"),
        ("progress", None, None),
        ("emit", {"a": 1}),
        ("call", CallRequest("other", "c", [1], 3)),
        ("stream", CallRequest(None, "c", {"a": 1}, labels={"zone": "a"}, id="t-1")),
    ]
    assert answer == "answer"
    assert context.cancelled is port.cancelled


def test_secrets_are_shown_by_name_only() -> None:
    """They end up in logs and tracebacks through `repr`."""
    secrets = Secrets({"b": "hunter2", "a": {"user": "x"}})

    assert repr(secrets) == "<Secrets a, b>"
    assert repr(Secrets({})) == "<Secrets none>"
    assert "hunter2" not in repr(dict(secrets))
    assert secrets["b"].get_secret_value() == "hunter2"
    assert json.loads(secrets["a"].get_secret_value()) == {"user": "x"}
    assert (len(secrets), sorted(secrets), secrets.get("c")) == (2, ["a", "b"], None)


def test_a_missing_secret_says_what_to_do() -> None:
    """The vault may well have it: the configuration does not expose it."""
    with pytest.raises(SecretMissingError) as caught:
        make_context().secrets["openai"]

    assert str(caught.value) == (
        "no secret 'openai': add \"openai\" to secrets.expose in config.yaml"
    )
    assert caught.value.key == "openai"
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, KagentError)


def test_a_logger_is_bound_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Every line tells which task it is about."""
    context = make_context()
    context.log.info("hello", answer=42)
    loop = LoopContext("sweep", 3, FakePort())
    loop.log.info("around")
    out = capsys.readouterr().out

    assert context.log is context.log
    assert loop.log is loop.log
    for part in ("hello", "42", "t-1", "digest", "around", "sweep"):
        assert part in out


async def test_a_loops_context() -> None:
    """Name, run, secrets, the end, and calls."""
    port = FakePort()
    context = LoopContext("sweep", 3, port)
    answer = await context.call("other", "c", None)

    assert (context.name, context.run, repr(context)) == ("sweep", 3, "<LoopContext sweep run 3>")
    assert context.secrets is port.secrets
    assert context.stopping is port.stopping
    assert (answer, port.asked) == ("answer", [("call", CallRequest("other", "c"))])


async def test_a_flag_can_be_tested_and_awaited() -> None:
    """In a loop between steps, or as a job of its own."""
    flag = Flag()
    assert not flag
    assert repr(flag) == "<Flag not set>"
    waiting = [asyncio.ensure_future(_wait(flag)) for _ in range(2)]
    await asyncio.sleep(0)
    flag.set()
    flag.set()
    await asyncio.gather(*waiting)
    await flag

    assert flag
    assert repr(flag) == "<Flag set>"


async def _wait(flag: Flag) -> None:
    await flag


async def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    """A flag that never happens must not gather waiters."""
    flag = Flag()
    waiting = asyncio.ensure_future(_wait(flag))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    flag.set()

    assert flag._waiters == []


async def test_a_wait_that_is_cancelled_as_it_happens_is_no_error() -> None:
    """Both may come in the same turn of the loop."""
    flag = Flag()
    waiting = asyncio.ensure_future(_wait(flag))
    await asyncio.sleep(0)
    flag.set()
    waiting.cancel()
    await asyncio.wait([waiting])
    await asyncio.sleep(0)

    assert waiting.cancelled()


async def test_a_flag_set_in_a_thread_wakes_every_loop() -> None:
    """A sync function may run an event loop of its own."""
    flag = Flag()
    elsewhere = asyncio.create_task(asyncio.to_thread(asyncio.run, _wait(flag)))
    here = asyncio.ensure_future(_wait(flag))
    while len(flag._waiters) < 2:  # noqa: ASYNC110 - what a thread does
        await asyncio.sleep(0)
    await asyncio.to_thread(flag.set)

    await asyncio.gather(elsewhere, here)


async def test_a_loop_that_is_closed_does_not_matter() -> None:
    """Its waiters are gone."""
    flag = Flag()
    loop = asyncio.new_event_loop()
    flag._waiters.append((loop, loop.create_future()))
    loop.close()
    flag.set()

    assert flag


def test_a_thread_waits_with_or_without_a_limit() -> None:
    """What sync code does between its steps."""
    flag = Flag()
    assert not flag.wait(0)
    threading.Thread(target=flag.set).start()

    assert flag.wait()
