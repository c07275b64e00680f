"""The link over HTTP, against an orchestrator that comes, goes and forgets."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from kagent_sdk.link.http import LinkSettings, build_link
from kagent_sdk.link.port import OfferRefusedError, Report
from kagent_sdk.protocol.link import AgentLimits, Held, Registration
from kagent_sdk.protocol.tasks import TaskFailure
from tests.integration.fake_link_host import INSTANCE, FakeLinkHost, running_link
from tests.integration.fake_orchestrator import (
    TOKEN,
    FakeOrchestrator,
    problem,
    running_orchestrator,
    until,
)

LEASE = "lease-0123456789abcdef"
OTHER_LEASE = "lease-fedcba9876543210"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OFFER = b'{"id": "t1", "capability": "add", "input": {"n": 1.50}, "timeout_s": 7, "metadata": {}}'


@pytest.fixture
async def orchestrator() -> AsyncIterator[FakeOrchestrator]:
    """Run an orchestrator."""
    async with running_orchestrator() as running:
        yield running


def pushing(orchestrator: FakeOrchestrator, heartbeat_s: float = 0.1) -> LinkSettings:
    """Return settings for this orchestrator."""
    return LinkSettings(orchestrator.url, heartbeat_s=heartbeat_s, timeout_s=5)


def pulling(orchestrator: FakeOrchestrator) -> LinkSettings:
    """Return settings of an agent that asks for its tasks."""
    return LinkSettings(orchestrator.url, "pull", heartbeat_s=0.1, timeout_s=5)


def make_reports(count: int, payload: bytes = b'{"n": 1.50}') -> list[Report]:
    """Return results."""
    return [Report(f"r{n}", f"t{n}", LEASE, "result", payload) for n in range(count)]


async def test_an_agent_is_registered_and_heard_of(orchestrator: FakeOrchestrator) -> None:
    """The orchestrator learns who it is, what it has, and that it lives."""
    host = FakeLinkHost()
    host.held = (Held(task="t1", lease=LEASE),)
    async with running_link(pushing(orchestrator), host) as link:
        registration = await orchestrator.came("agents")
        beat = await orchestrator.came("heartbeat", 2)
        await until(lambda: link.status.state == "up")

        assert Registration.model_validate_json(registration.body) == host.registration()
        assert registration.headers["authorization"] == f"Bearer {TOKEN}"
        assert beat.json["tasks"] == [{"task": "t1", "lease": LEASE}]
        assert link.status.orchestrator == "boot-1"
        assert link.status.registrations == 1
        assert link.status.last_error is None
        assert link.status.last_contact_at is not None


async def test_the_shorter_of_two_intervals_counts(orchestrator: FakeOrchestrator) -> None:
    """An orchestrator that notices a loss fast must hear often."""
    orchestrator.heartbeat_s = 0.1
    async with running_link(pushing(orchestrator, heartbeat_s=300), FakeLinkHost()):
        await orchestrator.came("heartbeat", 3)


async def test_an_orchestrator_that_restarts_learns_of_the_agent_again(
    orchestrator: FakeOrchestrator,
) -> None:
    """It has forgotten who was registered; results must find their way all the same."""
    host = FakeLinkHost()
    async with running_link(pushing(orchestrator), host) as link:
        await orchestrator.came("heartbeat")
        await orchestrator.stop()
        await until(lambda: link.status.state == "down")
        host.reports.add(*make_reports(3))
        await orchestrator.start()
        await until(lambda: len(orchestrator.reports) == 3)
        await until(lambda: link.status.state == "up")

        assert link.status.orchestrator == "boot-2"
        assert link.status.registrations == 2
        assert INSTANCE in orchestrator.agents
        assert host.events("link_down")[0]["reason"] == "no connection: Connection refused"


async def test_an_agent_that_starts_first_waits_for_its_orchestrator(
    orchestrator: FakeOrchestrator,
) -> None:
    """Nobody orders the starts of containers."""
    settings = pushing(orchestrator)
    await orchestrator.stop()
    host = FakeLinkHost()
    async with running_link(settings, host) as link:
        await until(lambda: link.status.state == "down")
        await orchestrator.start()
        await until(lambda: link.status.state == "up")

        assert len(host.events("link_down")) == 1


@pytest.mark.parametrize("path", ["heartbeat", "reports", "fetch"])
async def test_whoever_hears_404_first_has_the_agent_registered_again(
    orchestrator: FakeOrchestrator, path: str
) -> None:
    """The orchestrator's memory may be lost without its process."""
    host = FakeLinkHost()
    async with running_link(pulling(orchestrator), host) as link:
        await orchestrator.came("fetch")
        orchestrator.agents.clear()
        if path == "reports":
            host.reports.add(*make_reports(1))
        elif path == "fetch":
            orchestrator.offer(b"nonsense")  # lets the fetch that waits end
        await orchestrator.came("agents", 2)
        await until(lambda: link.status.registrations == 2)
        await until(lambda: not host.reports.waiting)


