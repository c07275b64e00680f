"""Who may do what at an orchestrator, and what it does about everybody else."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from kagent_sdk.config.models import TlsConfig
from kagent_sdk.errors import OrchestratorError
from kagent_sdk.orchestrator.http.openapi import openapi_document
from kagent_sdk.orchestrator.service import Service
from kagent_sdk.orchestrator.settings import ServiceSettings
from tests.integration.orchestrators import FakeAgent, Mesh, quick_settings, running

AGENT = "agent-token-0123456789"
OPERATOR = "operator-token-0123456789"
TASK = {"id": "t", "capability": "echo", "input": None}


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Mesh]:
    """Run an orchestrator with both tokens."""
    settings = quick_settings(tmp_path, agent_token=AGENT, operator_token=OPERATOR)
    async with running(settings) as mesh:
        yield mesh


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    """Run an orchestrator that takes three waiting tasks, and small bodies."""
    limits = {"max_queue": 3, "lease_s": 30, "route_timeout_s": 30}
    settings = quick_settings(tmp_path, limits=limits, max_body_bytes=65_536)
    async with running(settings) as running_mesh:
        yield running_mesh


@pytest.mark.parametrize(
    ("method", "path", "agent", "operator", "nobody"),
    [
        ("GET", "/healthz", 200, 200, 200),
        ("GET", "/readyz", 200, 200, 200),
        ("GET", "/status", 403, 200, 401),
        ("GET", "/metrics", 403, 200, 401),
        ("GET", "/v1/agents", 403, 200, 401),
        ("GET", "/openapi.json", 403, 200, 401),
        ("GET", "/v1/capabilities", 200, 200, 401),
        ("GET", "/v1/tasks", 200, 200, 401),
        ("POST", "/v1/link/agents", 400, 403, 401),
        ("POST", "/v1/link/agents/x/reports", 400, 403, 401),
        ("POST", "/v1/tasks", 400, 400, 401),
    ],
)
async def test_each_role_has_its_routes(
    guarded: Mesh, method: str, path: str, agent: int, operator: int, nobody: int
) -> None:
    """An agent that is taken over must not stop the mesh, nor an operator's script play agent."""
    found = []
    for token in (AGENT, OPERATOR, None, "wrong-token-0123456789"):
        guarded.token = token
        found.append((await guarded.ask(method, path)).status)

    assert found == [agent, operator, nobody, nobody]


async def test_only_operators_shut_down(guarded: Mesh) -> None:
    """The route that does harm."""
    guarded.token = AGENT

    assert (await guarded.ask("POST", "/v1/shutdown")).status == 403


async def test_without_tokens_web_pages_are_no_local_programs(mesh: Mesh) -> None:
    """A page that the user visits reaches loopback too."""
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        for path in ("/v1/tasks", "/v1/link/agents", "/v1/shutdown"):
            assert (await mesh.ask("POST", path, TASK, headers=headers)).status == 403


@pytest.mark.parametrize(
    "changes", [{}, {"agent_token": AGENT}, {"operator_token": OPERATOR}], ids=str
)
def test_no_start_for_other_machines_without_both_tokens(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Whoever reaches the port could run tasks."""
    with pytest.raises(OrchestratorError, match="without a token"):
        ServiceSettings(tmp_path, host="0.0.0.0", **changes).check()  # noqa: S104


def test_one_token_for_both_roles_is_refused(tmp_path: Path) -> None:
    """It would make every agent an operator."""
    with pytest.raises(OrchestratorError, match="different tokens"):
        ServiceSettings(tmp_path, agent_token=AGENT, operator_token=AGENT).check()


async def test_two_orchestrators_do_not_share_a_folder(tmp_path: Path) -> None:
    """Each would offer the tasks of the other."""
    settings = quick_settings(tmp_path)
    async with running(settings):
        with pytest.raises(OrchestratorError, match="another orchestrator has"):
            async with running(settings):
                pass


async def test_a_taken_port_is_a_clear_error(tmp_path: Path) -> None:
    """The message names the port, and the way out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OrchestratorError, match=f"{port}.*0 takes a free one"):
            await Service(
                ServiceSettings(tmp_path, port=port, logs=quick_settings(tmp_path).logs)
            ).run(asyncio.Event())


async def test_the_announcement_says_where_and_is_gone_afterwards(tmp_path: Path) -> None:
    """Commands on the same machine find the orchestrator by its folder."""
    async with running(quick_settings(tmp_path)) as mesh:
        path = tmp_path / "orchestrator.json"
        document = json.loads(path.read_text())
        mode = path.stat().st_mode & 0o777

    assert (document["pid"], document["url"]) == (os.getpid(), mesh.url)
    assert mode == 0o600
    assert not path.exists()


