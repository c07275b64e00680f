"""kLink over NATS: the connection, the registry, and agents that call agents."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import nats
import pytest
import trustme
from nats.aio.msg import Msg

from kagent_sdk.errors import LinkError, SnapshotError
from kagent_sdk.link.nats import snapshots
from kagent_sdk.link.nats.caller import NatsCaller, Submission
from kagent_sdk.link.nats.client import connect_caller
from kagent_sdk.link.nats.connection import Access, Bus
from kagent_sdk.link.nats.records import TaskRecord
from kagent_sdk.link.port import CallFailedError, OutgoingCall
from kagent_sdk.link.settings import LinkTls
from kagent_sdk.protocol.link import Held, Offer
from kagent_sdk.snapshots.destination import open_destination
from tests.integration.link_hosts import FakeHost, capability
from tests.integration.link_replicas import QUICK, Replica, end_of, linked, task, until
from tests.integration.nats_server import NatsServer

TOKEN = "s3cret-of-the-mesh"  # noqa: S105 - of the test's own server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """Return a server of the test's own."""
    server = NatsServer(tmp_path)
    server.start()
    yield server
    server.stop()


async def test_a_server_that_is_killed_loses_nothing(server: NatsServer) -> None:
    """What was accepted is on disk; what ends meanwhile is told when the server is back."""
    hosts = [FakeHost("safe", is_quick=False, room=3), FakeHost("safe", is_quick=False, room=3)]
    async with linked(server, *hosts) as replicas, connect_caller(server.url, limits=QUICK) as own:
        for number in range(12):
            await own.submit(task("safe", f"job-{number}"))
        for host in hosts:
            await host.wait(lambda host=host: len(host.held) == 3)
        server.kill()
        await until(lambda: all(one.link.status.state == "down" for one in replicas))
        for host in hosts:
            for id in list(host.held):
                host.finish(id)
            host.is_quick = True
        server.start()
        ends = [await end_of(own, "safe", f"job-{number}") for number in range(12)]

        assert [end["state"] for end in ends] == ["completed"] * 12
        taken = [offer.task for host in hosts for offer in host.offers]
        assert sorted(taken) == sorted(f"job-{number}" for number in range(12))
        await until(lambda: all(one.link.status.state == "up" for one in replicas))
        assert [one.link.status.refused for one in replicas] == [0, 0]


async def test_a_request_does_not_outlive_its_connection(server: NatsServer) -> None:
    """Its answer never comes: a report that waits for it would hold up those behind it."""
    access = Access(server.url, "test", "_INBOX_test", timeout_s=3600, token=lambda: None)
    bus, asked = Bus(access, QUICK), asyncio.Event()

    async def say_nothing(_: Msg) -> None:
        asked.set()

    await bus.open()
    await bus.client.subscribe("silence", cb=say_nothing)
    request = asyncio.create_task(bus.client.request("silence", timeout=3600))
    await asked.wait()
    server.kill()
    with pytest.raises(TimeoutError):
        await request
    server.start()

    await bus.tasks.status()
    await bus.close()


async def test_an_agent_is_started_before_its_server(tmp_path: Path) -> None:
    """Machines come up in any order; nobody should have to restart agents by hand."""
    server = NatsServer(tmp_path)
    server.start()
    server.kill()
    host = FakeHost("early")
    replica = Replica(server, host)
    entering = asyncio.create_task(replica.__aenter__())
    await until(lambda: replica.link.status.last_error is not None)
    before = replica.link.status.state
    server.start()
    await entering
    await replica.__aexit__()
    server.stop()

    assert before == "connecting"
    assert replica.link.status.registrations == 1
    assert replica.link.status.state == "gone"


async def test_the_registry_knows_who_is_there(server: NatsServer) -> None:
    """Who dies is forgotten in time, who leaves at once; the token is never told."""
    leaver, victim = FakeHost("agent.one"), FakeHost("agent.one")
    async with connect_caller(server.url, limits=QUICK) as caller:

        async def are_there(*hosts: FakeHost) -> bool:
            agents = await caller.registry.agents()
            assert all(one.token is None and one.agent == "agent.one" for one in agents)
            return {one.instance for one in agents} == {host.instance for host in hosts}

        async with linked(server, leaver, victim) as [leaving, dying]:
            await until(lambda: are_there(leaver, victim))
            await asyncio.sleep(2 * QUICK.registry_ttl_s)  # both are older than the time they have
            await until(lambda: are_there(leaver, victim))
            await leaving.link.close(2)
            assert await are_there(victim)
            await dying.die()
            await until(are_there)


