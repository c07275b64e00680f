"""How the orchestrator and its agents are, and how it is stopped."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response

from kagent_sdk.host.http.answers import json_response
from kagent_sdk.orchestrator.broker import Broker
from kagent_sdk.orchestrator.clock import Clock
from kagent_sdk.orchestrator.http.plane import probe_response
from kagent_sdk.orchestrator.port import Route
from kagent_sdk.protocol.manifest import CapabilityManifest


@dataclass(frozen=True, slots=True)
class Probes:
    """What is asked of the service.

    Attributes:
        status: returns ``/status``.
        metrics: takes the figures, and returns what writes them out, to be called in a thread.
        openapi: returns the description of the API; called in a thread.
        trouble: says why the database takes no writes, if so.
        shut_down: begins the shutdown.
    """

    status: Callable[[], dict[str, Any]]
    metrics: Callable[[], Callable[[], tuple[bytes, str]]]
    openapi: Callable[[], bytes]
    trouble: Callable[[], str | None]
    shut_down: Callable[[], None]


class ObservationRoutes:
    """Answers operators, and probes.

    Args:
        broker: of whom is told.
        clock: of ages.
        probes: what the service says.
    """

    def __init__(self, broker: Broker, clock: Clock, probes: Probes) -> None:
        self._broker = broker
        self._clock = clock
        self._probes = probes

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("GET", "/healthz", self._healthz),
            Route("GET", "/readyz", self._readyz),
            Route("GET", "/status", self._status),
            Route("GET", "/metrics", self._metrics),
            Route("GET", "/openapi.json", self._openapi),
            Route("GET", "/v1/capabilities", self._capabilities),
            Route("GET", "/v1/agents", self._agents),
            Route("POST", "/v1/shutdown", self._shutdown),
        ]

    async def _healthz(self, request: BaseRequest) -> Response:
        return probe_response(is_ok=True, word="ok")

    async def _readyz(self, request: BaseRequest) -> Response:
        if self._broker.stopping.is_set():
            return probe_response(is_ok=False, word="draining", detail="it is shutting down")
        if self._probes.trouble() is not None:
            detail = "the database takes no tasks at present"
            return probe_response(is_ok=False, word="storage", detail=detail)
        return probe_response(is_ok=True, word="ready")

    async def _status(self, request: BaseRequest) -> Response:
        return json_response(json.dumps(self._probes.status()).encode())

    async def _metrics(self, request: BaseRequest) -> Response:
        text, content_type = await asyncio.to_thread(self._probes.metrics())
        return Response(body=text, headers={"Content-Type": content_type})

    async def _openapi(self, request: BaseRequest) -> Response:
        return json_response(await asyncio.to_thread(self._probes.openapi))

    async def _capabilities(self, request: BaseRequest) -> Response:
        manifests = self._broker.registry.manifests()
        return json_response(await asyncio.to_thread(_dump_capabilities, manifests))

    async def _agents(self, request: BaseRequest) -> Response:
        registry, now_s = self._broker.registry, self._clock.now_s()
        agents = [
            {
                "agent": name,
                "instances": [one.describe(now_s) for one in registry.instances_of(name)],
            }
            for name in registry.agents()
        ]
        return json_response(json.dumps({"agents": agents}).encode())

    async def _shutdown(self, request: BaseRequest) -> Response:
        self._probes.shut_down()
        return json_response(b'{"lifecycle":"draining"}', 202)


def _dump_capabilities(manifests: list[tuple[str, CapabilityManifest]]) -> bytes:
    documents = [{"agent": agent, **one.model_dump(mode="json")} for agent, one in manifests]
    return json.dumps({"capabilities": documents}).encode()
