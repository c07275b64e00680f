"""Which handler answers which request, and who may ask."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse

from kagent_sdk.host.admission import Refusal, retry_after_s
from kagent_sdk.host.engine import Engine
from kagent_sdk.host.health import Health
from kagent_sdk.host.http.answers import json_response, problem_response
from kagent_sdk.host.http.auth import Gatekeeper
from kagent_sdk.host.http.calls import Calls
from kagent_sdk.host.http.routing import Router
from kagent_sdk.host.http.tasks import Tasks
from kagent_sdk.host.logs.pump import LogPump
from kagent_sdk.host.trial import Outcome
from kagent_sdk.protocol import problems
from kagent_sdk.protocol.headers import parse_prefer
from kagent_sdk.protocol.problem import RequestError


@dataclass(frozen=True, slots=True)
class Probes:
    """What the control plane asks of the host.

    Attributes:
        health: judged at the moment of the call; never blocks.
        stuck_stack: where a worker hangs, if one does.
        status: the whole ``/status`` document as JSON.
        metrics: Prometheus text and its content type.
        openapi: the description of this API as JSON.
        shut_down: begins a shutdown and returns at once.
        reload: begins a reload, or joins the one that is due; done with its outcome.
        reload_status: the part of ``/status`` about reloads as JSON.
        snapshot: answers a request for a snapshot.
    """

    health: Callable[[], Health]
    stuck_stack: Callable[[], str | None]
    status: Callable[[], Awaitable[bytes]]
    metrics: Callable[[], Awaitable[tuple[bytes, str]]]
    openapi: Callable[[], Awaitable[bytes]]
    shut_down: Callable[[], None]
    reload: Callable[[], asyncio.Future[Outcome]]
    reload_status: Callable[[], Awaitable[bytes]]
    snapshot: Callable[[BaseRequest], Awaitable[Response]]


class ControlPlane:
    """Answers every request of the HTTP API.

    Args:
        engine: the tasks.
        calls, tasks: the handlers of the routes that are about tasks.
        probes: the host's own answers.
        gatekeeper: who may ask.
        pump: told of handlers that fail.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        calls: Calls,
        tasks: Tasks,
        probes: Probes,
        gatekeeper: Gatekeeper,
        pump: LogPump,
    ) -> None:
        self._engine = engine
        self._calls = calls
        self._tasks = tasks
        self._probes = probes
        self._gatekeeper = gatekeeper
        self._counters = engine.counters
        self._pump = pump
        self._router = self._routes()

    def _routes(self) -> Router[Callable[..., Awaitable[StreamResponse]]]:
        router: Router[Callable[..., Awaitable[StreamResponse]]] = Router()
        for method, path, handler in (
            ("GET", "/healthz", self._healthz),
            ("GET", "/readyz", self._readyz),
            ("GET", "/status", self._status),
            ("GET", "/metrics", self._metrics),
            ("GET", "/openapi.json", self._openapi),
            ("GET", "/v1/capabilities", self._capabilities),
            ("POST", "/v1/capabilities/{name}", self._calls.call),
            ("POST", "/v1/tasks", self._calls.create),
            ("GET", "/v1/tasks", self._tasks.list),
            ("GET", "/v1/tasks/{id}", self._tasks.read),
            ("GET", "/v1/tasks/{id}/events", self._tasks.events),
            ("POST", "/v1/tasks/{id}/cancel", self._tasks.cancel),
            ("POST", "/v1/shutdown", self._shutdown),
            ("POST", "/v1/reload", self._reload),
            ("POST", "/v1/snapshots", self._probes.snapshot),
        ):
            router.add(method, path, handler)
        return router

    async def handle(self, request: BaseRequest) -> StreamResponse:
        """Answer one request; its cancellation means that the client is gone."""
        route = "none"
        try:
            path = request.raw_path
            match = self._router.match(request.method, path)
            route = match.route
            self._gatekeeper.check(route, request.headers)
            response = await match.handler(request, *match.params)
        except RequestError as error:
            response = problem_response(error.problem)
        except (asyncio.CancelledError, ConnectionError):
            self._counters.answered(route, 499)
            raise
        except Exception as error:  # noqa: BLE001 - the boundary of every handler
            self._pump.log_exception("request_failed", error, route=route)
            response = problem_response(problems.internal_error())
        self._counters.answered(route, response.status)
        return response

    async def _healthz(self, request: BaseRequest) -> Response:
        health = self._probes.health()
        if health.live:
            return _probe(is_ok=True, word="ok")
        # It names paths: for those alone who may read /status too.
        may_see_stack = self._gatekeeper.admits(request.headers)
        stack = self._probes.stuck_stack() if may_see_stack else None
        return _probe(is_ok=False, word="stuck", detail=health.live_detail, stack=stack)

    async def _readyz(self, request: BaseRequest) -> Response:
        health = self._probes.health()
        return _probe(is_ok=health.ready, word=str(health.reason or "ready"), detail=health.detail)

    async def _status(self, request: BaseRequest) -> Response:
        return json_response(await self._probes.status())

    async def _metrics(self, request: BaseRequest) -> Response:
        text, content_type = await self._probes.metrics()
        return Response(body=text, headers={"Content-Type": content_type})

    async def _openapi(self, request: BaseRequest) -> Response:
        return json_response(await self._probes.openapi())

    async def _capabilities(self, request: BaseRequest) -> Response:
        manifests = [
            manifest.model_dump(mode="json")
            for manifest in self._engine.dispatcher.capabilities.values()
        ]
        return json_response(json.dumps({"capabilities": manifests}).encode())

    async def _shutdown(self, request: BaseRequest) -> Response:
        self._probes.shut_down()
        return json_response(b'{"lifecycle":"draining"}', 202)

    async def _reload(self, request: BaseRequest) -> Response:
        prefer = parse_prefer(request.headers.get("Prefer"))
        pending = self._probes.reload()
        if not (prefer.respond_async and not pending.done()):
            try:
                async with asyncio.timeout(prefer.wait_s):
                    # Shielded: the reload goes on without this client, and others may wait for it.
                    await asyncio.shield(pending)
            except TimeoutError:
                pass
        document = await self._probes.reload_status()
        if not pending.done():
            headers = {"Location": "/status", "Preference-Applied": prefer.applied}
            return json_response(document, 202, headers)
        outcome = pending.result()
        if outcome.is_refused:
            raise RequestError(
                problems.draining(retry_after_s(Refusal.DRAINING, queued=0, finished_per_s=0))
            )
        if not outcome.is_completed:
            raise RequestError(problems.reload_failed(outcome.reason))
        return json_response(document)


def _probe(*, is_ok: bool, word: str, detail: str = "", stack: str | None = None) -> Response:
    document = {"status": word, "detail": detail or None}
    if stack is not None:
        document["stack"] = stack
    body = json.dumps(document).encode()
    headers = {"Cache-Control": "no-store"}
    if not is_ok:
        headers["Retry-After"] = "1"
    return json_response(body, 200 if is_ok else 503, headers)
