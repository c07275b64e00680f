"""A load for the ledger agent: payments whose hosts and workers die, and what their payers see of it."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.integration.orders import REFUSALS

RETRY_S = 0.02
ANSWER_DEADLINE_S = 60.0
"""No answer may take longer, restarts included: else something hangs."""

POLL_WAIT_S = 10
FINAL_STATES = frozenset({"completed", "failed", "canceled", "rejected"})

MIX = {
    "count": 6,
    "count_in_thread": 2,
    "transfer": 6,
    "charge": 4,
    "statement": 3,
    "fragile": 2,
    "refuse": 1,
}
ROUTES = {"wait": 4, "async": 4, "keyed": 2, "poll": 1}
"""Waiting, ``Prefer: respond-async``, the fast path with ``Idempotency-Key``, and asking again and
again without waiting."""

BROKEN = (aiohttp.ClientError, OSError)
"""What a client sees of a host that is gone."""

COUNTING = frozenset({"count", "count_in_thread"})
COUNTERS = {"hot": 3, "warm": 2, "cold": 1}
PAUSES_S = (0.0, 0.0, 0.01, 0.05, 0.2)


@dataclass(frozen=True, slots=True)
class Payment:
    """One task that somebody wants done once.

    Attributes:
        token: its id.
        route: one of `ROUTES`, or ``stream``.
        timeout_s: as the caller asks for it.
        is_to_cancel: the caller changes its mind as soon as it is acknowledged.
    """

    token: str
    capability: str
    input: dict[str, Any]
    route: str
    timeout_s: float | None = None
    is_to_cancel: bool = False


def write_payments(seed: int, accounts: int) -> Iterator[Payment]:
    """Yield payments without end, the same ones for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - a load, no secret
    number = 0
    while True:
        number += 1
        token = f"pay-{number}"
        capability = chance.choices([*MIX], [*MIX.values()])[0]
        route = chance.choices([*ROUTES], [*ROUTES.values()])[0]
        yield Payment(
            token,
            capability,
            {"token": token, **_details(capability, chance, accounts)},
            "stream" if capability == "statement" else route,
            timeout_s=0.25 if capability in COUNTING and chance.random() < 0.05 else None,
            is_to_cancel=route == "async" and chance.random() < 0.1,
        )


def _details(capability: str, chance: random.Random, accounts: int) -> dict[str, Any]:
    pause_s = chance.choice(PAUSES_S)
    match capability:
        case "count" | "count_in_thread":
            counter = chance.choices([*COUNTERS], [*COUNTERS.values()])[0]
            return {"counter": counter, "pause_s": pause_s, "hold_s": chance.choice((0, 0, 0.01))}
        case "transfer":
            source, target = chance.sample(range(accounts), 2)
            amount = chance.randint(1, 50)
            return {"source": source, "target": target, "amount": amount, "pause_s": pause_s}
        case "fragile":
            return {"pause_s": chance.uniform(0.2, 1.0)}
        case "statement":
            return {"n": chance.randint(2, 12), "pause_s": max(pause_s, 0.05)}
        case "charge":
            return {"pause_s": pause_s}
        case _:
            return {}


@dataclass(slots=True, eq=False)
class Record:
    """What the payer of one payment has seen.

    Attributes:
        is_acknowledged: the agent said that it has it: with 202, an event, or the end.
        document: the task's, byte for byte, when it had ended.
        output: what the fast path answered, byte for byte; None if it failed or was not used.
        events: of a stream, by number.
        retries: requests whose connection broke.
        refusals: answers 429 and 503.
        wrongs: what contradicts what was seen before.
    """

    payment: Payment
    is_acknowledged: bool = False
    document: bytes | None = None
    output: bytes | None = None
    events: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    retries: int = 0
    refusals: int = 0
    asked_again: int = 0
    wrongs: list[str] = field(default_factory=list)

    @property
    def task(self) -> Any:
        """The document, parsed."""
        assert self.document is not None
        return json.loads(self.document)

    def end(self, document: bytes) -> None:
        """Note a task that has ended: from then on it is the same for everyone."""
        self.is_acknowledged = True
        if self.document is None:
            self.document = document
        elif self.document != document:
            self.wrongs.append(f"two ends: {self.document!r} and {document!r}")

    def answer(self, output: bytes) -> None:
        """Note an output of the fast path."""
        self.is_acknowledged = True
        if self.output is None:
            self.output = output
        elif self.output != output:
            self.wrongs.append(f"two outputs: {self.output!r} and {output!r}")

    def hear(self, number: int, kind: str, data: bytes) -> None:
        """Note an event of a stream: a number stands for one event, for ever."""
        self.is_acknowledged = True
        before = self.events.setdefault(number, (kind, data))
        if before != (kind, data):
            self.wrongs.append(f"two events {number}: {before} and {(kind, data)}")


