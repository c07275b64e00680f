"""A real agent with a link: it takes leased tasks, and tells their ends whatever happens to it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kagent_sdk.host.link import reachable_url
from tests.agents import RunningAgent, running_agent, start_agent
from tests.integration.stub_orchestrator import HEARTBEAT_S, StubOrchestrator, running_stub
from tests.integration.vaults import put_vault
from tests.integration.waiting import wait_until

OTHER_CODE = '''
from kagent_sdk import Agent

agent = Agent()


@agent.capability
async def fresh() -> str:
    """Be new."""
    return "fresh"


agent.run()
'''
LEASE, OTHER = "lease-one-0123456789", "lease-two-0123456789"
OPERATOR, NOBODY = "the-token-of-this-agent", "some-token-of-nobody"
TOKEN, NEXT = "a-token-of-the-orchestrator", "the-token-after-a-rotation"


@pytest.fixture
def stub() -> Iterator[StubOrchestrator]:
    """Run an orchestrator."""
    with running_stub() as running:
        yield running


def linked(stub: StubOrchestrator, **more: str) -> dict[str, str]:
    """Return the environment of an agent that has this orchestrator."""
    return {
        "AGENT_ORCHESTRATOR__URL": stub.url,
        "AGENT_ORCHESTRATOR__HEARTBEAT_S": str(HEARTBEAT_S),
        "AGENT_ORCHESTRATOR__TIMEOUT_S": "5",
        **more,
    }


@contextmanager
def begun_agent(directory: Path, env: dict[str, str]) -> Iterator[RunningAgent]:
    """Run an agent, given as soon as it listens, which the test may end as it likes."""
    agent = start_agent(directory, env=env)
    announced = directory / "runtime" / "host.json"
    try:
        wait_until(announced.exists)
        agent.url = json.loads(announced.read_text())["url"]
        yield agent
    finally:
        agent.kill()


def touch(agent: RunningAgent, name: str) -> None:
    """Let a task go on that waits for a file."""
    (agent.directory / "runtime" / "data" / name).touch()


def link_of(agent: RunningAgent) -> dict[str, object]:
    """Return what the agent says of its link."""
    link = agent.status()["link"]
    assert isinstance(link, dict)
    return link


def test_an_agent_registers_takes_an_offer_and_tells_its_end(
    subject: Path, stub: StubOrchestrator
) -> None:
    """The whole way of a task, with nothing in between that goes wrong."""
    labels = json.dumps({"zone": "a"})
    with running_agent(subject, env=linked(stub, AGENT_ORCHESTRATOR__LABELS=labels)) as agent:
        registration = stub.wait_registered()
        taken = stub.push("t-1", LEASE)
        stub.push("t-2", LEASE, "nap", {"seconds": 0})
        result = stub.wait_result("t-1")
        stub.wait_result("t-2")
        document = agent.get("/v1/tasks/t-1").json()
        stub.wait_held()
        link = link_of(agent)
        metrics = agent.get("/metrics").body.decode()
        api = agent.get("/openapi.json").json()
        log = agent.log_text

    assert taken.status == 202
    assert result["lease"] == LEASE
    assert result["payload"] == document
    assert registration["url"] == agent.url
    assert registration["labels"] == {"zone": "a"}
    assert {"echo", "nap"} <= {one["name"] for one in registration["capabilities"]}
    assert registration["status"]["ready"]
    assert (link["state"], link["tasks"], link["pending"]) == ("up", 0, 0)
    assert link["instance"] == registration["instance"]
    assert "kagent_link_up 1.0" in metrics
    parameters = api["paths"]["/v1/tasks"]["post"]["parameters"]
    assert "Klink-Lease" in [one["name"] for one in parameters]
    assert registration["token"] not in log
    progress = [one for one in stub.reports if (one["task"], one["kind"]) == ("t-2", "event")]
    assert "asleep" in [one["payload"]["data"].get("message") for one in progress]
    assert stub.goodbyes == ["draining", "stopped"]


def test_an_offer_that_comes_after_two_heartbeats_is_not_begun(
    subject: Path, stub: StubOrchestrator
) -> None:
    """The orchestrator has given it to somebody else by then, and it must not run at both."""
    with running_agent(subject, env=linked(stub)) as agent:
        beat = stub.wait_registered()["beat"]
        wait_until(lambda: len(stub.heartbeats) >= 3)
        late = stub.push("t-late", LEASE, Klink_Beat=str(beat))
        # What came with the last heartbeat, or before it, is in time however long that takes.
        taken = stub.push("t-1", OTHER, Klink_Beat=str(stub.heartbeats[-1]["beat"] + 100))
        stub.wait_result("t-1")
        unknown = agent.get("/v1/tasks/t-late")

    assert beat > 0
    assert [one["beat"] for one in stub.heartbeats[:3]] == [beat + 1, beat + 2, beat + 3]
    assert (late.status, "Retry-After" in late.headers) == (429, True)
    assert taken.status == 202
    assert unknown.status == 404


def test_an_agent_without_an_orchestrator_has_no_link(subject: Path) -> None:
    """It imports nothing of one, and nobody can give it leases."""
    with running_agent(subject) as agent:
        body = {"id": "t-1", "capability": "echo", "input": {"text": "hi"}}
        forged = agent.post("/v1/tasks", body, headers={"Klink-Lease": LEASE})
        link = link_of(agent)

    assert link["state"] == "off"
    assert forged.status == 403


def test_a_lease_of_anybody_else_is_refused(subject: Path, stub: StubOrchestrator) -> None:
    """Whoever may call the agent may not speak for the orchestrator; nor the orchestrator for more."""
    put_vault(subject, {"agent_token": OPERATOR})
    with running_agent(subject, env=linked(stub)) as agent:
        link_token = stub.wait_registered()["token"]
        statuses = {
            "operator": stub.push("t-1", LEASE, token=OPERATOR).status,
            "stranger": stub.push("t-1", LEASE, token=NOBODY).status,
            "no lease": stub.push("t-1", "short").status,
            "no hops": stub.push("t-1", LEASE, Klink_Hops="17").status,
            "link": stub.push("t-1", LEASE).status,
        }
        shown = {"Authorization": f"Bearer {link_token}"}
        seen = {
            path: agent.request(method, path, headers=shown).status
            for method, path in (
                ("GET", "/v1/tasks/t-1"),
                ("GET", "/status"),
                ("GET", "/metrics"),
                ("POST", "/v1/shutdown"),
                ("POST", "/v1/capabilities/echo"),
            )
        }

    assert statuses == {
        "operator": 403,
        "stranger": 401,
        "no lease": 400,
        "no hops": 400,
        "link": 202,
    }
    assert seen == {
        "/v1/tasks/t-1": 200,
        "/status": 200,
        "/metrics": 401,
        "/v1/shutdown": 401,
        "/v1/capabilities/echo": 401,
    }


def test_an_end_that_was_not_told_before_a_kill_is_told_by_the_next_host(
    subject: Path, stub: StubOrchestrator
) -> None:
    """Between the end and the report nothing is lost, and nothing runs twice.

    What had not begun begins if its lease is in force still, and not otherwise.
    """
    narrow = {**linked(stub), "AGENT_TASKS__MAX_CONCURRENCY": "1"}
    with begun_agent(subject, narrow) as agent:
        agent.wait_ready()
        first = stub.wait_registered()
        stub.is_deaf = True
        stub.push("done", LEASE, "nap", {"seconds": 0})
        stub.push("open", OTHER, "retried_wait_for", {"name": "go"})
        wait_until(lambda: agent.get("/v1/tasks/done").json()["state"] == "completed")
        wait_until(lambda: agent.get("/v1/tasks/open").json()["state"] == "working")
        stub.push("waits", LEASE, "nap", {"seconds": 0})
        stub.push("given-up", LEASE, "nap", {"seconds": 0})
        everything = [("done", LEASE), ("open", OTHER), ("waits", LEASE), ("given-up", LEASE)]
        stub.wait_held(*everything)
        before = agent.get("/v1/tasks/done").json()
        assert agent.stop(signal.SIGKILL) == -signal.SIGKILL
    assert not stub.results("done")
    stub.is_deaf = False
    stub.lost = [{"task": "given-up", "lease": LEASE}]
    with running_agent(subject, env=narrow) as agent:
        second = stub.wait_registered(2)
        report = stub.wait_result("done")
        touch(agent, "go")
        later = stub.wait_result("open")
        begun = stub.wait_result("waits")
        stub.wait_held()
        given_up = agent.get("/v1/tasks/given-up").json()

    assert (first["before"], second["before"]) == ([], [first["instance"]])
    assert second["instance"] != first["instance"]
    assert second["token"] != first["token"]
    held = {(one["task"], one["lease"]) for one in second["tasks"]}
    assert held == set(everything)
    assert (begun["payload"]["state"], begun["payload"]["attempt"]) == ("completed", 1)
    assert (given_up["state"], given_up["attempt"]) == ("canceled", 0)
    assert not stub.results("given-up")
    assert (report["lease"], report["payload"]) == (LEASE, before)
    assert (later["lease"], later["payload"]["output"]) == (OTHER, 2)


def test_a_new_lease_takes_over_and_a_lost_one_ends_the_task(
    subject: Path, stub: StubOrchestrator
) -> None:
    """What counts is the orchestrator's last word."""
    with running_agent(subject, env=linked(stub)) as agent:
        stub.wait_registered()
        stub.push("kept", LEASE, "wait_for", {"name": "kept"})
        assert stub.push("kept", OTHER, "wait_for", {"name": "kept"}).status == 202
        assert stub.push("kept", OTHER, "wait_for", {"name": "else"}).status == 409
        touch(agent, "kept")
        kept = stub.wait_result("kept")
        stub.push("kept", LEASE, "wait_for", {"name": "kept"})
        wait_until(lambda: stub.results("kept")[-1]["lease"] == LEASE)
        stub.push("lost", LEASE, "wait_for", {"name": "never"})
        stub.push("cancel", LEASE, "wait_for", {"name": "never"})
        stub.wait_held(("lost", LEASE), ("cancel", LEASE))
        stub.lost = [{"task": "lost", "lease": LEASE}]
        stub.cancel = [{"task": "cancel", "lease": LEASE}]
        canceled = stub.wait_result("cancel")
        wait_until(lambda: agent.get("/v1/tasks/lost").json()["state"] == "canceled")
        stub.wait_held()
        again = stub.push("lost", OTHER, "wait_for", {"name": "kept"})
        anew = stub.wait_result("lost")

    assert (kept["lease"], kept["payload"]["attempt"]) == (OTHER, 1)
    assert canceled["payload"]["state"] == "canceled"
    assert again.status == 202
    assert len(stub.results("lost")) == 1
    assert (anew["lease"], anew["payload"]["state"]) == (OTHER, "completed")


