"""The job that delivers callbacks: what it lets go of, what it tries again, whom it makes wait."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from kagent_sdk.config.models import CallbacksConfig
from kagent_sdk.host import webhooks as webhooks_module
from kagent_sdk.host.callbacks import NONE_ALLOWED, Callbacks
from kagent_sdk.host.vault import Vault
from kagent_sdk.host.webhook_client import Request
from kagent_sdk.host.webhook_policy import WebhookPolicy
from kagent_sdk.host.webhooks import MAX_UNDER_WAY, Webhooks
from kagent_sdk.journal import delivery, outbox
from kagent_sdk.journal.delivery import LANE_PLACES, Answer
from kagent_sdk.journal.outbox import Message
from kagent_sdk.protocol.callback_url import parse_callback_url
from kagent_sdk.protocol.webhook import verify_webhook
from kagent_sdk.storage.thread import Storage

SECRET = f"whsec_{base64.b64encode(b'k' * 32).decode()}"
OTHER = f"whsec_{base64.b64encode(b'o' * 32).decode()}"
ALLOW = ("https://a.example/", "https://b.example/")
NOW_S = 1_700_000_000.0

OK, DOWN = Answer(204), Answer(error="no connection: refused")


@dataclass
class Receivers:
    """All receivers in one: answers by the script of a task, then with 204.

    Attributes:
        answers: what tasks get, one after the other.
        requests: what was sent, in order.
        gate: closed, nobody answers.
        most: how many requests were open at a time.
    """

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    open: int = 0
    most: int = 0

    async def post(self, request: Request) -> Answer:
        """Take a request."""
        self.requests.append(request)
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await self.gate.wait()
        finally:
            self.open -= 1
        script = self.answers.get(self.task_of(request), [])
        return script.pop(0) if script else OK

    @staticmethod
    def task_of(request: Request) -> str:
        """Return which task a request is about."""
        return request.url.rpartition("/")[2]

    @property
    def tasks(self) -> list[str]:
        """Which tasks requests were about, in order."""
        return [self.task_of(request) for request in self.requests]


@dataclass
class Rig:
    """A job, and what it works with.

    Attributes:
        now: what the clock says.
    """

    storage: Storage
    receivers: Receivers
    keeper: SimpleNamespace
    webhooks: Webhooks
    records: list[tuple[str, str, dict[str, Any]]]
    now: list[float]

    async def add(self, task: str, host: str = "a.example", *, payload: bytes = b"{}") -> Message:
        """Put a message into the outbox and tell of it."""
        url = f"https://{host}/{task}"
        lane = parse_callback_url(url).origin
        message = Message(f"msg_{task}", "webhook", lane, task, "result", url, payload, self.now[0])
        await self.storage.write(partial(outbox.add, message=message))
        self.webhooks.added(message)
        return message

    async def pending(self) -> int:
        """Return how many messages the outbox holds."""
        await self.webhooks.sample()
        assert self.webhooks.stats is not None
        return self.webhooks.stats.pending

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the job work until something is so."""
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - the storage's thread has no event here
                await asyncio.sleep(0.002)

    async def until_pending(self, count: int) -> None:
        """Let the job work until the outbox holds so many messages."""
        async with asyncio.timeout(20):
            while await self.pending() != count:  # noqa: ASYNC110 - as in `until`
                await asyncio.sleep(0.002)

    def events(self) -> list[str]:
        """Return the names of what was logged."""
        return [event for _, event, _ in self.records]


class Pump:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str, dict[str, Any]]] = []

    def log(self, level: str, event: str, **values: Any) -> None:
        """Keep a record."""
        self.records.append((level, event, values))

    def log_exception(self, event: str, error: BaseException, **values: Any) -> None:
        """Keep a record of an exception."""
        self.log("error", event, error=repr(error), **values)


@asynccontextmanager
async def make_rig(**config: Any) -> AsyncIterator[Rig]:
    """Give a job that does not run yet."""
    storage = Storage(None, "none")
    await storage.open()
    keeper: Any = SimpleNamespace(vault=Vault({"webhook_secret": SECRET}))
    receivers = Receivers()
    receivers.gate.set()
    pump: Any = Pump()
    now = [NOW_S]
    policy = WebhookPolicy(CallbacksConfig(allow=ALLOW, **config), keeper)
    webhooks = Webhooks(storage, policy, pump, post=receivers.post, clock=lambda: now[0])
    try:
        yield Rig(storage, receivers, keeper, webhooks, pump.records, now)
    finally:
        await storage.aclose()


