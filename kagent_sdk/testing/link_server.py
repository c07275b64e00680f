"""The server of an orchestrator that exists in a test alone: it speaks kLink as it is told to."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Fault = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
"""Answers in place of the orchestrator; None lets it answer itself."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One request that came. ``path`` is behind ``/v1/``, without the agent's instance."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


@dataclass(slots=True)
class FakeTask:
    """A task that an agent has sent. It ends when `document` has a final state."""

    document: dict[str, Any]
    events: list[bytes] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self, state: str, **members: Any) -> None:
        """Let it end."""
        self.document |= {"state": state, **members}
        self.say("task", self.document)

    def say(self, event: str, data: Any) -> None:
        """Add an event."""
        lines = f"id: {len(self.events) + 1}\nevent: {event}\ndata: {json.dumps(data)}\n\n"
        self.events.append(lines.encode())
        self.changed.set()


class LinkServer:
    """Runs on a port of its own, which it keeps when it is stopped and started again.

    Attributes:
        token: what agents must show; None for nothing.
        seen: what came, in order.
        agents: registrations by instance; forgotten with every start.
        lost, cancel: what the next answer to a heartbeat says.
        offers: (headers, body) of the next fetches.
        reports: those that were taken, in order.
        refuse: ids of reports, and why they are refused.
        tasks: those that agents have sent, by id; they survive a restart.
        fault: asked first about every request.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, *, heartbeat_s: float = 0.2) -> None:
        self.token: str | None = None
        self.lease_s = 30.0
        self.heartbeat_s = heartbeat_s
        self.boots = 0
        self.seen: list[Seen] = []
        self.agents: dict[str, dict[str, Any]] = {}
        self.lost: list[dict[str, str]] = []
        self.cancel: list[dict[str, str]] = []
        self.offers: deque[tuple[dict[str, str], bytes]] = deque()
        self.offered = asyncio.Event()
        self.reports: list[dict[str, Any]] = []
        self.refuse: dict[str, str] = {}
        self.tasks: dict[str, FakeTask] = {}
        self.fault: Fault | None = None
        self._tls = tls
        self._port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        """Its port, also while it is stopped."""
        return self._port

    def at(self, path: str) -> list[Seen]:
        """Return the requests that came to a path."""
        return [request for request in self.seen if request.path == path]

    async def start(self) -> None:
        """Listen; nobody is registered."""
        self.boots += 1
        self.agents.clear()
        application = web.Application(middlewares=[self._receive], client_max_size=2**26)
        base = "/v1/link/agents"
        application.add_routes(
            [
                web.post(base, self._register),
                web.post(f"{base}/{{instance}}/heartbeat", self._heartbeat),
                web.post(f"{base}/{{instance}}/fetch", self._fetch),
                web.post(f"{base}/{{instance}}/reports", self._take_reports),
                web.post(f"{base}/{{instance}}/goodbye", self._goodbye),
                web.post("/v1/tasks", self._create),
                web.get("/v1/tasks/{id}", self._read),
                web.get("/v1/tasks/{id}/events", self._follow),
                web.post("/v1/tasks/{id}/cancel", self._cancel),
            ]
        )
        self._runner = web.AppRunner(
            application, handler_cancellation=True, shutdown_timeout=0.01, access_log=None
        )
        await self._runner.setup()
        site = web.TCPSite(
            self._runner, "127.0.0.1", self._port, ssl_context=self._tls, reuse_address=True
        )
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Be gone, with every connection."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    @web.middleware
    async def _receive(self, request: web.Request, handler: Any) -> web.StreamResponse:
        path = request.path.removeprefix("/v1/").removeprefix("link/")
        if path.startswith("agents/"):
            path = path.rpartition("/")[2]
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.read()
        self.seen.append(Seen(request.method, path, dict(request.query), headers, body))
        if self.fault is not None:
            answer = await self.fault(request)
            if answer is not None:
                return answer
        if self.token is not None and headers.get("authorization") != f"Bearer {self.token}":
            return problem(401, "unauthenticated")
        answer = await handler(request)
        assert isinstance(answer, web.StreamResponse)
        return answer

    def _welcome(self) -> dict[str, Any]:
        return {
            "orchestrator": f"boot-{self.boots}",
            "lease_s": self.lease_s,
            "heartbeat_s": self.heartbeat_s,
        }

    def _knows(self, request: web.Request) -> bool:
        return request.match_info["instance"] in self.agents

    async def _register(self, request: web.Request) -> web.Response:
        registration = await request.json()
        self.agents[registration["instance"]] = registration
        return web.json_response(self._welcome())

    async def _heartbeat(self, request: web.Request) -> web.Response:
        if not self._knows(request):
            return problem(404, "unknown_agent")
        answer = {**self._welcome(), "lost": self.lost, "cancel": self.cancel}
        self.lost, self.cancel = [], []
        return web.json_response(answer)

    async def _fetch(self, request: web.Request) -> web.Response:
        if not self._knows(request):
            return problem(404, "unknown_agent")
        wait_s = (await request.json())["wait_s"]
        try:
            async with asyncio.timeout(wait_s):
                while not self.offers:
                    self.offered.clear()
                    await self.offered.wait()
        except TimeoutError:
            return web.Response(status=204)
        headers, body = self.offers.popleft()
        return web.Response(headers=headers, body=body, content_type="application/json")

    def offer(self, body: bytes, **headers: str) -> None:
        """Give a task to the next agent that asks."""
        self.offers.append(({name.replace("_", "-"): headers[name] for name in headers}, body))
        self.offered.set()

    async def _take_reports(self, request: web.Request) -> web.Response:
        if not self._knows(request):
            return problem(404, "unknown_agent")
        answers = []
        for item in (await request.json())["items"]:
            reason = self.refuse.get(item["id"])
            if reason is None:
                self.reports.append(item)
            outcome = "taken" if reason is None else "refused"
            answers.append({"id": item["id"], "outcome": outcome, "reason": reason})
        return web.json_response({"items": answers})

    async def _goodbye(self, request: web.Request) -> web.Response:
        del request
        return web.Response(status=204)

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        task = self.tasks.get(body["id"])
        if task is None:
            document = {"id": body["id"], "capability": body["capability"], "state": "submitted"}
            task = self.tasks[body["id"]] = FakeTask({**document, "output": None, "error": None})
        return web.json_response(task.document, status=202)

    async def _read(self, request: web.Request) -> web.Response:
        task = self.tasks.get(request.match_info["id"])
        if task is None:
            return problem(404, "unknown_task")
        try:
            async with asyncio.timeout(float(request.query.get("wait_s", 0))):
                while task.document["state"] in {"submitted", "working"}:
                    task.changed.clear()
                    await task.changed.wait()
        except TimeoutError:
            pass
        return web.json_response(task.document)

    async def _follow(self, request: web.Request) -> web.StreamResponse:
        task = self.tasks.get(request.match_info["id"])
        if task is None:
            return problem(404, "unknown_task")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        position = int(request.headers.get("Last-Event-ID", 0))
        while True:
            task.changed.clear()
            for event in task.events[position:]:
                await response.write(event)
            position = max(position, len(task.events))
            if task.document["state"] not in {"submitted", "working"}:
                return response
            await task.changed.wait()

    async def _cancel(self, request: web.Request) -> web.Response:
        task = self.tasks.get(request.match_info["id"])
        if task is None:
            return problem(404, "unknown_task")
        task.end("canceled")
        return web.json_response(task.document)


def problem(status: int, code: str, **members: Any) -> web.Response:
    """Return a problem document."""
    document = {"type": f"urn:kagent:problem:{code}", "title": "No", "status": status}
    text = json.dumps({**document, "detail": "no", "code": code, **members})
    return web.Response(status=status, text=text, content_type="application/problem+json")