def test_a_reload_tells_of_other_capabilities_and_labels(
    subject: Path, stub: StubOrchestrator
) -> None:
    """The orchestrator must not offer what the agent no longer has; the link stays the same."""
    with running_agent(subject, env=linked(stub)) as agent:
        before = stub.wait_registered()
        (subject / "entrypoint.py").write_text(OTHER_CODE)
        (subject / "config.yaml").write_text("orchestrator: {labels: {zone: b}, required: true}\n")
        reload = agent.post("/v1/reload", timeout_s=60).json()
        # The labels may be told first, and the capabilities a moment later.
        wait_until(
            lambda: [one["name"] for one in stub.registrations[-1]["capabilities"]] == ["fresh"]
        )
        after = stub.registrations[-1]
        taken = stub.push("t-1", LEASE, "fresh", {})
        report = stub.wait_result("t-1")

    assert reload["last"]["needs_restart"] == ["orchestrator.required"]
    assert [one["name"] for one in after["capabilities"]] == ["fresh"]
    assert (after["labels"], after["instance"]) == ({"zone": "b"}, before["instance"])
    assert taken.status == 202
    assert report["payload"]["output"] == "fresh"


def test_an_agent_that_pulls_needs_no_way_in(subject: Path, stub: StubOrchestrator) -> None:
    """It stands behind a firewall."""
    stub.offers.append(
        (
            b'{"id": "t-1", "capability": "echo", "input": {"text": "hi"}}',
            {"Klink-Lease": LEASE, "Klink-Attempt": "1", "Klink-Hops": "0"},
        )
    )
    with running_agent(subject, env=linked(stub, AGENT_ORCHESTRATOR__DELIVERY="pull")):
        registration = stub.wait_registered()
        report = stub.wait_result("t-1")

    assert (registration["url"], registration["token"]) == (None, None)
    assert report["payload"]["output"] == "hi"