async def test_a_draining_agent_takes_no_more_tasks_and_goes_on_reporting(
    server: NatsServer,
) -> None:
    """What it has it finishes; what comes now is for the others."""
    old, new = FakeHost("drain", is_quick=False), FakeHost("drain")
    async with linked(server, old) as [link], connect_caller(server.url, limits=QUICK) as caller:
        await caller.submit(task("drain", "before"))
        await old.wait(lambda: "before" in old.held)
        await link.link.drain()
        await caller.submit(task("drain", "after"))
        old.finish("before")
        await end_of(caller, "drain", "before")
        async with linked(server, new):
            await end_of(caller, "drain", "after")

        assert [offer.task for offer in old.offers] == ["before"]
        assert link.link.status.state == "draining"


async def test_agents_are_nats_services(server: NatsServer) -> None:
    """The tool that people know lists them, and one request is enough to use them."""
    hosts = [FakeHost("micro.agent"), FakeHost("micro.agent")]
    async with linked(server, *hosts):
        client = await nats.connect(server.url)
        inbox = await client.subscribe(client.new_inbox())
        pings: dict[str, Any] = {}

        async def have_answered() -> bool:
            # An agent is up a moment before it listens as a service.
            await client.publish("$SRV.PING.micro_agent", reply=inbox.subject)
            with suppress(TimeoutError):
                while len(pings) < len(hosts):
                    ping = json.loads((await inbox.next_msg(0.5)).data)
                    pings[ping["metadata"]["instance"]] = ping
            return len(pings) == len(hosts)

        await until(have_answered)
        info = json.loads((await client.request("$SRV.INFO.micro_agent", timeout=30)).data)
        answer = await client.request("kagent.call.micro=2Eagent.echo", b'{"say":"hi"}', timeout=30)
        stats = json.loads((await client.request("$SRV.STATS.micro_agent", timeout=30)).data)
        await client.close()

    assert set(pings) == {host.instance for host in hosts}
    assert (info["version"], info["metadata"]["agent"]) == ("1.2.3", "micro.agent")
    assert [one["subject"] for one in info["endpoints"]] == ["kagent.call.micro=2Eagent.echo"]
    assert stats["endpoints"][0]["name"] == "echo"
    assert json.loads(answer.data) == {"say": "hi"}


async def test_changed_capabilities_are_taken_up(server: NatsServer) -> None:
    """A reload must not need a new connection."""
    host = FakeHost("reload")
    async with linked(server, host), connect_caller(server.url, limits=QUICK) as caller:
        host.capabilities = (capability("echo"), capability("v2.echo"))
        host.changed.set()

        async def are_known() -> bool:
            return len((await caller.registry.agents())[0].capabilities) == 2

        await until(are_known)
        await caller.submit(task("reload", "job", capability="v2.echo"))
        end = await end_of(caller, "reload", "job")

    assert end["state"] == "completed"


async def test_agents_call_agents_and_hear_items_as_they_come(server: NatsServer) -> None:
    """By name or by capability and labels; the output is the answer, whatever happens meanwhile."""
    caller, worker = FakeHost("asks"), FakeHost("answers", is_quick=False)
    caller.capabilities = (capability("ask"),)
    worker.labels = {"tier": "gold"}
    items: list[object] = []
    seen = asyncio.Event()

    async def on_item(item: bytes) -> None:
        items.append(json.loads(item))
        seen.set()

    async with linked(server, caller, worker) as [link, _]:
        call = OutgoingCall(
            "call-1", None, "echo", b"[7]", {"tier": "gold"}, 20, hops=3, is_streamed=True
        )
        calling = asyncio.create_task(link.link.call(call, on_item))
        await worker.wait(lambda: "call-1" in worker.held)
        worker.tell("call-1", {"n": 1})
        await seen.wait()
        server.kill()
        worker.tell("call-1", 0.5, "progress")
        worker.tell("call-1", {"n": 2})
        server.start()
        worker.finish("call-1")

        assert json.loads(await calling) == [7]
        assert items == [{"n": 1}, {"n": 2}]
        assert worker.offers[0].hops == 3
        with pytest.raises(CallFailedError) as far:
            await link.link.call(replace(call, task="call-2", hops=17))
        assert far.value.failure.code == "too_many_hops"


