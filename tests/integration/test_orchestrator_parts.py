"""What runs beside the broker: its routes, its status, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response

from kagent_sdk.errors import OrchestratorError
from kagent_sdk.host.http.answers import json_response
from kagent_sdk.orchestrator.port import Route
from kagent_sdk.orchestrator.service import Service
from kagent_sdk.protocol.problem import RequestError
from kagent_sdk.protocol.problems import draining
from tests.integration.orchestrators import quick_settings, running

AGENT = "agent-token-0123456789"
OPERATOR = "operator-token-0123456789"


@dataclass
class Part:
    """Something that lives as long as the orchestrator, or not quite as long."""

    name: str
    heard: list[str] = field(default_factory=list)
    url: str = ""
    fails: bool = False

    def routes(self) -> Sequence[Route]:
        """Give two routes."""
        return [
            Route("GET", f"/v1/{self.name}", self._answer),
            Route("POST", f"/v1/{self.name}", self._refuse),
        ]

    async def _answer(self, request: BaseRequest) -> Response:
        return json_response(b'{"url":"here"}')

    async def _refuse(self, request: BaseRequest) -> Response:
        raise RequestError(draining(3))

    async def run(self, url: str) -> None:
        """Live."""
        self.url = url
        if self.fails:
            raise RuntimeError("it was not to be")
        await asyncio.Event().wait()

    async def stop(self, within_s: float) -> None:
        """End."""
        self.heard.append(self.name)

    def status(self) -> dict[str, Any]:
        """Say something."""
        return {self.name: {"url": self.url}}


async def test_parts_have_routes_and_a_status_and_are_stopped_in_reverse(tmp_path: Path) -> None:
    """The fleet's agents need the broker until they are gone."""
    heard: list[str] = []
    parts = [Part("one", heard), Part("two", heard)]
    settings = quick_settings(tmp_path, agent_token=AGENT, operator_token=OPERATOR)
    async with running(settings, parts=parts) as mesh:
        answer = await mesh.ask("GET", "/v1/one")
        refusal = await mesh.ask("POST", "/v1/two")
        status = await mesh.status()
        mesh.token = settings.agent_token
        as_agent = await mesh.ask("GET", "/v1/one")

    assert answer.json == {"url": "here"}
    assert (refusal.status, refusal.headers["Retry-After"]) == (503, "3")
    assert (status["one"]["url"], status["two"]["url"]) == (mesh.url, mesh.url)
    assert as_agent.status == 403
    assert heard == ["two", "one"]


async def test_a_part_that_fails_ends_the_orchestrator_in_order(tmp_path: Path) -> None:
    """The other parts are still stopped, and whoever waits for the end hears of the failure."""
    good = Part("good")
    service = Service(quick_settings(tmp_path), [good, Part("bad", good.heard, fails=True)])
    with pytest.raises(OrchestratorError, match="see its log"):
        await service.run(asyncio.Event())

    assert good.heard == ["bad", "good"]
    assert "it was not to be" in (tmp_path / "orchestrator.log").read_text()
