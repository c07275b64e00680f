"""Whatever an orchestrator answers, the agent goes on, says why there is no link, and finds back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from kagent_sdk.link.decisions import MIN_INTERVAL_S
from kagent_sdk.link.http import LinkSettings
from kagent_sdk.link.http.session import MAX_REASONS
from kagent_sdk.link.port import CallFailedError, LinkStatus, OutgoingCall, Report
from tests.integration.fake_link_host import FakeLinkHost, running_link
from tests.integration.fake_orchestrator import (
    TOKEN,
    FakeOrchestrator,
    problem,
    running_orchestrator,
    until,
)

LEASE = "lease-0123456789abcdef"
WELCOME = {"orchestrator": "x", "lease_s": 30, "heartbeat_s": 0.2}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.fixture
async def orchestrator() -> AsyncIterator[FakeOrchestrator]:
    """Run an orchestrator."""
    async with running_orchestrator() as running:
        yield running


def settings_for(orchestrator: FakeOrchestrator, heartbeat_s: float = 0.1) -> LinkSettings:
    """Return settings of an agent that asks for its tasks and takes small ones only."""
    return LinkSettings(
        orchestrator.url, "pull", heartbeat_s=heartbeat_s, timeout_s=5, max_body_bytes=10_000
    )


def answer_with(
    status: int, body: str | bytes, path: str = "", **headers: str
) -> Callable[[web.Request], Awaitable[web.StreamResponse | None]]:
    """Return a fault: every request whose path ends so gets this answer."""

    async def answer(request: web.Request) -> web.StreamResponse | None:
        if not request.path.endswith(path):
            return None
        content = body.encode() if isinstance(body, str) else body
        return web.Response(
            status=status,
            body=content,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
            content_type=None if "Content_Type" in headers else "application/json",
        )

    return answer


async def fail_and_recover(orchestrator: FakeOrchestrator, host: FakeLinkHost) -> LinkStatus:
    """Run a link while the fault lasts, for some attempts; return its status of then."""
    fault, orchestrator.fault = orchestrator.fault, None
    async with running_link(settings_for(orchestrator, 0.05), host) as link:
        await until(lambda: link.status.state == "up")
        orchestrator.fault = fault
        await until(lambda: link.status.state == "down")
        attempts = len(orchestrator.seen)
        await until(lambda: len(orchestrator.seen) >= attempts + 3)
        status = link.status
        told = LinkStatus(status.state, status.since, last_error=status.last_error)
        orchestrator.fault = None
        await until(lambda: link.status.state == "up")
        assert link.status.last_error is None
    return told


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (500, "boom", "cannot answer now (HTTP 500)"),
        (503, "", "cannot answer now (HTTP 503)"),
        (429, "{}", "cannot answer now (HTTP 429)"),
        (401, "", "token"),
        (403, "", "token"),
        (400, "", "refuses the request (HTTP 400)"),
        (418, "", "refuses the request (HTTP 418)"),
        (302, "", "redirects"),
        (200, "<html>It works!</html>", "it is not JSON"),
        (200, "", "it is not JSON"),
        (200, "[]", "is wrong"),
        (200, "{}", "orchestrator is wrong (missing)"),
        (200, json.dumps({**WELCOME, "lease_s": -1}), "lease_s is wrong"),
        (200, json.dumps({**WELCOME, "lease_s": "soon"}), "lease_s is wrong"),
        (200, json.dumps({**WELCOME, "heartbeat_s": float("nan")}), "heartbeat_s is wrong"),
        (200, json.dumps({**WELCOME, "orchestrator": "x" * 101}), "orchestrator is wrong"),
        (200, json.dumps({**WELCOME, "lost": [{"task": "..", "lease": "x"}]}), "lost.0"),
        (200, "[" * 60_000, "it is not JSON"),
        (200, '{"x":' * 10_000, "it is not JSON"),
        (200, b"\xff\xfe", "it is not JSON"),
        (200, " " * 70_000 + json.dumps(WELCOME), "over the limit of 65536 bytes"),
    ],
)
async def test_an_answer_that_is_none_is_a_reason_and_no_more(
    orchestrator: FakeOrchestrator, status: int, body: str | bytes, reason: str
) -> None:
    """It stands in /status, once in the log, and the link comes back as soon as it can."""
    host = FakeLinkHost(delivery="pull")
    orchestrator.fault = answer_with(status, body, "heartbeat")
    told = await fail_and_recover(orchestrator, host)

    assert reason in (told.last_error or "")
    assert len(host.events("link_down")) == 1


async def test_a_redirect_is_not_followed(orchestrator: FakeOrchestrator) -> None:
    """It would carry the token to a place that nobody chose."""
    async with running_orchestrator() as trap:
        target = f"{trap.url}/v1/link/agents"
        orchestrator.fault = answer_with(307, "", Location=target)
        await fail_and_recover(orchestrator, FakeLinkHost(delivery="pull"))

        assert trap.seen == []


async def test_nothing_that_an_orchestrator_writes_is_shown_but_a_code(
    orchestrator: FakeOrchestrator,
) -> None:
    """It knows the token, and /status and the log have other readers."""

    async def echo(request: web.Request) -> web.StreamResponse | None:
        del request
        return problem(422, TOKEN, detail=TOKEN, title=TOKEN)

    host = FakeLinkHost(delivery="pull")
    orchestrator.fault = echo
    told = await fail_and_recover(orchestrator, host)

    assert told.last_error == "the orchestrator refuses the request (HTTP 422)"
    assert TOKEN not in repr(host.logged)


async def test_an_address_where_no_orchestrator_is_says_so(
    orchestrator: FakeOrchestrator,
) -> None:
    """A URL with a typo, most often."""
    host = FakeLinkHost()
    orchestrator.fault = answer_with(404, "not found", "/agents")
    async with running_link(settings_for(orchestrator), host) as link:
        await orchestrator.came("agents", 3)

        assert link.status.state == "down"
        assert "no orchestrator" in (link.status.last_error or "")


@asynccontextmanager
async def impostor(
    port: int, answer: Callable[[asyncio.StreamWriter], Awaitable[None]]
) -> AsyncIterator[list[int]]:
    """Listen where the orchestrator was; count the requests, and answer each by writing bytes."""
    requests = [0]
    jobs: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await reader.readuntil(b"\r\n\r\n")
                requests[0] += 1
                await answer(writer)
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        jobs.add(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    try:
        yield requests
    finally:
        server.close()
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)


async def be_silent(writer: asyncio.StreamWriter) -> None:
    """Never answer, as a process that is stopped."""
    del writer
    await asyncio.sleep(3600)


async def drip(writer: asyncio.StreamWriter) -> None:
    """Send a byte now and then."""
    writer.write(HEAD + b"Content-Length: 1000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


async def drip_head(writer: asyncio.StreamWriter) -> None:
    """The same, before the body."""
    writer.write(HEAD + b"X-Long: ")
    while True:
        writer.write(b"y")
        await writer.drain()
        await asyncio.sleep(0.05)


async def flood(writer: asyncio.StreamWriter) -> None:
    """Send without end, as fast as it is read."""
    writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        await writer.drain()


async def flood_head(writer: asyncio.StreamWriter) -> None:
    """Send headers without end."""
    writer.write(HEAD)
    while True:
        writer.write(b"X-Header: %b\r\n" % (b"y" * 1000) * 60)
        await writer.drain()


async def reset(writer: asyncio.StreamWriter) -> None:
    """Cut the connection off."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def break_off(writer: asyncio.StreamWriter) -> None:
    """Promise more than comes."""
    writer.write(HEAD + b'Content-Length: 1000\r\n\r\n{"orchestrator":')
    await writer.drain()


