"""Asks for tasks, when nobody can reach the agent."""

from __future__ import annotations

import asyncio
import time

from kagent_sdk.link import decisions
from kagent_sdk.link.decisions import ContactError, Fault
from kagent_sdk.link.http.client import MAX_ANSWER_BYTES
from kagent_sdk.link.http.messages import encode_reports, parse_offer, reject
from kagent_sdk.link.http.session import Grievance, LinkSession
from kagent_sdk.link.port import OfferRefusedError
from kagent_sdk.protocol.json_text import SMALL_BYTES
from kagent_sdk.protocol.link import Fetch, Offer
from kagent_sdk.protocol.tasks import TaskFailure

FETCH_WAIT_S = 20.0

NO_CONTENT = 204

_UNKNOWN = frozenset({Fault.UNKNOWN})


class Fetcher:
    """Keeps one place of the agent filled; several of them may share a session.

    Args:
        session: the agent's standing.
        grievance: shared by all fetchers of a link.
    """

    def __init__(self, session: LinkSession, grievance: Grievance) -> None:
        self._session = session
        self._host = session.host
        self._grievance = grievance

    async def run(self) -> None:
        """Fetch one task after the other while the agent has room, until cancelled."""
        while True:
            await self._host.wait_for_room()
            await self._session.fetching.wait()
            offer = await self._fetch()
            if offer is not None:
                await self._take(offer)

    async def _fetch(self) -> Offer | None:
        session = self._session
        generation = session.generation
        try:
            async with session.fetches.scope():
                return await session.persist(
                    self._ask, self._grievance.complain, give_up_on=_UNKNOWN
                )
        except TimeoutError:
            return None  # the link is down, or the agent drains
        except ContactError:
            session.note_unknown(generation)
            return None

    async def _ask(self) -> Offer | None:
        session = self._session
        began_s = time.monotonic()
        answer = await session.ask(
            "fetch",
            Fetch(wait_s=FETCH_WAIT_S).model_dump_json().encode(),
            timeout_s=FETCH_WAIT_S + session.settings.timeout_s,
            limit_bytes=MAX_ANSWER_BYTES + session.settings.max_body_bytes,
        )
        if answer.status == NO_CONTENT:
            self._grievance.settle()
            took_s = time.monotonic() - began_s
            await asyncio.sleep(decisions.empty_fetch_wait_s(took_s, FETCH_WAIT_S))
            return None
        if len(answer.body) <= SMALL_BYTES:
            offer = parse_offer(answer.headers, answer.body)
        else:
            offer = await asyncio.to_thread(parse_offer, answer.headers, answer.body)
        self._grievance.settle()
        return offer

    async def _take(self, offer: Offer) -> None:
        try:
            await self._host.take(offer)
        except OfferRefusedError as exc:
            failure = exc.failure
            self._host.log("info", "link_offer_refused", task_id=offer.task, code=failure.code)
            if not failure.retryable:
                await self._reject(offer, failure)
            await asyncio.sleep(decisions.refusal_wait_s(exc.retry_after_s))

    async def _reject(self, offer: Offer, failure: TaskFailure) -> None:
        """Tell that this agent will never take a task; if that is not heard, its lease runs out."""
        body = encode_reports([reject(offer, failure, time.time())])
        try:
            await self._session.ask("reports", body, timeout_s=self._session.settings.timeout_s)
        except ContactError as exc:
            self._grievance.complain(exc.reason)