async def test_another_orchestrator_at_the_same_address_is_told_everything(
    orchestrator: FakeOrchestrator,
) -> None:
    """It may know the agent's name from its database, and still not its capabilities."""
    async with running_link(pushing(orchestrator), FakeLinkHost()) as link:
        await orchestrator.came("heartbeat")
        orchestrator.boots += 1
        await orchestrator.came("agents", 2)
        await until(lambda: link.status.orchestrator == "boot-2")


async def test_what_changes_in_the_agent_is_told_at_once(orchestrator: FakeOrchestrator) -> None:
    """A reload brings capabilities; tasks to them must not wait for a restart."""
    host = FakeLinkHost()
    async with running_link(pushing(orchestrator), host):
        await orchestrator.came("heartbeat")
        host.labels = {"zone": "b"}
        host.changed.set()
        registration = await orchestrator.came("agents", 2)

        assert registration.json["labels"] == {"zone": "b"}


async def test_a_rotated_token_is_shown_without_a_restart(orchestrator: FakeOrchestrator) -> None:
    """The old one is refused from now on; the vault has the new one by then, or soon."""
    host = FakeLinkHost()
    async with running_link(pushing(orchestrator), host) as link:
        await orchestrator.came("heartbeat")
        orchestrator.token = "rotated"  # noqa: S105 - the test's own
        await until(lambda: link.status.state == "down")
        refused = link.status.last_error or ""
        beats = len(orchestrator.at("heartbeat"))
        await orchestrator.came("heartbeat", beats + 2)
        host.secret = "rotated"  # noqa: S105 - the test's own
        await until(lambda: link.status.state == "up")

        assert "token" in refused
        assert "401" in refused
        assert TOKEN not in refused
        assert len(host.events("link_down")) == 1
        assert len(host.events("link_up")) == 1


async def test_leases_that_are_lost_and_tasks_that_nobody_wants_reach_the_host(
    orchestrator: FakeOrchestrator,
) -> None:
    """Work on them would be wasted."""
    host = FakeLinkHost()
    lost, unwanted = Held(task="t1", lease=LEASE), Held(task="t2", lease=OTHER_LEASE)
    kept = Held(task="t3", lease=LEASE)
    host.held = (lost, unwanted, kept)
    async with running_link(pushing(orchestrator), host) as link:
        orchestrator.lost = [{"task": "t1", "lease": LEASE}] * 2
        orchestrator.cancel = [{"task": "t2", "lease": OTHER_LEASE}]
        await until(lambda: bool(host.lost and host.canceled))

        assert host.lost == [lost]
        assert host.canceled == [unwanted]
        assert set(host.confirmed) >= {(unwanted, True), (kept, True)}
        assert host.confirmed[:2] == [(unwanted, True), (kept, True)]
        assert link.status.lost == 1


async def test_tasks_of_a_former_host_are_asked_after_at_once(
    orchestrator: FakeOrchestrator,
) -> None:
    """Those that must not run twice wait for the answer."""
    orchestrator.heartbeat_s = 60
    host = FakeLinkHost()
    host.held = (Held(task="t1", lease=LEASE),)
    async with running_link(pushing(orchestrator, heartbeat_s=60), host):
        await until(lambda: host.confirmed == [(host.held[0], True)])

        assert len(orchestrator.at("heartbeat")) == 1