async def babble(writer: asyncio.StreamWriter) -> None:
    """Speak another protocol."""
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\x00\x01\x02")
    await writer.drain()


@pytest.mark.parametrize(
    "answer",
    [be_silent, drip, drip_head, flood, flood_head, reset, break_off, babble],
    ids=lambda answer: answer.__name__,
)
async def test_a_peer_that_keeps_to_no_protocol_is_left_in_time(
    orchestrator: FakeOrchestrator, answer: Callable[[asyncio.StreamWriter], Awaitable[None]]
) -> None:
    """Neither memory nor time nor a place is lost to it, and the right one is found again."""
    host = FakeLinkHost(delivery="pull")
    async with running_link(settings_for(orchestrator), host) as link:
        await orchestrator.came("heartbeat")
        await orchestrator.stop()
        async with impostor(orchestrator.port, answer) as requests:
            await until(lambda: requests[0] >= 3 and link.status.state == "down")
        await orchestrator.start()
        await until(lambda: link.status.state == "up")

    assert len(host.events("link_down")) <= MAX_REASONS


@pytest.mark.parametrize("member", ["heartbeat_s", "lease_s"])
async def test_an_orchestrator_cannot_make_an_agent_beat_without_pause(
    orchestrator: FakeOrchestrator, member: str
) -> None:
    """A number too small would cost every agent its processor."""
    setattr(orchestrator, member, 1e-9)
    async with running_link(settings_for(orchestrator), FakeLinkHost()):
        await orchestrator.came("heartbeat")
        began_s = time.monotonic()
        await orchestrator.came("heartbeat", 5)

        assert time.monotonic() - began_s > 3 * MIN_INTERVAL_S * 0.9


