"""Delivers what the outbox holds for callbacks: signed, again and again until it is taken.

Nothing is let go of before the receiver has said 2xx and that is on disk. So a message may come
twice, with the same ``webhook-id``, but never not at all: what is not delivered when the host ends
is delivered by the next one.
"""

from __future__ import annotations

import asyncio
import math
import random
import sqlite3
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from kagent_sdk.errors import StorageError, VaultError
from kagent_sdk.host.webhook_client import Request, WebhookClient
from kagent_sdk.host.webhook_policy import NOT_ALLOWED
from kagent_sdk.journal import outbox
from kagent_sdk.journal.delivery import (
    Action,
    Answer,
    Attempt,
    Lanes,
    RetryLimits,
    Verdict,
    is_transient,
    judge,
)
from kagent_sdk.protocol.callback_url import CallbackUrlError, parse_callback_url
from kagent_sdk.protocol.problems import outbox_full
from kagent_sdk.protocol.webhook import webhook_headers

if TYPE_CHECKING:
    from kagent_sdk.config.models import CallbacksConfig
    from kagent_sdk.host.logs.pump import LogPump
    from kagent_sdk.host.webhook_policy import WebhookPolicy
    from kagent_sdk.journal.outbox import Channel, Message
    from kagent_sdk.protocol.problem import Problem
    from kagent_sdk.storage.thread import Storage

CHANNEL: Channel = "webhook"

MAX_UNDER_WAY = 8
"""Deliveries at a time, over all receivers."""

STORAGE_RETRY_S = 5.0
LOOK_EVERY_S = 60.0
"""At the latest, when something waits: a clock that was set must not hold it up for longer."""

FULL_RETRY_S = 30.0
"""What a caller is told whose callback has no room."""

SMALL_BYTES = 256 * 1024
"""What is signed in the event loop; more is signed in a thread."""

Post = Callable[[Request], Awaitable[Answer]]


@dataclass(slots=True)
class Tally:
    """What became of deliveries since the host started.

    Attributes:
        delivered: messages that a receiver took.
        failed: attempts that it did not.
        dropped: messages that were given up.
        last_error: why the last attempt failed, or nothing can be sent.
    """

    delivered: int = 0
    failed: int = 0
    dropped: int = 0
    last_error: str | None = None