def test_an_orchestrator_that_is_away_keeps_an_agent_unready_only_if_it_is_required(
    subject: Path, stub: StubOrchestrator
) -> None:
    """Tasks that come directly are served all the same, and it recovers by itself."""
    stub.is_sick = True
    with running_agent(subject, env=linked(stub)) as agent:
        assert agent.get("/readyz").status == 200
        assert agent.call("echo", {"text": "hi"}) == "hi"
    env = linked(stub, AGENT_ORCHESTRATOR__REQUIRED="true")
    with begun_agent(subject, env) as agent:
        wait_until(lambda: b"link_down" in agent.get("/readyz").body)
        assert agent.call("echo", {"text": "hi"}) == "hi"
        stub.is_sick = False
        agent.wait_ready()
        assert stub.wait_registered()["status"]["ready"]
        stub.stop()
        wait_until(lambda: agent.get("/readyz").status == 503)
        stub.start()
        agent.wait_ready()


def test_the_token_follows_the_vault_and_stays_out_of_the_log(
    subject: Path,
) -> None:
    """Rotating it needs no restart."""
    put_vault(subject, {"orchestrator_token": TOKEN})
    with running_stub(TOKEN) as stub, running_agent(subject, env=linked(stub)) as agent:
        stub.wait_registered()
        stub.token = NEXT
        wait_until(lambda: link_of(agent)["state"] == "down")
        put_vault(subject, {"orchestrator_token": NEXT})
        wait_until(lambda: link_of(agent)["state"] == "up")
        log = agent.log_text
        status = json.dumps(agent.status())

    assert TOKEN not in log + status
    assert NEXT not in log + status