async def test_an_orchestrator_cannot_make_an_agent_beat_too_seldom(
    orchestrator: FakeOrchestrator,
) -> None:
    """The operator's own number is a bound."""
    orchestrator.heartbeat_s = orchestrator.lease_s = 1e300
    async with running_link(settings_for(orchestrator), FakeLinkHost()):
        await orchestrator.came("heartbeat", 3)


async def test_thousands_of_tasks_that_nobody_knows_do_no_harm(
    orchestrator: FakeOrchestrator,
) -> None:
    """They go to the host, which knows none of them, and are not counted."""
    host = FakeLinkHost()
    strangers = [{"task": f"t{n}", "lease": LEASE} for n in range(300)]
    orchestrator.lost, orchestrator.cancel = strangers, strangers
    async with running_link(settings_for(orchestrator), host) as link:
        await until(lambda: len(host.lost) == 300)
        orchestrator.cancel = [{"task": f"c{n}", "lease": LEASE} for n in range(50_000)]
        await until(lambda: link.status.state == "down")
        await until(lambda: link.status.state == "up")

        assert host.canceled == []
        assert link.status.lost == 0


@pytest.mark.parametrize("path", ["heartbeat", "reports", "fetch"])
async def test_an_orchestrator_that_registers_agents_and_knows_none_is_not_asked_without_pause(
    orchestrator: FakeOrchestrator, path: str
) -> None:
    """Each 404 asks for a registration."""
    host = FakeLinkHost(delivery="pull")
    host.reports.add(Report("r1", "t1", LEASE, "result", b"1"))
    orchestrator.fault = answer_with(404, "", path)
    began_s = time.monotonic()
    async with running_link(settings_for(orchestrator), host):
        await orchestrator.came("agents", 4)

        assert time.monotonic() - began_s > 3 * 0.1 * 0.9
        assert len(orchestrator.at(path)) <= 20


@pytest.mark.parametrize(
    "body",
    [
        '{"items": []}',
        '{"items": [{"id": "stranger", "outcome": "taken"}]}',
        '{"items": [{"id": "r1", "outcome": "maybe"}]}',
        '{"items": "r1"}',
        "<html>",
    ],
)
async def test_a_report_is_settled_by_its_own_answer_alone(
    orchestrator: FakeOrchestrator, body: str
) -> None:
    """Else a result would be lost to a proxy's greeting."""
    host = FakeLinkHost()
    host.reports.add(Report("r1", "t1", LEASE, "result", b"1"))
    orchestrator.fault = answer_with(200, body, "reports")
    async with running_link(settings_for(orchestrator), host) as link:
        await orchestrator.came("reports", 2)

        assert len(host.reports.waiting) == 1
        assert link.status.reported == 0
        orchestrator.fault = None
        await until(lambda: not host.reports.waiting)
        assert len(host.events("link_reports_not_taken")) == 1


async def test_of_an_answer_that_names_some_reports_those_are_settled(
    orchestrator: FakeOrchestrator,
) -> None:
    """The others come again."""
    host = FakeLinkHost()
    host.reports.add(*(Report(f"r{n}", f"t{n}", LEASE, "result", b"1") for n in range(3)))
    orchestrator.fault = answer_with(
        200, '{"items": [{"id": "r1", "outcome": "taken"}]}', "reports"
    )
    async with running_link(settings_for(orchestrator), host):
        await until(lambda: [report.id for report in host.reports.waiting] == ["r0", "r2"])
        orchestrator.fault = None
        await until(lambda: not host.reports.waiting)


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_refusal_that_is_no_orchestrator_s_costs_no_result(
    orchestrator: FakeOrchestrator, status: int
) -> None:
    """A proxy says 413 too; only a problem with a code is the orchestrator's word."""
    host = FakeLinkHost()
    host.reports.add(Report("r1", "t1", LEASE, "result", b"1"))
    orchestrator.fault = answer_with(status, "no", "reports")
    async with running_link(settings_for(orchestrator), host):
        await orchestrator.came("reports", 2)

        assert len(host.reports.waiting) == 1


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ("nonsense", {"Klink_Lease": LEASE}),
        ('{"capability": "add"}', {"Klink_Lease": LEASE}),
        ('{"id": "t1", "capability": "add"}', {}),
        ('{"id": "t1", "capability": "add"}', {"Klink_Lease": "short"}),
        ('{"id": "t1", "capability": "add"}', {"Klink_Lease": LEASE, "Klink_Attempt": "0"}),
        ('{"id": "t1", "capability": "add"}', {"Klink_Lease": LEASE, "Klink_Hops": "17"}),
        ('{"id": "t1", "capability": "add"}', {"Klink_Lease": LEASE, "Klink_Hops": "-1"}),
        ('{"id": "t1", "capability": "add", "input": %s}' % ("[" * 5000), {"Klink_Lease": LEASE}),
        (
            '{"id": "t1", "capability": "add", "input": "%s"}' % ("x" * 90_000),
            {"Klink_Lease": LEASE},
        ),
    ],
)
async def test_an_offer_that_is_none_is_not_taken(
    orchestrator: FakeOrchestrator, body: str, headers: dict[str, str]
) -> None:
    """And does not keep the next one from coming."""
    host = FakeLinkHost(delivery="pull")
    orchestrator.fault = answer_with(200, body, "fetch", **headers)
    async with running_link(settings_for(orchestrator), host) as link:
        await orchestrator.came("fetch", 5)
        orchestrator.fault = None

        assert link.status.state == "up"
        assert host.taken == []
        assert len(host.events("link_no_tasks_fetched")) == 1
        orchestrator.offer(b'{"id": "t2", "capability": "add"}', Klink_Lease=LEASE)
        await until(lambda: [offer.task for offer in host.taken] == ["t2"])