async def test_a_call_that_nobody_waits_for_is_cancelled(server: NatsServer) -> None:
    """By the one who called, or because its time is over."""
    asks, worker = FakeHost("impatient"), FakeHost("slow", is_quick=False)
    async with linked(server, asks, worker) as [link, _]:
        calling = asyncio.create_task(link.link.call(OutgoingCall("c1", "slow", "echo", b"1")))
        await worker.wait(lambda: "c1" in worker.held)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        await worker.wait(lambda: len(worker.cancelled) == 1)
        overdue = link.link.call(OutgoingCall("c2", "slow", "echo", b"2", timeout_s=8))
        calling = asyncio.create_task(overdue)
        await worker.wait(lambda: "c2" in worker.held)
        with pytest.raises(CallFailedError) as late:
            await calling
        await worker.wait(lambda: len(worker.cancelled) == 2)

    assert late.value.failure.code == "timeout"
    assert [held.task for held in worker.cancelled] == ["c1", "c2"]


async def test_a_call_given_up_while_it_is_sent_is_cancelled_too(server: NatsServer) -> None:
    """An agent may hold the task before the server has answered that it was sent."""
    asks, worker = FakeHost("impatient"), FakeHost("slow", is_quick=False)
    async with linked(server, asks, worker) as [link, _]:
        with submissions_held_up() as (sent, answer):
            calling = asyncio.create_task(link.link.call(OutgoingCall("c1", "slow", "echo", b"1")))
            await worker.wait(lambda: "c1" in worker.held)
            await sent.wait()
            calling.cancel()
            await asyncio.sleep(0)
            answer.set()
            with pytest.raises(asyncio.CancelledError):
                await calling
        await worker.wait(lambda: len(worker.cancelled) == 1)

    assert [held.task for held in worker.cancelled] == ["c1"]


class Slow(FakeHost):
    """A host whose disk is slow: it takes a task when the test lets it."""

    def __init__(self, agent: str) -> None:
        super().__init__(agent, is_quick=False)
        self.asked, self.ready = asyncio.Event(), asyncio.Event()
        self.unknown: list[str] = []

    async def take(self, offer: Offer) -> None:
        """Take it when it is time."""
        self.asked.set()
        await self.ready.wait()
        await super().take(offer)

    def cancel(self, held: Held) -> None:
        """Cancel what it has."""
        if held.task in self.held:
            super().cancel(held)
        else:
            self.unknown.append(held.task)
            self._move()


async def test_a_task_cancelled_while_its_host_takes_it_is_cancelled(server: NatsServer) -> None:
    """The host does not know it yet when it is told so; it must not run for nobody."""
    worker = Slow("slow")
    async with linked(server, worker), connect_caller(server.url, limits=QUICK) as own:
        await own.submit(task("slow", "job"))
        await worker.asked.wait()
        await own.cancel("slow", "job")
        await worker.wait(lambda: worker.unknown == ["job"])
        worker.ready.set()
        end = await end_of(own, "slow", "job")

    assert end["state"] == "canceled"
    assert [held.task for held in worker.cancelled] == ["job"]


async def test_a_task_cancelled_while_its_agent_is_away_is_cancelled_when_it_is_back(
    server: NatsServer,
) -> None:
    """The agent reads it in the record that it takes up: nobody says it again."""
    worker = FakeHost("slow", is_quick=False)
    async with linked(server, worker), connect_caller(server.url, limits=QUICK) as own:
        await own.submit(task("slow", "job"))
        await worker.wait(lambda: "job" in worker.held)
    async with connect_caller(server.url, limits=QUICK) as own:
        await own.cancel("slow", "job")
        assert "job" in worker.held
        async with linked(server, worker):
            end = await end_of(own, "slow", "job")

    assert end["state"] == "canceled"
    assert [held.task for held in worker.cancelled] == ["job"]


@contextmanager
def submissions_held_up() -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """Keep the answer to a submission back, once the server has it, until the test lets it through."""
    sent, answer = asyncio.Event(), asyncio.Event()
    submit = NatsCaller.submit

    async def submit_slowly(self: NatsCaller, submission: Submission) -> TaskRecord:
        record = await submit(self, submission)
        sent.set()
        await answer.wait()
        return record

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NatsCaller, "submit", submit_slowly)
        yield sent, answer


