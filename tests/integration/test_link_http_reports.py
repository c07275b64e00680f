"""What an agent reports over HTTP: in order, until it is taken, and nothing holds up the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from kagent_sdk.link.http import LinkSettings
from kagent_sdk.link.port import Report
from tests.integration.fake_link_host import FakeLinkHost, running_link
from tests.integration.fake_orchestrator import (
    FakeOrchestrator,
    problem,
    running_orchestrator,
    until,
)

LEASE = "lease-0123456789abcdef"


@pytest.fixture
async def orchestrator() -> AsyncIterator[FakeOrchestrator]:
    """Run an orchestrator."""
    async with running_orchestrator() as running:
        yield running


def pushing(orchestrator: FakeOrchestrator) -> LinkSettings:
    """Return settings for this orchestrator."""
    return LinkSettings(orchestrator.url, heartbeat_s=0.1, timeout_s=5)


def make_reports(count: int, payload: bytes = b'{"n": 1.50}') -> list[Report]:
    """Return results."""
    return [Report(f"r{n}", f"t{n}", LEASE, "result", payload) for n in range(count)]


async def test_reports_come_in_order_in_batches_and_byte_for_byte(
    orchestrator: FakeOrchestrator,
) -> None:
    """A result is what the capability returned, and not a second opinion on it."""
    host = FakeLinkHost()
    async with running_link(pushing(orchestrator), host) as link:
        host.reports.add(*make_reports(250))
        await until(lambda: not host.reports.waiting)

        assert [item["id"] for item in orchestrator.reports] == [f"r{n}" for n in range(250)]
        assert len(orchestrator.at("reports")) == 3
        assert b'"payload":{"n": 1.50}' in orchestrator.at("reports")[0].body
        assert link.status.reported == 250


async def test_a_report_that_alone_is_over_a_batch_s_bytes_is_sent(
    orchestrator: FakeOrchestrator,
) -> None:
    """Else it would wait for ever, and all behind it."""
    host = FakeLinkHost()
    async with running_link(pushing(orchestrator), host):
        host.reports.add(*make_reports(2, b'"%b"' % (b"x" * (5 * 1024 * 1024))))
        await until(lambda: not host.reports.waiting)

        assert len(orchestrator.at("reports")) == 2


async def test_reports_go_on_while_heartbeats_fail(orchestrator: FakeOrchestrator) -> None:
    """A part of the orchestrator in trouble is no reason to keep results from it."""
    host = FakeLinkHost()

    async def fail_heartbeats(request: web.Request) -> web.StreamResponse | None:
        return problem(500, "internal_error") if request.path.endswith("/heartbeat") else None

    async with running_link(pushing(orchestrator), host) as link:
        await orchestrator.came("heartbeat")
        orchestrator.fault = fail_heartbeats
        await until(lambda: link.status.state == "down")
        host.reports.add(*make_reports(1))
        await until(lambda: not host.reports.waiting)

        assert link.status.state == "down"


async def test_reports_are_sent_anew_when_the_link_is_back(orchestrator: FakeOrchestrator) -> None:
    """After a partition the answer to what was sent before may never come: nobody waits for it."""
    host, hung = FakeLinkHost(), asyncio.Event()

    async def be_away(request: web.Request) -> web.StreamResponse | None:
        if request.path.endswith("/reports"):
            hung.set()
            await asyncio.Event().wait()
        return problem(503, "away") if request.path.endswith("/heartbeat") else None

    settings = LinkSettings(orchestrator.url, heartbeat_s=0.1, timeout_s=3600)
    async with running_link(settings, host) as link:
        orchestrator.fault = be_away
        host.reports.add(*make_reports(1))
        await hung.wait()
        await until(lambda: link.status.state == "down")
        orchestrator.fault = None
        await until(lambda: not host.reports.waiting)

        assert [item["id"] for item in orchestrator.reports] == ["r0"]


async def test_a_refused_report_is_settled_and_counted(orchestrator: FakeOrchestrator) -> None:
    """The task is another agent's by now; a malformed one is our own fault and says so."""
    host = FakeLinkHost()
    orchestrator.refuse = {"r0": "lease_lost", "r1": "malformed"}
    async with running_link(pushing(orchestrator), host) as link:
        host.reports.add(*make_reports(3))
        await until(lambda: not host.reports.waiting)

        assert (link.status.reported, link.status.refused) == (1, 2)
        levels = [level for level, event, _ in host.logged if event == "link_report_refused"]
        assert levels == ["info", "error"]


async def test_a_report_that_spoils_its_batch_does_not_hold_up_the_others(
    orchestrator: FakeOrchestrator,
) -> None:
    """One output that the orchestrator cannot read must not cost the results of all."""
    host = FakeLinkHost()

    async def refuse_poison(request: web.Request) -> web.StreamResponse | None:
        poisoned = request.path.endswith("/reports") and b"poison" in await request.read()
        return problem(422, "invalid_request") if poisoned else None

    orchestrator.fault = refuse_poison
    async with running_link(pushing(orchestrator), host) as link:
        good, bad = make_reports(2)
        host.reports.add(good, Report(bad.id, bad.task, LEASE, "result", b'"poison"'))
        await until(lambda: not host.reports.waiting)

        assert [item["id"] for item in orchestrator.reports] == ["r0"]
        assert link.status.refused == 1


async def test_a_report_that_breaks_the_orchestrator_is_kept_and_holds_up_nothing(
    orchestrator: FakeOrchestrator,
) -> None:
    """A fault of the orchestrator's must cost neither that result nor those behind it."""
    host = FakeLinkHost()

    async def break_down(request: web.Request) -> web.StreamResponse | None:
        poisoned = request.path.endswith("/reports") and b"poison" in await request.read()
        return problem(500, "internal_error") if poisoned else None

    orchestrator.fault = break_down
    async with running_link(pushing(orchestrator), host):
        bad, good = make_reports(2)
        host.reports.add(Report(bad.id, bad.task, LEASE, "result", b'"poison"'), good)
        await until(lambda: len(host.reports.waiting) == 1)

        assert [item["id"] for item in orchestrator.reports] == ["r1"]
        orchestrator.fault = None
        await until(lambda: not host.reports.waiting)
        assert [item["id"] for item in orchestrator.reports] == ["r1", "r0"]


async def test_an_outbox_that_cannot_be_read_is_tried_again(
    orchestrator: FakeOrchestrator,
) -> None:
    """A full disk passes."""
    host = FakeLinkHost()
    host.reports.is_broken = True
    async with running_link(pushing(orchestrator), host):
        host.reports.add(*make_reports(1))
        await until(lambda: bool(host.events("link_outbox_not_readable")))
        host.reports.is_broken = False
        await until(lambda: not host.reports.waiting)