def test_a_dead_orchestrator_does_not_hold_up_the_shutdown(
    subject: Path, stub: StubOrchestrator
) -> None:
    """What it was not told is told by the next host."""
    with running_agent(subject, env=linked(stub)) as agent:
        stub.wait_registered()
        stub.is_deaf = True
        stub.push("t-1", LEASE)
        wait_until(lambda: agent.get("/v1/tasks/t-1").json()["state"] == "completed")
        stub.stop()
        assert agent.stop() == 0
    stub.is_deaf = False
    stub.start()
    with running_agent(subject, env=linked(stub)):
        report = stub.wait_result("t-1")

    assert report["lease"] == LEASE


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"AGENT_ORCHESTRATOR_TOKEN_FILE": "/nowhere"}, "AGENT_ORCHESTRATOR_TOKEN_FILE"),
        ({"AGENT_ORCHESTRATOR__TLS__CA": "no.pem"}, "orchestrator.tls.ca: no.pem"),
        ({"AGENT_SECRETS__EXPOSE": '["orchestrator_token"]'}, "secrets.expose"),
    ],
)
def test_a_link_that_cannot_be_is_told_at_the_start(
    subject: Path, env: dict[str, str], said: str
) -> None:
    """Not an hour later, when nobody looks any more."""
    put_vault(subject, {"orchestrator_token": TOKEN})
    url = {"AGENT_ORCHESTRATOR__URL": "http://127.0.0.1:9"}
    agent = start_agent(subject, env=url | env)

    assert agent.wait() == 78
    assert said in agent.log_text


def test_an_agent_that_listens_everywhere_gives_the_address_that_leads_to_it() -> None:
    """No orchestrator elsewhere can call 0.0.0.0."""
    assert reachable_url("http://0.0.0.0:81", "http://127.0.0.1:9") == "http://127.0.0.1:81"