@asynccontextmanager
async def running(**config: Any) -> AsyncIterator[Rig]:
    """Give a job that runs."""
    async with make_rig(**config) as rig:
        job = asyncio.create_task(rig.webhooks.run())
        try:
            yield rig
        finally:
            job.cancel()
            await asyncio.gather(job, return_exceptions=True)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_WAIT_S", 0.001)


async def test_what_a_receiver_takes_is_let_go_of() -> None:
    """Once, signed at that moment, and with the id that never changes."""
    async with running() as rig:
        await rig.add("t-1", payload=b'{"n":1}')
        await rig.until_pending(0)

    (request,) = rig.receivers.requests
    assert request.url == "https://a.example/t-1"
    assert request.headers["webhook-id"] == "msg_t-1"
    assert verify_webhook(SECRET, request.headers, request.body, now_s=NOW_S) == {"n": 1}
    assert request.timeout_s == 15
    assert (rig.webhooks.tally.delivered, rig.webhooks.tally.failed) == (1, 0)
    assert rig.records[0][1] == "webhook_delivered"
    assert rig.records[0][2]["receiver"] == "https://a.example:443"


async def test_what_waits_from_before_is_delivered() -> None:
    """The host before was killed between end and delivery, and its clock was far ahead."""
    async with make_rig(retry_max_s=0.01) as rig:
        await rig.add("t-1")
        await rig.storage.write(partial(outbox.postpone, message_id="msg_t-1", due_at=1e12))
        assert await rig.pending() == 1
        jobs = [asyncio.create_task(rig.webhooks.run()), asyncio.create_task(_advance(rig))]
        await rig.until_pending(0)
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

    assert rig.receivers.tasks == ["t-1"]


async def test_a_receiver_that_is_down_is_asked_until_it_is_back() -> None:
    """At least once is a promise."""
    async with running() as rig:
        rig.receivers.answers["t-1"] = [DOWN, Answer(503), Answer(429, retry_after_s=0.001), DOWN]
        await rig.add("t-1")
        tick = asyncio.create_task(_advance(rig))
        await rig.until_pending(0)
        tick.cancel()

    assert rig.receivers.tasks == ["t-1"] * 5
    assert {request.headers["webhook-id"] for request in rig.receivers.requests} == {"msg_t-1"}
    assert (rig.webhooks.tally.delivered, rig.webhooks.tally.failed) == (1, 4)
    assert rig.webhooks.tally.last_error == "no connection: refused"
    assert rig.events() == ["webhook_failed"] * 4 + ["webhook_delivered"]


async def _advance(rig: Rig) -> None:
    while True:
        rig.now[0] += 0.01
        await asyncio.sleep(0.001)


async def test_a_receiver_that_is_gone_is_let_go_of_with_a_trace() -> None:
    """410 ends it, and the status still tells what was lost."""
    async with running() as rig:
        rig.receivers.answers["t-1"] = [Answer(410)]
        await rig.add("t-1")
        await rig.until_pending(0)

    stats = rig.webhooks.stats
    assert stats is not None
    assert stats.dropped == 1
    assert "410" in str(stats.last_drop)
    assert rig.records[-1][:2] == ("error", "webhook_dropped")


async def test_deliveries_are_few_at_a_time_and_no_receiver_has_them_all() -> None:
    """A receiver that never answers costs others nothing but its own places."""
    async with running() as rig:
        rig.receivers.gate.clear()
        for number in range(10):
            await rig.add(f"a-{number}")
        await rig.until(lambda: rig.receivers.open == LANE_PLACES)
        for number in range(10):
            await rig.add(f"b-{number}", "b.example")
        await rig.until(lambda: rig.receivers.open == MAX_UNDER_WAY)
        rig.receivers.gate.set()
        await rig.until_pending(0)

    assert rig.receivers.most == MAX_UNDER_WAY
    assert sorted(rig.receivers.tasks) == sorted(f"{x}-{n}" for x in "ab" for n in range(10))