async def test_a_task_is_fetched_with_all_that_belongs_to_it(
    orchestrator: FakeOrchestrator,
) -> None:
    """What the orchestrator knows of the caller reaches the capability unchanged."""
    host = FakeLinkHost(delivery="pull")
    orchestrator.offer(
        OFFER, Klink_Lease=LEASE, Klink_Attempt="2", Klink_Hops="3", traceparent=TRACE
    )
    async with running_link(pulling(orchestrator), host):
        await until(lambda: bool(host.taken))
        [offer] = host.taken

        assert (offer.task, offer.lease, offer.capability) == ("t1", LEASE, "add")
        assert offer.input == b'{"n": 1.50}'
        assert (offer.timeout_s, offer.attempt, offer.hops) == (7.0, 2, 3)
        assert offer.traceparent == TRACE


async def test_a_large_task_is_fetched_whole(orchestrator: FakeOrchestrator) -> None:
    """Over what may be looked at in the loop."""
    host = FakeLinkHost(delivery="pull")
    text = "x" * 3_000_000
    body = f'{{"id": "t1", "capability": "add", "input": "{text}"}}'.encode()
    orchestrator.offer(body, Klink_Lease=LEASE)
    async with running_link(pulling(orchestrator), host):
        await until(lambda: bool(host.taken))

        assert host.taken[0].input == f'"{text}"'.encode()


async def test_no_task_is_fetched_without_room(orchestrator: FakeOrchestrator) -> None:
    """Other agents have it."""
    host = FakeLinkHost(delivery="pull")
    host.room.clear()
    orchestrator.offer(OFFER, Klink_Lease=LEASE)
    async with running_link(pulling(orchestrator), host):
        await orchestrator.came("heartbeat", 2)

        assert orchestrator.at("fetch") == []
        host.room.set()
        await until(lambda: bool(host.taken))


async def test_an_agent_with_one_place_asks_for_one_task_at_a_time(
    orchestrator: FakeOrchestrator,
) -> None:
    """Two answers at once would leave one without a place."""
    host = FakeLinkHost(delivery="pull")
    host.limits = AgentLimits(max_concurrency=1, max_queue=0)
    async with running_link(pulling(orchestrator), host):
        await orchestrator.came("heartbeat", 3)

        assert len(orchestrator.at("fetch")) == 1


async def test_an_agent_that_will_never_take_a_task_says_so(
    orchestrator: FakeOrchestrator,
) -> None:
    """Else its caller waits for a lease to run out, and again at the next agent."""
    host = FakeLinkHost(delivery="pull")
    never = TaskFailure("unknown_capability", "no capability 'add'")
    host.refusals = [
        OfferRefusedError(TaskFailure("queue_full", "full", retryable=True), 0.01),
        OfferRefusedError(never, 0.01),
    ]
    async with running_link(pulling(orchestrator), host):
        orchestrator.offer(OFFER, Klink_Lease=OTHER_LEASE)
        await until(lambda: len(host.taken) == 1)
        orchestrator.offer(OFFER, Klink_Lease=LEASE, traceparent=TRACE)
        await until(lambda: bool(orchestrator.reports))
        [report] = orchestrator.reports

        assert (report["task"], report["lease"], report["kind"]) == ("t1", LEASE, "result")
        assert report["payload"]["state"] == "rejected"
        assert report["payload"]["error"]["code"] == "unknown_capability"


async def test_fetches_begin_anew_when_the_link_comes_back(orchestrator: FakeOrchestrator) -> None:
    """One that hangs in a network that was down would keep a place empty."""
    host = FakeLinkHost(delivery="pull")
    is_deaf = True

    async def be_deaf(request: web.Request) -> web.StreamResponse | None:
        # Silent to fetches that came before, and of no use to heartbeats: as after a partition.
        if is_deaf and request.path.endswith("/heartbeat"):
            return problem(503, "starting")
        return None

    async with running_link(pulling(orchestrator), host) as link:
        await orchestrator.came("fetch", 4)
        orchestrator.fault = be_deaf
        await until(lambda: link.status.state == "down")
        is_deaf = False
        await orchestrator.came("fetch", 8)


