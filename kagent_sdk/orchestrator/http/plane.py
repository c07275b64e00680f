"""Which handler answers which request of the orchestrator, and who may ask."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable

from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse

from kagent_sdk.host.http.answers import json_response, problem_response
from kagent_sdk.host.http.routing import Router
from kagent_sdk.host.logs.pump import LogPump
from kagent_sdk.orchestrator.http.auth import Roles
from kagent_sdk.orchestrator.port import Handler, Route
from kagent_sdk.protocol import problems
from kagent_sdk.protocol.problem import RequestError


class Plane:
    """Answers every request.

    Args:
        roles: who may ask for what.
        pump: told of handlers that fail.

    Attributes:
        answered: how many requests were answered, by route and status.
    """

    def __init__(self, roles: Roles, pump: LogPump) -> None:
        self._roles = roles
        self._pump = pump
        self._router: Router[Handler] = Router()
        self.answered: Counter[tuple[str, int]] = Counter()

    def add(self, routes: Iterable[Route]) -> None:
        """Add routes; before the server listens.

        Raises:
            ValueError: one is in the way of another.
        """
        for method, path, handler in routes:
            self._router.add(method, path, handler)

    async def handle(self, request: BaseRequest) -> StreamResponse:
        """Answer one request; its cancellation means that the client is gone."""
        route = "none"
        try:
            match = self._router.match(request.method, request.raw_path)
            route = match.route
            self._roles.check(route, request.headers)
            response = await match.handler(request, *match.params)
        except RequestError as error:
            response = problem_response(error.problem)
        except (asyncio.CancelledError, ConnectionError):
            self.answered[route, 499] += 1
            raise
        except Exception as error:  # noqa: BLE001 - the boundary of every handler
            self._pump.log_exception("request_failed", error, route=route)
            response = problem_response(problems.internal_error())
        self.answered[route, response.status] += 1
        return response


def probe_response(*, is_ok: bool, word: str, detail: str | None = None) -> Response:
    """Return the answer of a probe."""
    body = json.dumps({"status": word, "detail": detail}).encode()
    headers = {"Cache-Control": "no-store"}
    if not is_ok:
        headers["Retry-After"] = "1"
    return json_response(body, 200 if is_ok else 503, headers)