async def test_a_failing_receiver_gets_one_message_at_a_time() -> None:
    """And the one beside it gets its messages meanwhile."""
    async with running() as rig:
        for number in range(6):
            rig.receivers.answers[f"a-{number}"] = [Answer(500, retry_after_s=250.0)]
            await rig.add(f"a-{number}")
        await rig.add("b-1", "b.example")
        await rig.until(lambda: rig.webhooks.tally.delivered == 1)
        await rig.until(lambda: rig.webhooks.tally.failed >= 1)

        assert rig.webhooks.tally.failed <= LANE_PLACES
        assert await rig.pending() == 6


async def test_what_is_too_old_is_given_up() -> None:
    """A receiver that never comes back must not fill the disk."""
    async with running(give_up_s=100) as rig:
        for number in range(3):
            rig.receivers.answers[f"t-{number}"] = [DOWN] * 99
            rig.now[0] = NOW_S
            await rig.add(f"t-{number}")
        await rig.until(lambda: rig.webhooks.tally.failed >= 3)
        rig.now[0] += 101
        rig.webhooks.reconsider()
        await rig.until_pending(0)

    assert rig.webhooks.stats is not None
    assert rig.webhooks.stats.dropped == 3
    assert "not delivered within 100 s" in str(rig.webhooks.stats.last_drop)


async def test_a_callback_that_is_not_allowed_any_more_is_not_sent() -> None:
    """The operator took it out of the configuration; put back, it goes out."""
    async with running() as rig:
        rig.webhooks.configure(CallbacksConfig(allow=("https://b.example/",)))
        await rig.add("t-1")
        await rig.until(lambda: rig.webhooks.tally.failed == 1)
        assert rig.receivers.requests == []
        assert "callbacks.allow" in str(rig.webhooks.tally.last_error)
        rig.webhooks.configure(CallbacksConfig(allow=ALLOW))
        await rig.until_pending(0)

    assert rig.receivers.tasks == ["t-1"]


async def test_a_broken_destination_is_no_endless_loop() -> None:
    """A database that somebody edited."""
    async with running() as rig:
        message = Message("msg_x", "webhook", "x", "t", "result", "nonsense", b"{}", NOW_S)
        await rig.storage.write(partial(outbox.add, message=message))
        rig.webhooks.added(message)
        await rig.until(lambda: rig.webhooks.tally.failed == 1)
        await rig.add("t-1")
        await rig.until_pending(1)

    assert rig.receivers.tasks == ["t-1"]
    assert rig.webhooks.tally.failed == 1


async def test_a_fault_of_ours_is_logged_and_slow() -> None:
    """It would else be the same one again, thousands of times a second."""
    async with running() as rig:

        async def fail(_request: Request) -> Answer:
            raise ZeroDivisionError

        rig.webhooks._post = fail
        await rig.add("t-1")
        await rig.until(lambda: "webhook_broken" in rig.events())
        await rig.add("t-2")
        await rig.add("t-3", "b.example")
        await rig.until(lambda: rig.events().count("webhook_broken") == 2)

        assert await rig.pending() == 3


async def test_without_a_secret_messages_wait_for_it() -> None:
    """No attempt is used up, and the status says what is missing; a rotation is taken at once."""
    async with running() as rig:
        rig.keeper.vault = Vault({})
        await rig.add("t-1")
        await rig.until(lambda: rig.webhooks.tally.last_error is not None)
        rig.webhooks.reconsider()
        await rig.add("t-2")
        await rig.pending()
        assert rig.receivers.requests == []
        assert "callbacks.secret" in str(rig.webhooks.tally.last_error)
        assert rig.events() == ["webhooks_held_up"]

        rig.keeper.vault = Vault({"webhook_secret": [OTHER, SECRET]})
        rig.webhooks.reconsider()
        await rig.until_pending(0)

    request = rig.receivers.requests[0]
    assert verify_webhook(OTHER, request.headers, request.body, now_s=NOW_S) == {}
    assert verify_webhook(SECRET, request.headers, request.body, now_s=NOW_S) == {}


async def test_a_secret_that_goes_meanwhile_is_no_reason_to_drop() -> None:
    """The vault may change between the look and the delivery."""
    async with make_rig() as rig:
        message = await rig.add("t-1")
        rig.keeper.vault = Vault({"webhook_secret": "hunter2"})
        answer = await rig.webhooks._send(message)

    assert answer.is_mistake
    assert "hunter2" not in str(answer)


