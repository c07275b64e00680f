"""``/v1/fleet``: what operators see of the fleet, and do with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from aiohttp.web_response import Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kagent_sdk.config.mesh import MAX_REPLICAS
from kagent_sdk.config.models import HttpConfig
from kagent_sdk.host.http.answers import json_response
from kagent_sdk.host.http.bodies import BodyReader
from kagent_sdk.orchestrator.fleet.operation import GroupBusyError, Operation
from kagent_sdk.orchestrator.fleet.tails import read_tail
from kagent_sdk.orchestrator.port import Route
from kagent_sdk.protocol import problems
from kagent_sdk.protocol.headers import parse_prefer
from kagent_sdk.protocol.problem import Problem, RequestError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.web_request import BaseRequest

    from kagent_sdk.orchestrator.fleet.group import AgentGroup
    from kagent_sdk.orchestrator.fleet.layout import Layout

MAX_BODY_BYTES = 4096
MAX_LINES = 10_000
DEFAULT_LINES = 100


class Scale(BaseModel):
    """What ``POST /v1/fleet/{agent}/scale`` takes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    replicas: int = Field(ge=0, le=MAX_REPLICAS)


class FleetRoutes:
    """Answers requests.

    Args:
        groups: the agents by name; filled later.
        layout: where their logs are.
    """

    def __init__(self, groups: Mapping[str, AgentGroup], layout: Layout) -> None:
        self._groups = groups
        self._layout = layout
        self._bodies = BodyReader(HttpConfig(max_body_bytes=MAX_BODY_BYTES))

    def routes(self) -> Sequence[Route]:
        """Return all of them."""
        one = "/v1/fleet/{agent}"
        return [
            Route("GET", "/v1/fleet", self._list),
            Route("GET", one, self._show),
            Route("GET", f"{one}/logs", self._logs),
            Route("POST", f"{one}/update", self._update),
            Route("POST", f"{one}/restart", self._restart),
            Route("POST", f"{one}/scale", self._scale),
            Route("POST", f"{one}/snapshot", self._snapshot),
        ]

    async def _list(self, request: BaseRequest) -> Response:
        return _answer({"agents": [group.document() for group in self._groups.values()]})

    async def _show(self, request: BaseRequest, agent: str) -> Response:
        return _answer(self._find(agent).document())

    async def _update(self, request: BaseRequest, agent: str) -> Response:
        group = self._find(agent)
        await self._read_nothing(request)
        return await self._operate(request, group, group.update)

    async def _restart(self, request: BaseRequest, agent: str) -> Response:
        group = self._find(agent)
        await self._read_nothing(request)
        return await self._operate(request, group, group.restart)

    async def _scale(self, request: BaseRequest, agent: str) -> Response:
        group = self._find(agent)
        try:
            wanted = Scale.model_validate_json(await self._bodies.read(request))
        except ValidationError as exc:
            details = exc.errors(include_url=False, include_context=False, include_input=False)
            raise RequestError(problems.invalid_request(details)) from None
        return await self._operate(request, group, lambda: group.scale(wanted.replicas))

    async def _snapshot(self, request: BaseRequest, agent: str) -> Response:
        group = self._find(agent)
        await self._read_nothing(request)
        return _answer({"agent": group.name, "snapshots": await group.snapshot()})

    async def _logs(self, request: BaseRequest, agent: str) -> Response:
        group = self._find(agent)
        replica, lines = _read_query(request.rel_url.raw_query_string)
        if replica not in {one.number for one in group.replicas}:
            raise RequestError(
                problems.invalid_query("replica", f"{agent} has no replica {replica}")
            )
        place = self._layout.place(group.name, str(replica))
        content = await asyncio.to_thread(read_tail, place.log, lines)
        if not content:  # it has not come so far: what it wrote before says why
            content = await asyncio.to_thread(read_tail, place.out, lines)
        return Response(body=content, headers={"Content-Type": "application/x-ndjson"})

    async def _operate(
        self, request: BaseRequest, group: AgentGroup, action: Callable[[], Awaitable[Operation]]
    ) -> Response:
        """Do something with an agent: 200 when it is done, 202 when the client does not wait so long."""
        prefer = parse_prefer(request.headers.get("Prefer"))
        job = asyncio.ensure_future(action())
        try:
            async with asyncio.timeout(0.05 if prefer.respond_async else prefer.wait_s):
                operation = await asyncio.shield(job)
        except TimeoutError:
            job.cancel()  # the waiting, not the operation
            headers = {"Location": f"/v1/fleet/{group.name}"}
            return _answer(group.document(), 202, headers)
        except GroupBusyError as exc:
            raise RequestError(_problem(409, "Agent is busy", "agent_busy", str(exc))) from None
        except asyncio.CancelledError:
            job.cancel()
            raise
        if operation.state == "failed":
            title = f"{operation.kind.capitalize()} failed"
            raise RequestError(_problem(409, title, f"{operation.kind}_failed", operation.reason))
        return _answer(group.document())

    async def _read_nothing(self, request: BaseRequest) -> None:
        body = await self._bodies.read(request)
        if body.strip() not in {b"", b"{}"}:
            raise RequestError(
                problems.invalid_request([{"loc": [], "msg": "takes no body", "type": "extra"}])
            )

    def _find(self, name: str) -> AgentGroup:
        group = self._groups.get(name)
        if group is None:
            near = problems.nearest_names(name, self._groups)
            hint = f"did you mean {near[0]!r}?" if near else "GET /v1/fleet lists them"
            detail = f"the fleet has no agent of this name; {hint}"
            raise RequestError(
                _problem(404, "No such agent", "unknown_agent", detail, {"nearest": near})
            )
        return group


def _read_query(query: str) -> tuple[int, int]:
    found = {"replica": 0, "lines": DEFAULT_LINES}
    for key, value in parse_qsl(query, keep_blank_values=True, max_num_fields=10):
        if key not in found:
            raise RequestError(problems.invalid_query(key, "is not known", tuple(found)))
        if not (value.isascii() and value.isdigit() and len(value) < 7):
            raise RequestError(problems.invalid_query(key, "must be a number"))
        found[key] = int(value)
    return found["replica"], min(found["lines"], MAX_LINES)


def _answer(
    document: dict[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return json_response(json.dumps(document).encode(), status, headers)


def _problem(
    status: int, title: str, code: str, detail: str, extra: Mapping[str, Any] | None = None
) -> Problem:
    return Problem(status, title, code, detail, extra or {})