async def test_nobody_gets_in_without_the_token_and_a_new_one_is_taken_up(tmp_path: Path) -> None:
    """The vault may be wrong at first: the agent goes on, says so, and shows what it has then."""
    server = NatsServer(tmp_path, "--auth", TOKEN)
    server.start()
    host = FakeHost("guest")
    shown: list[str] = ["wrong"]
    host.token = lambda: shown[0]  # type: ignore[method-assign]
    replica = Replica(server, host)
    entering = asyncio.create_task(replica.__aenter__())
    await until(lambda: replica.link.status.last_error == "NATS refuses the token")
    shown[0] = TOKEN
    await entering
    await replica.__aexit__()
    server.stop()

    assert replica.link.status.registrations == 1
    assert not any("wrong" in line or TOKEN in line for line in host.logged)


async def test_tls_is_checked_and_never_done_without(tmp_path: Path) -> None:
    """The token must not go to somebody else, or over a line that anybody can read."""
    authority, stranger = trustme.CA(), trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    files = {name: tmp_path / name for name in ("ca.pem", "other.pem", "cert.pem", "key.pem")}
    authority.cert_pem.write_to_path(str(files["ca.pem"]))
    stranger.cert_pem.write_to_path(str(files["other.pem"]))
    certificate.cert_chain_pems[0].write_to_path(str(files["cert.pem"]))
    certificate.private_key_pem.write_to_path(str(files["key.pem"]))
    secure = NatsServer(
        *(tmp_path, "--tls", "--tlscert", str(files["cert.pem"]), "--tlskey", str(files["key.pem"]))
    )
    secure.start()
    trusting = LinkTls(ca=files["ca.pem"])
    url = secure.url.replace("nats:", "tls:")
    async with asyncio.timeout(60), connect_caller(url, tls=trusting, limits=QUICK) as caller:
        agents = await caller.registry.agents()
    with pytest.raises((TimeoutError, LinkError, ssl.SSLError)):
        async with (
            asyncio.timeout(1),
            connect_caller(url, tls=LinkTls(ca=files["other.pem"]), limits=QUICK),
        ):
            pass
    secure.stop()
    (tmp_path / "plain").mkdir()
    plain = NatsServer(tmp_path / "plain")
    plain.start()
    shown = plain.url.replace("nats:", "tls:")
    with pytest.raises((TimeoutError, LinkError)):
        async with asyncio.timeout(1), connect_caller(shown, token=TOKEN, limits=QUICK):
            pass
    plain.stop()

    assert agents == ()


def test_snapshots_are_kept_in_the_object_store(server: NatsServer, tmp_path: Path) -> None:
    """An agent that is started elsewhere finds its snapshot there."""
    content = bytes(range(256)) * 4096
    names = [f"agent-2026013{day}T235959Z-0a1b2c3d.tar.zst" for day in (0, 1)]
    sent: list[int] = []
    destination = open_destination(server.url, tmp_path)
    before = destination.list()
    for name in names:
        with destination.partial() as (file, path):
            file.write(content)
            file.flush()
            destination.keep(path, name, sent.append)
    kept = [stored.name for stored in destination.list()]
    with destination.fetch(names[0], len(content), lambda _count: None) as path:
        fetched = path.read_bytes()
    with (
        pytest.raises(SnapshotError, match="over"),
        destination.fetch(names[0], len(content) - 1, lambda _count: None),
    ):
        pass
    destination.prune("agent", 1, names[1])
    with (
        pytest.raises(SnapshotError, match="there is no snapshot"),
        destination.fetch(names[0], len(content), lambda _count: None),
    ):
        pass

    assert before == []
    assert kept == names
    assert (fetched, sum(sent)) == (content, 2 * len(content))
    assert [(stored.name, stored.size_bytes) for stored in destination.list()] == [
        (names[1], len(content))
    ]


def test_snapshots_go_to_nats_in_a_way_that_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads the log of a failed snapshot is far from the server."""
    monkeypatch.setattr(snapshots, "CONNECT_S", 0.5)
    for address, reason in (
        ("nats://127.0.0.1:1", "NATS"),
        ("nats://me:secret@127.0.0.1:4222", "without a user or a path"),
        ("nats://127.0.0.1:4222/bucket", "without a user or a path"),
    ):
        with pytest.raises(SnapshotError, match=reason) as caught:
            open_destination(address, tmp_path).list()
        assert "secret" not in str(caught.value)