class Webhooks:
    """The job that delivers. Lives in the host's loop.

    Args:
        storage: has the outbox.
        policy: where they may go, and what signs them.
        pump: told of every attempt.
        post: sends; with aiohttp if None.
        clock: seconds since the epoch.

    Attributes:
        tally: what became of deliveries.
        stats: what the outbox held when it was asked last; None before.
    """

    def __init__(
        self,
        storage: Storage,
        policy: WebhookPolicy,
        pump: LogPump,
        *,
        post: Post | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._storage = storage
        self._policy = policy
        self._pump = pump
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._client = WebhookClient(MAX_UNDER_WAY)
        self._post = post or self._client.post
        self._lanes = Lanes()
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._is_reconsidering = False
        self._is_stopping = False
        self._pending_bytes = 0
        self.tally = Tally()
        self.stats: outbox.Stats | None = None

    # What others tell

    def refuse(self, url: str) -> Problem | None:
        """Return why a task with this callback is not taken; None when it may be."""
        if self._pending_bytes > self._policy.config.max_pending_bytes:
            return outbox_full(FULL_RETRY_S)
        return self._policy.refuse(url)

    def added(self, message: Message) -> None:
        """Take note of a message that is on disk now."""
        self._pending_bytes += len(message.payload)
        self._changed.set()

    def configure(self, config: CallbacksConfig) -> None:
        """Deliver by this configuration from now on, and try everything again."""
        self._policy.configure(config)
        self.reconsider()

    def reconsider(self) -> None:
        """Try everything again now: the configuration or the vault has changed."""
        self._is_reconsidering = True
        self._changed.set()

    async def sample(self) -> None:
        """Bring `stats` up to date; what was known stays when the database cannot be read."""
        try:
            stats = await self._storage.read(partial(outbox.stats, channel=CHANNEL))
        except StorageError:
            return
        self.stats = stats
        self._pending_bytes = stats.pending_bytes

    # Life

    async def run(self) -> None:
        """Deliver until cancelled, or until `finish`."""
        try:
            await self.sample()
            latest_at = self._clock() + self._policy.config.retry_max_s
            await self._advance(latest_at)
            while True:
                self._changed.clear()
                wait_s = await self._look()
                await self._sleep(wait_s)
        finally:
            await self._end()

    async def finish(self, within_s: float) -> None:
        """Begin nothing more, and give what is under way so long at the most.

        What is not delivered by then stays in the outbox.
        """
        self._is_stopping = True
        jobs = [*self._under_way.values()]
        if jobs:
            await asyncio.wait(jobs, timeout=max(0.0, within_s))
        await self._end()

    async def _end(self) -> None:
        self._is_stopping = True
        jobs = [*self._under_way.values()]
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        await self._client.aclose()

    async def _sleep(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(None if wait_s == math.inf else wait_s):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _advance(self, latest_at: float) -> None:
        advance = partial(outbox.advance, channel=CHANNEL, latest_at=latest_at)
        try:
            await self._storage.write(advance)
        except StorageError:
            return  # they are due a little later then

    # Looking for work

    async def _look(self) -> float:
        """Begin what is due, and return after how many seconds to look again."""
        if self._is_reconsidering:
            self._is_reconsidering = False
            self._lanes.clear()
            await self._advance(self._clock())
        places = MAX_UNDER_WAY - len(self._under_way)
        if places <= 0 or self._is_stopping:
            return math.inf  # the end of a delivery is a change
        # One moment for all: a lane that may be sent to again while the database is read is neither
        # among those that have room nor among those that wait, if each is asked at its own time.
        now_s, loop_s = self._clock(), self._loop.time()
        lane_at = self._lanes.next_at(loop_s)
        look = partial(
            outbox.due,
            channel=CHANNEL,
            now_s=now_s,
            limit=places,
            room=self._lanes.room(loop_s),
            skip=frozenset(self._under_way),
        )
        try:
            found = await self._storage.read(look)
        except StorageError:
            return STORAGE_RETRY_S
        if found.messages and not self._can_sign():
            return math.inf  # a change of the vault or the configuration is one
        for message in found.messages:
            self._begin(message)
        waits = [LOOK_EVERY_S]
        if lane_at is not None:
            waits.append(lane_at - self._loop.time())
        if found.next_at is not None:
            waits.append(found.next_at - now_s)
        return max(0.0, min(waits)) if len(waits) > 1 else math.inf

    def _can_sign(self) -> bool:
        try:
            self._policy.keys()
        except VaultError as exc:
            if self.tally.last_error != str(exc):
                self._pump.log("error", "webhooks_held_up", reason=str(exc))
            self.tally.last_error = str(exc)
            return False
        return True

    # One delivery

    def _begin(self, message: Message) -> None:
        if self._is_stopping:
            return
        self._lanes.begin(message.lane)
        job = self._loop.create_task(self._deliver(message))
        self._under_way[message.id] = job
        job.add_done_callback(partial(self._note_end, message))

    def _note_end(self, message: Message, job: asyncio.Task[None]) -> None:
        del self._under_way[message.id]
        self._lanes.end(message.lane)
        self._changed.set()
        error = None if job.cancelled() else job.exception()
        if error is not None and not isinstance(error, StorageError):
            # A fault of ours: the same message would come at once, and fail again.
            self._lanes.failed(message.lane, self._loop.time() + LOOK_EVERY_S)
            self._pump.log_exception("webhook_broken", error, task_id=message.task)

    async def _deliver(self, message: Message) -> None:
        config = self._policy.config
        limits = RetryLimits(config.retry_max_s, config.give_up_s)
        began = self._loop.time()
        age_s = self._clock() - message.created_at
        if self._lanes.is_failing(message.lane) and age_s >= limits.give_up_s:
            # Too old, and nothing arrives there: do not wait for one timeout more for each.
            reason = f"not delivered within {limits.give_up_s:g} s: nothing arrives there"
            verdict = Verdict(Action.DROP, reason=reason)
        else:
            answer = await self._send(message)
            lane_failures = self._lanes.failures(message.lane)
            attempt = Attempt(answer, message.attempts, lane_failures, age_s)
            verdict = judge(attempt, limits, random.random)
            self._note_answer(message, answer, verdict)
        self._report(message, verdict, took_s=self._loop.time() - began)
        await self._settle(message, verdict)

    async def _send(self, message: Message) -> Answer:
        policy = self._policy
        try:
            is_allowed = policy.allows(parse_callback_url(message.destination))
            keys = policy.keys()
        except (CallbackUrlError, VaultError) as exc:
            return Answer(error=str(exc), is_mistake=True)
        if not is_allowed:
            return Answer(error=f"the callback {NOT_ALLOWED}", is_mistake=True)
        sign = partial(webhook_headers, keys, message.id, self._clock(), message.payload)
        # The loop waits for no more than a millisecond of SHA-256.
        is_small = len(message.payload) <= SMALL_BYTES
        headers = sign() if is_small else await asyncio.to_thread(sign)
        timeout_s = policy.config.timeout_s
        return await self._post(Request(message.destination, headers, message.payload, timeout_s))

    def _note_answer(self, message: Message, answer: Answer, verdict: Verdict) -> None:
        if verdict.action is Action.ACKNOWLEDGE:
            self.tally.delivered += 1
        else:
            self.tally.failed += 1
            self.tally.last_error = str(answer)
        if is_transient(answer):
            self._lanes.failed(message.lane, self._loop.time() + verdict.lane_wait_s)
        elif not answer.is_mistake:
            self._lanes.arrived(message.lane)

    def _report(self, message: Message, verdict: Verdict, *, took_s: float) -> None:
        # The lane is scheme, host and port: path and query may hold a secret of the receiver's.
        about = {
            "task_id": message.task,
            "webhook_id": message.id,
            "receiver": message.lane,
            "attempt": message.attempts + 1,
            "took_s": round(took_s, 6),
        }
        match verdict.action:
            case Action.ACKNOWLEDGE:
                self._pump.log("info", "webhook_delivered", **about)
            case Action.POSTPONE:
                self._pump.log(
                    "warning",
                    "webhook_failed",
                    reason=self.tally.last_error,
                    again_in_s=round(verdict.wait_s, 3),
                    **about,
                )
            case Action.DROP:
                self.tally.dropped += 1
                self._pump.log("error", "webhook_dropped", reason=verdict.reason, **about)

    async def _settle(self, message: Message, verdict: Verdict) -> None:
        """Put on disk what became of a message; until then it counts as under way."""
        due_at = self._clock() + verdict.wait_s
        step: Callable[[sqlite3.Connection], bool]
        match verdict.action:
            case Action.ACKNOWLEDGE:
                step = partial(outbox.acknowledge, message_id=message.id)
            case Action.POSTPONE:
                step = partial(outbox.postpone, message_id=message.id, due_at=due_at)
            case Action.DROP:
                step = partial(outbox.drop, message_id=message.id, reason=verdict.reason)
        await self._storage.write(step, must=True)
        if verdict.action is not Action.POSTPONE:
            self._pending_bytes -= len(message.payload)