class Payer:
    """Makes payments with an agent that may die at any time, until each has its end.

    Args:
        session: an HTTP client.
        find_url: returns the base URL of the host that there is now, and waits for one.
    """

    def __init__(
        self, session: aiohttp.ClientSession, find_url: Callable[[], Awaitable[str]]
    ) -> None:
        self._session = session
        self._find_url = find_url

    async def pay(self, payment: Payment) -> Record:
        """Send a payment, and again, until its end is known.

        Raises:
            AssertionError: an answer that this API does not have.
            TimeoutError: no answer.
        """
        record = Record(payment)
        if payment.route == "keyed":
            await self._pay_keyed(record)
        elif payment.route == "stream":
            await self._follow(record)
        while record.document is None:
            await self._submit(record)
        return record

    async def ask_again(self, record: Record) -> None:
        """Ask for the end of a payment once more, in every way: it must be the same."""
        record.asked_again += 1
        payment = record.payment
        await self.read(record)
        status, body = await self._post(record, {})
        assert status == 200, (status, body)
        record.end(body)
        other = {"capability": payment.capability, "input": {**payment.input, "other": 1}}
        status, body = await self._request(
            record, "POST", "/v1/tasks", {"id": payment.token, **other}
        )
        if status != 409:
            record.wrongs.append(f"the same id with another input: {status} {body!r}")

    async def read(self, record: Record) -> None:
        """Read a task that is known to have ended."""
        status, body = await self._request(record, "GET", f"/v1/tasks/{record.payment.token}")
        if status != 200:
            record.wrongs.append(f"a task that had ended is gone: {status} {body!r}")
        else:
            record.end(body)

    async def _submit(self, record: Record) -> None:
        """Hand a payment in, and wait for its end as its route says."""
        payment = record.payment
        headers = {} if payment.route == "wait" else {"Prefer": "respond-async"}
        status, body = await self._post(record, headers)
        assert status in (200, 202), (status, body)
        record.is_acknowledged = True
        if payment.is_to_cancel:
            await self._request(record, "POST", f"/v1/tasks/{payment.token}/cancel")
        wait = "" if payment.route == "poll" else f"?wait_s={POLL_WAIT_S}"
        while json.loads(body)["state"] not in FINAL_STATES:
            status, body = await self._request(record, "GET", f"/v1/tasks/{payment.token}{wait}")
            if status != 200:
                record.wrongs.append(f"an acknowledged task is gone: {status} {body!r}")
                return
            await asyncio.sleep(0 if wait else RETRY_S / 4)
        record.end(body)

    async def _pay_keyed(self, record: Record) -> None:
        payment = record.payment
        path = f"/v1/capabilities/{payment.capability}"
        headers = {"Idempotency-Key": payment.token}
        status, body = await self._request(record, "POST", path, payment.input, headers)
        if status == 200:
            record.answer(body)
        else:
            assert json.loads(body)["error"], (status, body)
            record.is_acknowledged = True
        await self.read(record)

    async def _follow(self, record: Record) -> None:
        """Follow a stream to its last event, from where it broke off."""
        while record.document is None:
            url = await self._find_url()
            try:
                await self._follow_once(record, url)
            except BROKEN as exc:
                await self._note_break(record, exc)

    async def _follow_once(self, record: Record, url: str) -> None:
        payment = record.payment
        headers = {"Accept": "text/event-stream"}
        if record.is_acknowledged:
            last = max(record.events, default=0)
            path = f"{url}/v1/tasks/{payment.token}/events"
            request = self._session.get(path, headers={**headers, "Last-Event-ID": str(last)})
        else:
            body = self._document(payment)
            request = self._session.post(f"{url}/v1/tasks", json=body, headers=headers)
        async with request as answer:
            if answer.status in (429, 503):
                record.refusals += 1
                await asyncio.sleep(RETRY_S)
                return
            if answer.status != 200:
                record.wrongs.append(f"no stream: {answer.status} {await answer.text()}")
                record.document = b'{"state": "lost"}'
                return
            await _read_events(answer, record)

    @staticmethod
    async def _note_break(record: Record, error: Exception) -> None:
        if isinstance(error, TimeoutError):
            raise error  # a host that is dead says so at once: this one hangs
        record.retries += 1
        await asyncio.sleep(RETRY_S)

    async def _post(self, record: Record, headers: dict[str, str]) -> tuple[int, bytes]:
        body = self._document(record.payment)
        return await self._request(record, "POST", "/v1/tasks", body, headers)

    @staticmethod
    def _document(payment: Payment) -> dict[str, Any]:
        document = {"id": payment.token, "capability": payment.capability, "input": payment.input}
        return (
            document if payment.timeout_s is None else document | {"timeout_s": payment.timeout_s}
        )

    async def _request(
        self,
        record: Record,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Send a request until somebody takes it; what is sent twice has the same id."""
        while True:
            url = await self._find_url()
            try:
                async with self._session.request(
                    method, url + path, json=body, headers=headers
                ) as answer:
                    status, content = answer.status, await answer.read()
            except BROKEN as exc:
                await self._note_break(record, exc)
                continue
            if status not in (429, 503) or json.loads(content)["code"] not in REFUSALS:
                return status, content
            record.refusals += 1
            await asyncio.sleep(RETRY_S)


async def _read_events(answer: aiohttp.ClientResponse, record: Record) -> None:
    """Read server-sent events until the task is there, or the connection ends."""
    number, kind, data = 0, "message", b""
    async for raw in answer.content:
        line = raw.rstrip(b"\r\n")
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"id":
                number = int(value)
            case b"event":
                kind = value.decode()
            case b"data":
                data = value
            case _ if not line and data:
                record.hear(number, kind, data)
                if kind == "task":
                    record.end(data)
                    return
                kind, data = "message", b""