async def test_a_large_body_is_signed_like_a_small_one() -> None:
    """In a thread, for it takes its time."""
    body = b'"%b"' % (b"x" * webhooks_module.SMALL_BYTES)
    async with running() as rig:
        await rig.add("t-1", payload=body)
        await rig.until_pending(0)

    (request,) = rig.receivers.requests
    assert len(verify_webhook(SECRET, request.headers, request.body, now_s=NOW_S)) == len(body) - 2


async def test_the_end_gives_what_is_under_way_a_moment() -> None:
    """And begins nothing more; the rest is for the next host."""
    async with running() as rig:
        rig.receivers.gate.clear()
        await rig.add("t-1")
        await rig.until(lambda: rig.receivers.open == 1)
        finishing = asyncio.create_task(rig.webhooks.finish(10))
        await asyncio.sleep(0)
        await rig.add("t-2")
        rig.receivers.gate.set()
        await finishing

        assert await rig.pending() == 1
        assert rig.receivers.tasks == ["t-1"]


async def test_the_end_does_not_wait_for_a_receiver_that_hangs() -> None:
    """The message stays, with no attempt counted."""
    async with running() as rig:
        rig.receivers.gate.clear()
        await rig.add("t-1")
        await rig.until(lambda: rig.receivers.open == 1)
        await rig.webhooks.finish(0)

        assert await rig.pending() == 1
        assert rig.receivers.open == 0
        due = await rig.storage.read(partial(outbox.due, channel="webhook", now_s=NOW_S, limit=1))
        assert [message.attempts for message in due.messages] == [0]


async def test_a_database_that_fails_is_looked_into_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk may come back."""
    monkeypatch.setattr(webhooks_module, "STORAGE_RETRY_S", 0.001)
    async with make_rig() as rig:
        await rig.storage.aclose()
        job = asyncio.create_task(rig.webhooks.run())
        rig.webhooks.reconsider()
        await asyncio.sleep(0.02)
        assert not job.done()
        assert rig.webhooks.stats is None
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)


async def test_an_outbox_that_is_full_refuses_callbacks() -> None:
    """What was accepted is never dropped for lack of room: nothing more is accepted."""
    async with make_rig(max_pending_bytes=1024) as rig:
        assert rig.webhooks.refuse("https://a.example/x") is None
        await rig.add("t-1", payload=b"x" * 2000)
        problem = rig.webhooks.refuse("https://a.example/x")

        assert problem is not None
        assert (problem.status, problem.code) == (429, "outbox_full")
        job = asyncio.create_task(rig.webhooks.run())
        await rig.until_pending(0)
        assert rig.webhooks.refuse("https://a.example/x") is None
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)


@pytest.mark.parametrize(
    ("allow", "values", "url", "message"),
    [
        (ALLOW, {"webhook_secret": SECRET}, "https://a.example/x", None),
        (ALLOW, {"webhook_secret": SECRET}, "https://c.example/", "callbacks.allow in config.yaml"),
        (
            ALLOW,
            {},
            "https://a.example/",
            "no key webhook_secret (callbacks.secret in config.yaml)",
        ),
        (ALLOW, {"webhook_secret": "hunter2"}, "https://a.example/", "webhook_secret is unfit"),
        ((), {"webhook_secret": SECRET}, "https://a.example/", NONE_ALLOWED),
    ],
)
async def test_a_callback_that_cannot_be_is_refused_at_once(
    allow: tuple[str, ...], values: dict[str, Any], url: str, message: str | None
) -> None:
    """And the message names the key to set, and no value."""
    keeper: Any = SimpleNamespace(vault=Vault(values))
    pump: Any = Pump()
    storage = Storage(None, "none")
    callbacks = Callbacks(storage, CallbacksConfig(allow=allow), keeper, pump)
    problem = callbacks.refuse(url)

    assert (problem is None) == (message is None)
    if problem is not None and message is not None:
        assert problem.status == 422
        assert message in problem.detail
        assert "hunter2" not in problem.detail
        assert problem.extra["error"]["details"][0]["loc"] == ["callback_url"]