async def test_an_agent_that_drains_says_so_fetches_no_more_and_still_reports(
    orchestrator: FakeOrchestrator,
) -> None:
    """What runs is finished and told; what comes goes to others."""
    host = FakeLinkHost(delivery="pull")
    async with running_link(pulling(orchestrator), host) as link:
        await orchestrator.came("fetch", 4)
        await link.drain()
        goodbye = await orchestrator.came("goodbye")
        orchestrator.offer(OFFER, Klink_Lease=LEASE)
        host.reports.add(*make_reports(1))
        await until(lambda: not host.reports.waiting)
        await orchestrator.came("heartbeat", len(orchestrator.at("heartbeat")) + 2)

        assert goodbye.json == {"phase": "draining"}
        assert link.status.state == "draining"
        assert host.taken == []


async def test_an_orchestrator_that_restarts_is_told_again_that_the_agent_drains(
    orchestrator: FakeOrchestrator,
) -> None:
    """It would send tasks to an agent that takes none."""
    async with running_link(pushing(orchestrator), FakeLinkHost()) as link:
        await orchestrator.came("heartbeat")
        await link.drain()
        orchestrator.agents.clear()
        await orchestrator.came("agents", 2)
        goodbye = await orchestrator.came("goodbye", 2)

        assert goodbye.json == {"phase": "draining"}


async def test_a_link_that_closes_reports_what_is_left_and_says_goodbye(
    orchestrator: FakeOrchestrator,
) -> None:
    """The results of a drain are the last that is done: they must not wait for the next start."""
    host = FakeLinkHost()
    async with running_link(pushing(orchestrator), host) as link:
        await orchestrator.came("heartbeat")
        orchestrator.agents.clear()  # and it must be registered once more, for that
        host.reports.waiting.extend(make_reports(250))
        await link.close(10)

        assert len(orchestrator.reports) == 250
        assert orchestrator.at("goodbye")[-1].json == {"phase": "stopped"}
        assert link.status.state == "gone"


async def test_a_link_closes_in_time_though_nobody_answers(
    orchestrator: FakeOrchestrator,
) -> None:
    """A shutdown has a budget, and reports are kept for the next start."""
    host = FakeLinkHost()
    async with running_link(pushing(orchestrator), host) as link:
        await orchestrator.came("heartbeat")
        await orchestrator.stop()
        host.reports.add(*make_reports(1))
        async with asyncio.timeout(60):
            await link.close(0.4)

        assert len(host.reports.waiting) == 1


async def test_a_link_that_never_ran_closes(orchestrator: FakeOrchestrator) -> None:
    """A start that fails is followed by the same shutdown."""
    link = build_link(pushing(orchestrator), FakeLinkHost())
    await link.close(1)
    await link.run()

    assert orchestrator.seen == []


async def test_a_cancelled_link_ends_with_all_its_jobs(orchestrator: FakeOrchestrator) -> None:
    """The host owns the job, and the job owns the rest."""
    link = build_link(pulling(orchestrator), FakeLinkHost(delivery="pull"))
    before = asyncio.all_tasks()
    job = asyncio.create_task(link.run())
    await orchestrator.came("fetch")
    job.cancel()
    await asyncio.wait([job])
    await link.close(1)
    await orchestrator.stop()

    assert job.cancelled()
    assert {task for task in asyncio.all_tasks() - before if not task.done()} == set()


async def test_a_fault_of_the_host_s_does_not_end_the_link(
    orchestrator: FakeOrchestrator,
) -> None:
    """The agent would be cut off by one task of thousands."""
    host = FakeLinkHost(delivery="pull")
    beats = itertools.count()
    plain = host.heartbeat

    def fail_once() -> object:
        if next(beats) == 2:
            raise RuntimeError("a fault")
        return plain()

    host.heartbeat = fail_once  # type: ignore[method-assign,assignment]
    async with running_link(pulling(orchestrator), host):
        await until(lambda: bool(host.events("link_job_failed")))
        await orchestrator.came("heartbeat", 3)