async def test_an_operator_shuts_it_down(tmp_path: Path) -> None:
    """A caller that waits is told where to ask later, and finds the task after a restart."""
    async with running(quick_settings(tmp_path)) as mesh:
        calling = asyncio.create_task(mesh.ask("POST", "/v1/tasks", TASK))
        while (await mesh.ask("GET", "/v1/tasks/t")).status != 200:  # noqa: ASYNC110 - as in until
            await asyncio.sleep(0.01)
        assert (await mesh.ask("POST", "/v1/shutdown")).status == 202
        answer = await calling
    assert (answer.status, answer.headers["Location"]) == (202, "/v1/tasks/t")

    async with running(quick_settings(tmp_path)) as mesh:
        assert (await mesh.task("t"))["state"] == "submitted"


async def test_a_full_queue_says_when_to_come_back(mesh: Mesh) -> None:
    """Nothing that waits is unbounded."""
    statuses = [(await mesh.submit(f"t{number}")).status for number in range(3)]
    answer = await mesh.submit("one-more")
    same = await mesh.submit("t0")

    assert statuses == [202] * 3
    assert (answer.status, answer.json["code"]) == (429, "queue_full")
    assert int(answer.headers["Retry-After"]) >= 1
    assert same.status == 202


async def test_an_id_is_one_task(mesh: Mesh) -> None:
    """The same again is the same task; another input is a conflict, and so is another capability."""
    await mesh.submit("t")

    assert (await mesh.submit("t")).status == 202
    assert (await mesh.submit("t", input={"n": 2})).status == 409
    assert (await mesh.submit("t", "other")).status == 409
    assert len((await mesh.ask("GET", "/v1/tasks")).json["tasks"]) == 1


async def test_a_circle_of_calls_ends(mesh: Mesh) -> None:
    """Agents that call each other for ever would fill the mesh."""
    answer = await mesh.ask("POST", "/v1/tasks", TASK, headers={"Klink-Hops": "17"})

    assert (answer.status, answer.json["code"]) == (422, "too_many_hops")


async def test_a_wrong_name_gets_the_right_one(tmp_path: Path) -> None:
    """A slip is told at once, not after half a minute; an agent that is expected is waited for."""
    settings = quick_settings(
        tmp_path, limits={"lease_s": 0.5, "heartbeat_s": 0.1}, expects=frozenset({"late"})
    )
    async with running(settings) as mesh:
        agent, late = FakeAgent(mesh), FakeAgent(mesh, name="late", capabilities=("other",))
        number = 0
        # At first the agents of an orchestrator before it may still come.
        while (wrong := await mesh.submit(f"x{number}", "worker/ecko")).status == 202:
            await agent.register()
            await asyncio.sleep(0.05)
            number += 1
        expected = await mesh.submit("z", "late/other")
        await late.register()
        await agent.register()
        bare = await mesh.submit("w", "ecko")

    assert (wrong.status, wrong.json["nearest"]) == (404, ["worker/echo"])
    assert expected.status == 202
    assert bare.json["nearest"][0] == "echo"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"\xff\xfe", 400),
        (b'{"capability":"a"', 400),
        (b"[]", 422),
        (b'{"capability":"a","labels":[]}', 422),
        (b'{"capability":"a","labels":{"k":1}}', 422),
        (b'{"capability":"a","labels":{"k":"v v"}}', 422),
        (b'{"capability":"/a"}', 422),
        (b'{"capability":"a/"}', 422),
        (b'{"capability":"a/b/c","input":1}', 202),
        (b'{"capability":"a","callback_url":"https://x.example/"}', 422),
        (b'{"capability":"a","unknown":1}', 400),
        (b'{"capability":"a","capability":"b"}', 400),
        (b'{"capability":"a","input":' + b"[" * 1000 + b"]" * 1000 + b"}", 400),
        (b'{"capability":"a","input":"' + b"x" * 70_000 + b'"}', 413),
        (b'{"id":"a b","capability":"a"}', 422),
    ],
)
async def test_hostile_submissions_are_problems(mesh: Mesh, body: bytes, status: int) -> None:
    """Whatever comes is answered with what is wrong, and nothing else happens."""
    answer = await mesh.ask("POST", "/v1/tasks", body=body, headers={"Prefer": "respond-async"})

    assert answer.status == status, answer.body
    assert status == 202 or answer.json["type"].startswith("urn:kagent:problem:")


