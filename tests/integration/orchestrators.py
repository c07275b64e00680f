"""An orchestrator under test, and agents that speak the link's wire by hand, over real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from kagent_sdk.config.models import LogsConfig
from kagent_sdk.orchestrator.port import ServicePart
from kagent_sdk.orchestrator.service import Service, ServiceSettings
from kagent_sdk.orchestrator.settings import BrokerLimits

PROGRAM = "tests.integration.orchestrator_program"
QUICK = BrokerLimits(lease_s=1.6, heartbeat_s=0.2, route_timeout_s=0.5, return_s=1.6)
PATIENCE_S = 60.0


def quick_settings(data: Path, **changes: Any) -> ServiceSettings:
    """Return settings with short times and no output."""
    limits = replace(QUICK, **changes.pop("limits", {}))
    return ServiceSettings(data, port=0, limits=limits, logs=LogsConfig(tee="none"), **changes)


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class Mesh:
    """A client of an orchestrator, for callers and fake agents alike."""

    def __init__(self, url: str, session: aiohttp.ClientSession, token: str | None = None) -> None:
        self.url = url
        self.session = session
        self.token = token

    async def ask(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """Send a request."""
        sent = dict(headers or {})
        if self.token is not None:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        data = body if body is not None else None if document is None else json.dumps(document)
        async with self.session.request(
            method, f"{self.url}{path}", data=data, headers=sent
        ) as response:
            content = await response.read()
            return Answer(response.status, dict(response.headers), content)

    async def submit(self, task_id: str, capability: str = "echo", **members: Any) -> Answer:
        """Send a task without waiting for it."""
        document = {"id": task_id, "capability": capability, "input": {"n": 1}, **members}
        return await self.ask("POST", "/v1/tasks", document, headers={"Prefer": "respond-async"})

    async def task(self, task_id: str, wait_s: float = 0) -> Any:
        """Return a task."""
        answer = await self.ask("GET", f"/v1/tasks/{task_id}?wait_s={wait_s}")
        assert answer.status == 200, answer.body
        return answer.json

    async def events(self, task_id: str, last_id: int | None = None) -> list[tuple[str, str, Any]]:
        """Return a task's events, to its end."""
        headers = {} if last_id is None else {"Last-Event-ID": str(last_id)}
        answer = await self.ask("GET", f"/v1/tasks/{task_id}/events", headers=headers)
        return parse_events(answer.body)

    async def status(self) -> Any:
        """Return the orchestrator's status."""
        return (await self.ask("GET", "/status")).json


def parse_events(body: bytes) -> list[tuple[str, str, Any]]:
    """Return id, kind and data of events."""
    events = []
    for block in body.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] != ":")
        if fields:
            events.append((fields["id"], fields["event"], json.loads(fields["data"])))
    return events


@dataclass
class Offered:
    """A task that a fake agent was given."""

    task: str
    lease: str
    attempt: int
    headers: dict[str, str]
    envelope: Any


