"""The link's routes: what `kagent_sdk.protocol.link` says, over HTTP."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response

from kagent_sdk.errors import StorageError
from kagent_sdk.host.http.answers import json_response
from kagent_sdk.host.http.bodies import BodyReader
from kagent_sdk.orchestrator.agents import Agents, TooManyAgentsError, UnknownInstanceError
from kagent_sdk.orchestrator.broker import RETRY_AFTER_S, unavailable
from kagent_sdk.orchestrator.http.bodies import read_model
from kagent_sdk.orchestrator.port import Route
from kagent_sdk.orchestrator.push import write_offer
from kagent_sdk.orchestrator.reports import ReportIn, read_reports
from kagent_sdk.orchestrator.submission import problem
from kagent_sdk.protocol import problems
from kagent_sdk.protocol.json_text import SMALL_BYTES, JsonTextError
from kagent_sdk.protocol.link import Fetch, Goodbye, Heartbeat, Registration, ReportsAnswer
from kagent_sdk.protocol.problem import Problem, RequestError

NO_BODY = b"{}"


class LinkRoutes:
    """Answers agents.

    Args:
        agents: does what they ask.
        bodies: reads what they send.
        reports: reads what they report, which may be larger.
    """

    def __init__(self, agents: Agents, bodies: BodyReader, reports: BodyReader) -> None:
        self._agents = agents
        self._bodies = bodies
        self._reports = reports

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("POST", "/v1/link/agents", self._register),
            Route("POST", "/v1/link/agents/{instance}/heartbeat", self._heartbeat),
            Route("POST", "/v1/link/agents/{instance}/fetch", self._fetch),
            Route("POST", "/v1/link/agents/{instance}/reports", self._report),
            Route("POST", "/v1/link/agents/{instance}/goodbye", self._goodbye),
        ]

    async def _register(self, request: BaseRequest) -> Response:
        body = await self._bodies.read(request)
        registration = await read_model(Registration, body)
        _check_address(registration)
        try:
            registered = self._agents.register(registration, len(body))
        except TooManyAgentsError:
            raise RequestError(problems.queue_full(RETRY_AFTER_S)) from None
        return json_response(registered.model_dump_json().encode())

    async def _heartbeat(self, request: BaseRequest, instance: str) -> Response:
        heartbeat = await read_model(Heartbeat, await self._bodies.read(request))
        try:
            answer = self._agents.heartbeat(instance, heartbeat)
        except UnknownInstanceError:
            raise RequestError(_unknown_instance()) from None
        return json_response(answer.model_dump_json().encode())

    async def _fetch(self, request: BaseRequest, instance: str) -> Response:
        fetch = await read_model(Fetch, await self._bodies.read(request) or NO_BODY)
        try:
            offer = await self._agents.fetch(instance, fetch.wait_s)
        except UnknownInstanceError:
            raise RequestError(_unknown_instance()) from None
        except StorageError:
            raise RequestError(unavailable()) from None
        if offer is None:
            return Response(status=204)
        body, headers = write_offer(offer)
        return json_response(body, headers=headers)

    async def _report(self, request: BaseRequest, instance: str) -> Response:
        body = await self._reports.read(request)
        reports = await _read_reports(body)
        try:
            answers = await self._agents.report(instance, reports)
        except UnknownInstanceError:
            raise RequestError(_unknown_instance()) from None
        except StorageError:
            raise RequestError(unavailable()) from None
        return json_response(ReportsAnswer(items=tuple(answers)).model_dump_json().encode())

    async def _goodbye(self, request: BaseRequest, instance: str) -> Response:
        goodbye = await read_model(Goodbye, await self._bodies.read(request))
        self._agents.goodbye(instance, is_gone=goodbye.phase == "stopped")
        return Response(status=204)


async def _read_reports(body: bytes) -> list[ReportIn]:
    try:
        if len(body) <= SMALL_BYTES:
            return read_reports(body)
        return await asyncio.to_thread(read_reports, body)
    except JsonTextError as exc:
        raise RequestError(problems.invalid_json(str(exc))) from None
    except ValueError as exc:
        where, _, message = str(exc).partition(": ")
        raise problem(where, message) from None


def _check_address(registration: Registration) -> None:
    if registration.delivery == "pull":
        return
    url = registration.url or ""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    # With ? or # the path of an offer would be no path: it would go to any program that listens.
    is_plain = url.isascii() and url.isprintable() and not set(url) & set(" @?#\\")
    if not is_address or not is_plain:
        raise problem("url", "must be http(s)://HOST:PORT with push, where the agent is reached")


def _unknown_instance() -> Problem:
    return Problem(
        404,
        "No such agent",
        "unknown_instance",
        "no such instance is registered here, or it was silent for too long: register again",
    )