async def test_an_orchestrator_that_has_nothing_at_once_is_not_asked_without_pause(
    orchestrator: FakeOrchestrator,
) -> None:
    """It should have waited, and does not."""
    orchestrator.fault = answer_with(204, "", "fetch")
    async with running_link(settings_for(orchestrator), FakeLinkHost(delivery="pull")):
        await orchestrator.came("fetch")
        await orchestrator.came("heartbeat", 4)

        assert len(orchestrator.at("fetch")) <= 8


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("{}", "application/json"),
        ("", "text/event-stream"),
        ('id: 1\nevent: task\ndata: {"state": "working"}\n\n', "text/event-stream"),
        ("id: 1\nevent: task\ndata: nonsense\n\n", "text/event-stream"),
        ("data: " + "x" * 100_000, "text/event-stream"),
        ("data: " + "x" * 100_000 + "\n\n", "text/event-stream"),
    ],
)
async def test_a_stream_that_is_none_is_asked_for_again(
    orchestrator: FakeOrchestrator, body: str, content_type: str
) -> None:
    """The call goes on: its task has been taken."""
    items: list[bytes] = []

    async def keep(item: bytes) -> None:
        items.append(item)

    orchestrator.fault = answer_with(200, body, "events", Content_Type=content_type)
    async with running_link(settings_for(orchestrator), FakeLinkHost()) as link:
        call = OutgoingCall("c1", None, "add", b"{}", is_streamed=True, timeout_s=60)
        job = asyncio.create_task(link.call(call, keep))
        await orchestrator.came("tasks/c1/events", 2)
        orchestrator.fault = None
        orchestrator.tasks["c1"].say("event", 1)
        orchestrator.tasks["c1"].end("completed", output=7)

        assert await job == b"7"
        assert items == [b"1"]


async def test_an_output_over_the_limit_is_not_read_whole(orchestrator: FakeOrchestrator) -> None:
    """Another agent's result must not cost this one its memory; the call ends with its time."""
    async with running_link(settings_for(orchestrator), FakeLinkHost()) as link:
        call = OutgoingCall("c1", None, "add", b"{}", timeout_s=3)
        job = asyncio.create_task(link.call(call))
        await orchestrator.came("tasks")
        orchestrator.tasks["c1"].end("completed", output="x" * 1_000_000)
        with pytest.raises(CallFailedError, match="over the limit"):
            await job


async def test_a_token_that_no_header_can_carry_is_named_and_not_shown(
    orchestrator: FakeOrchestrator,
) -> None:
    """A line break at the end of a file, most often."""
    host = FakeLinkHost()
    host.secret = f"{TOKEN}\nX-Evil: 1"
    async with running_link(settings_for(orchestrator), host) as link:
        await until(lambda: link.status.state == "down")

        assert "orchestrator.token" in (link.status.last_error or "")
        assert TOKEN not in repr(host.logged)
        assert orchestrator.seen == []


async def test_no_proxy_of_the_environment_is_used(
    orchestrator: FakeOrchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token goes where the operator has sent it, and nowhere in between."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with running_link(settings_for(orchestrator), FakeLinkHost()):
        await orchestrator.came("heartbeat")