@dataclass
class FakeAgent:
    """An agent that does what the test says.

    Attributes:
        answer: makes the answer to each push; None cuts the connection.
        offers: what was pushed, or fetched.
        canceled: ids of tasks that it was told to cancel.
    """

    mesh: Mesh
    name: str = "worker"
    instance: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    delivery: str = "pull"
    idempotent: bool = True
    max_attempts: int = 3
    labels: dict[str, str] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ("echo",)
    max_concurrency: int = 4
    url: str | None = None
    token: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    answer: Callable[[Offered], tuple[int, dict[str, str], bytes] | None] = lambda _offer: (
        202,
        {},
        b"{}",
    )
    offers: list[Offered] = field(default_factory=list)
    canceled: list[str] = field(default_factory=list)
    held: dict[str, str] = field(default_factory=dict)
    sent: int = 0

    def registration(self, **changes: Any) -> dict[str, Any]:
        """Return what it says of itself."""
        return {
            "agent": self.name,
            "instance": self.instance,
            "version": "1",
            "sdk_version": "1",
            "delivery": self.delivery,
            "url": self.url,
            "token": self.token if self.delivery == "push" else None,
            "capabilities": [
                {
                    "name": name,
                    "input_schema": {},
                    "output_schema": {},
                    "idempotent": self.idempotent,
                    "max_attempts": self.max_attempts,
                }
                for name in self.capabilities
            ],
            "limits": {"max_concurrency": self.max_concurrency, "max_queue": 10},
            "labels": self.labels,
            "status": {"lifecycle": "ready", "ready": True},
            "tasks": self._held(),
            **changes,
        }

    def _held(self) -> list[dict[str, str]]:
        return [{"task": task, "lease": lease} for task, lease in self.held.items()]

    async def register(self, **changes: Any) -> Answer:
        """Register."""
        return await self.mesh.ask("POST", "/v1/link/agents", self.registration(**changes))

    async def beat(self, **status: Any) -> Answer:
        """Say that it lives, and what it holds."""
        document = {
            "status": {"lifecycle": "ready", "ready": True, **status},
            "tasks": self._held(),
        }
        return await self.mesh.ask("POST", f"/v1/link/agents/{self.instance}/heartbeat", document)

    async def fetch(self, wait_s: float = 10) -> Offered | None:
        """Ask for a task."""
        answer = await self.mesh.ask(
            "POST", f"/v1/link/agents/{self.instance}/fetch", {"wait_s": wait_s}
        )
        if answer.status == 204:
            return None
        assert answer.status == 200, answer.body
        return self.note(answer.headers, answer.json)

    def note(self, headers: dict[str, str], envelope: Any) -> Offered:
        """Note an offer as taken."""
        offer = Offered(
            envelope["id"],
            headers["Klink-Lease"],
            int(headers["Klink-Attempt"]),
            headers,
            envelope,
        )
        self.offers.append(offer)
        return offer

    async def tell(
        self, offer: Offered, kind: str, payload: Any, *, report_id: str | None = None
    ) -> Any:
        """Report one thing; return what became of it."""
        self.sent += 1
        item = {
            "id": report_id or f"r{self.sent}",
            "task": offer.task,
            "lease": offer.lease,
            "kind": kind,
            "payload": payload,
        }
        answer = await self.mesh.ask(
            "POST", f"/v1/link/agents/{self.instance}/reports", {"items": [item]}
        )
        assert answer.status == 200, answer.body
        return answer.json["items"][0]

    async def finish(self, offer: Offered, output: Any = "done", **members: Any) -> Any:
        """Report that a task is completed."""
        self.held.pop(offer.task, None)
        document = {"id": offer.task, "state": "completed", "output": output, **members}
        return await self.tell(offer, "result", document)

    async def goodbye(self, phase: str) -> Answer:
        """Say goodbye."""
        return await self.mesh.ask(
            "POST", f"/v1/link/agents/{self.instance}/goodbye", {"phase": phase}
        )

    async def until_offered(self, count: int = 1) -> Offered:
        """Return the last of so many pushed offers."""
        await until(lambda: len(self.offers) >= count)
        return self.offers[-1]

    @asynccontextmanager
    async def listening(
        self, ssl_context: ssl.SSLContext | None = None
    ) -> AsyncIterator[FakeAgent]:
        """Take pushed tasks."""
        application = web.Application()
        application.router.add_post("/v1/tasks", self._take)
        application.router.add_post("/v1/tasks/{id}/cancel", self._cancel)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl_context)
        await site.start()
        self.delivery = "push"
        self.url = f"{'https' if ssl_context else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == f"Bearer {self.token}"
        assert request.headers["Prefer"] == "respond-async"
        offer = self.note(dict(request.headers), await request.json())
        answer = self.answer(offer)
        if answer is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        status, headers, body = answer
        if status < 300:
            self.held[offer.task] = offer.lease
        return web.Response(status=status, headers=headers, body=body)

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        self.canceled.append(request.match_info["id"])
        return web.Response(status=202)


async def until(condition: Callable[[], bool]) -> None:
    """Return as soon as the condition holds; fail when it does not in time."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - it is another program's
            await asyncio.sleep(0.01)


async def until_state(mesh: Mesh, task_id: str, state: str) -> Any:
    """Return a task when it is in a state."""
    async with asyncio.timeout(PATIENCE_S):
        while (task := await mesh.task(task_id))["state"] != state:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)
    return task


@asynccontextmanager
async def running(
    settings: ServiceSettings,
    ssl_context: ssl.SSLContext | None = None,
    parts: Sequence[ServicePart] = (),
) -> AsyncIterator[Mesh]:
    """Run an orchestrator in this process; give a client of it."""
    service, stop = Service(settings, parts), asyncio.Event()
    job = asyncio.create_task(service.run(stop))
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not (settings.data / "orchestrator.json").exists():
                await asyncio.wait([job], timeout=0.01)
                if job.done():
                    job.result()
        connector = aiohttp.TCPConnector(ssl=ssl_context or True)
        async with aiohttp.ClientSession(connector=connector) as session:
            yield Mesh(service.url, session, settings.operator_token)
    finally:
        stop.set()
        await job


@dataclass
class Killable:
    """An orchestrator in a process of its own."""

    process: asyncio.subprocess.Process
    mesh: Mesh

    async def kill(self) -> None:
        """End it as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        assert await self.process.wait() == -signal.SIGKILL


@asynccontextmanager
async def separate(data: Path, port: int = 0) -> AsyncIterator[Killable]:
    """Run an orchestrator in a process of its own."""
    (data / "orchestrator.json").unlink(missing_ok=True)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", PROGRAM, str(data), str(port), env={**os.environ}
    )
    try:
        await until(lambda: (data / "orchestrator.json").exists() or process.returncode is not None)
        document = json.loads((data / "orchestrator.json").read_text())
        async with aiohttp.ClientSession() as session:
            yield Killable(process, Mesh(document["url"], session))
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