async def test_hostile_agents_get_problems_and_break_nothing(mesh: Mesh) -> None:
    """An agent that was taken over has a token too."""
    agent = FakeAgent(mesh)
    await agent.register()
    await mesh.submit("t")
    offer = await agent.fetch()
    assert offer is not None
    link = "/v1/link/agents"
    reports = f"{link}/{agent.instance}/reports"
    item = {"id": "r", "task": "t", "lease": offer.lease, "kind": "event", "payload": {}}
    for path, document, status in (
        (link, agent.registration(instance="short"), 422),
        (link, agent.registration(delivery="push", url="ftp://x"), 422),
        (link, agent.registration(delivery="push", url="http://u:p@x"), 422),
        (link, agent.registration(delivery="push", url="http://x/any/path?"), 422),
        (link, agent.registration(delivery="push", url="http://x/any/path#"), 422),
        (link, agent.registration(labels={str(n): "v" for n in range(33)}), 422),
        (f"{link}/unknown-instance-0/heartbeat", {"status": agent.registration()["status"]}, 404),
        (f"{link}/{agent.instance}/heartbeat", {"status": {}}, 422),
        (f"{link}/{agent.instance}/fetch", {"wait_s": 1e9}, 422),
        (f"{link}/{agent.instance}/goodbye", {"phase": "party"}, 422),
        (reports, {"items": "x"}, 400),
        (reports, {"items": [{**item, "kind": "party"}]}, 422),
        (reports, {"items": [{**item, "task": "../x"}]}, 422),
        (reports, {"items": [item] * 1001}, 400),
        (reports, {"items": [item]}, 200),
    ):
        answer = await mesh.ask("POST", path, document)
        assert answer.status == status, (path, answer.body)
    payloads: list[Any] = [None, [], {"id": -1, "event": "event"}, {"id": 1, "event": "a\nb"}]
    refused = [await agent.tell(offer, "event", payload) for payload in payloads]
    broken = await agent.tell(offer, "result", {"state": "working"})
    done = await mesh.task("t", 5)

    assert {answer["reason"] for answer in refused} == {"malformed"}
    assert broken["reason"] == "malformed"
    assert done["error"]["code"] == "unreadable_result"


async def test_lists_pages_and_metrics(mesh: Mesh) -> None:
    """What an operator looks at."""
    for number in range(3):
        await mesh.submit(f"t{number}", "worker/echo")
    page = (await mesh.ask("GET", "/v1/tasks?limit=2&agent=worker")).json
    rest = (await mesh.ask("GET", f"/v1/tasks?limit=2&after={page['next']}")).json
    full = (await mesh.ask("GET", "/v1/tasks?limit=3")).json  # all that there are, and not one more
    wrong = [
        (await mesh.ask("GET", f"/v1/tasks?{query}")).status
        for query in ("state=x", "limit=0", "color=red")
    ]
    metrics = (await mesh.ask("GET", "/metrics")).body.decode()

    assert [task["id"] for task in page["tasks"]] == ["t2", "t1"]
    assert [task["id"] for task in rest["tasks"]] == ["t0"]
    assert (rest["next"], full["next"], len(full["tasks"])) == (None, None, 3)
    assert wrong == [400] * 3
    assert "kagent_orchestrator_tasks_submitted_total 3.0" in metrics
    assert "kagent_orchestrator_tasks_waiting 3.0" in metrics


async def test_tokens_of_agents_are_told_to_nobody(mesh: Mesh, tmp_path: Path) -> None:
    """They open the agents."""
    names = ("orchestrator.db", "orchestrator.db-wal", "orchestrator.json", "orchestrator.log")
    async with FakeAgent(mesh).listening() as agent:
        await agent.register()
        seen = [(await mesh.ask("GET", path)).body for path in ("/v1/agents", "/status")]
        seen += [(tmp_path / name).read_bytes() for name in names]

    assert not any(agent.token.encode() in text for text in seen)
    assert agent.instance.encode() in seen[0]


async def test_certificates_go_both_ways(tmp_path: Path) -> None:
    """With client_ca nobody without a certificate gets a word in; pushes show the orchestrator's."""
    authority = trustme.CA()
    server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("agent.example")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server.private_key_pem.write_to_path(tmp_path / "key.pem")
    server.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    tls = TlsConfig(certificate="cert.pem", key="key.pem", client_ca="ca.pem")
    settings = quick_settings(tmp_path, tls=tls, agent_ca=tmp_path / "ca.pem")
    with_certificate = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    without = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    client.configure_cert(with_certificate)
    agents_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    agents_side.load_verify_locations(tmp_path / "ca.pem")
    agents_side.verify_mode = ssl.CERT_REQUIRED
    server.configure_cert(agents_side)

    async with running(settings, ssl_context=with_certificate) as mesh:
        async with FakeAgent(mesh).listening(agents_side) as agent:
            assert (await agent.register()).status == 200
            await mesh.submit("t")
            await agent.finish(await agent.until_offered())
            done = await mesh.task("t", 10)
        with pytest.raises(aiohttp.ClientError):
            await mesh.session.get(f"{mesh.url}/healthz", ssl=without)

    assert done["state"] == "completed"


async def test_the_api_is_described(mesh: Mesh) -> None:
    """The wire is written down for both sides."""
    document = (await mesh.ask("GET", "/openapi.json")).json

    assert document == openapi_document(has_tokens=False)
    assert "/v1/link/agents/{instance}/reports" in document["paths"]
