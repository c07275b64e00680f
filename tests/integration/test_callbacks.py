"""Callbacks of a real agent: whoever asked to be told is told, whatever happens in between."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from kagent_sdk import WebhookSignatureError, verify_webhook
from tests.agents import RunningAgent, running_agent
from tests.integration.receivers import RESET, Received, Receiver, Reply, running_receiver
from tests.integration.vaults import put_vault
from tests.integration.waiting import wait_until

SECRET = f"whsec_{base64.b64encode(b'k' * 32).decode()}"
OTHER = f"whsec_{base64.b64encode(b'o' * 24).decode()}"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Run a receiver."""
    with running_receiver() as running:
        yield running


@pytest.fixture
def folder(subject: Path) -> Path:
    """Give the agent's folder with a vault that has the secret."""
    put_vault(subject, {"webhook_secret": SECRET})
    return subject


def allowing(*urls: str, **more: str) -> dict[str, str]:
    """Return the environment of an agent whose callbacks may go there, tried again soon."""
    return {"AGENT_CALLBACKS__ALLOW": json.dumps(urls), "AGENT_CALLBACKS__RETRY_MAX_S": "1"} | more


def submit(
    agent: RunningAgent, url: str | None, capability: str = "echo", **envelope: Any
) -> dict[str, Any]:
    """Send a task and return it when it has ended."""
    envelope.setdefault("input", {"text": "hi"})
    answer = agent.post(
        "/v1/tasks", {"capability": capability, "callback_url": url, **envelope}, timeout_s=60
    )
    assert answer.status == 200, answer
    document = answer.json()
    assert isinstance(document, dict)
    return document


def read(request: Received, secret: str | list[str] = SECRET) -> dict[str, Any]:
    """Return what a request says, as a receiver would believe it."""
    event = verify_webhook(secret, request.headers, request.body, now_s=time.time())
    assert isinstance(event, dict)
    return event


def ids(requests: list[Received]) -> set[str]:
    """Return the ids of the messages that came."""
    return {request.headers["webhook-id"] for request in requests}


def wait_for_outbox(agent: RunningAgent, **wanted: object) -> dict[str, Any]:
    """Wait until the status tells this of the outbox, and return all that it tells."""
    found: dict[str, Any] = {}

    def is_so() -> bool:
        found.update(agent.status()["outbox"])
        return found | wanted == found

    wait_until(is_so)
    return found


def test_the_end_of_a_task_is_told_as_it_was_answered(folder: Path, receiver: Receiver) -> None:
    """The receiver needs no second request, and can tell who sends."""
    with running_agent(folder, env=allowing(f"{receiver.url}/kos")) as agent:
        done = submit(agent, f"{receiver.url}/kos/done?token=1", metadata={"who": "me"})
        failed = submit(agent, f"{receiver.url}/kos/failed", "fail", input={"kind": "task_error"})
        late = submit(
            agent, f"{receiver.url}/kos/late", "nap", input={"seconds": 60}, timeout_s=0.1
        )
        events = {
            name: read(receiver.wait_for(path)[0])
            for name, path in (
                ("done", "/kos/done?token=1"),
                ("failed", "/kos/failed"),
                ("late", "/kos/late"),
            )
        }
        assert wait_for_outbox(agent, pending=0)["delivered"] == 3
        read_later = agent.get(f"/v1/tasks/{done['id']}").json()
        log = agent.log_text

    assert events["done"] == {
        "type": "task.completed",
        "timestamp": done["finished_at"],
        "data": done,
    }
    assert done == read_later
    assert (events["failed"]["type"], events["failed"]["data"]) == ("task.failed", failed)
    assert (events["late"]["type"], events["late"]["data"]) == ("task.failed", late)
    assert "token=1" not in log


def test_a_canceled_task_is_told_too(folder: Path, receiver: Receiver) -> None:
    """Whoever waits must not wait for ever."""
    with running_agent(folder, env=allowing(receiver.url)) as agent:
        envelope = {"id": "t-1", "capability": "nap", "input": {"seconds": 60}}
        agent.post(
            "/v1/tasks",
            envelope | {"callback_url": f"{receiver.url}/x"},
            headers={"Prefer": "respond-async"},
        )
        agent.post("/v1/tasks/t-1/cancel")
        event = read(receiver.wait_for("/x")[0])

    assert event["type"] == "task.canceled"


def test_a_receiver_in_trouble_gets_the_same_message_again(
    folder: Path, receiver: Receiver
) -> None:
    """One id, signed anew each time, until it says 2xx; and not once more."""
    receiver.script(
        "/x", Reply(500), RESET, Reply(429, {"Retry-After": "1"}), Reply(raw=b"?"), Reply(200)
    )
    with running_agent(folder, env=allowing(receiver.url)) as agent:
        task = submit(agent, f"{receiver.url}/x")
        requests = receiver.wait_for("/x", 5)
        outbox = wait_for_outbox(agent, pending=0, delivered=1)
        failures = agent.logged("webhook_failed")
        metrics = agent.get("/metrics").body.decode()

    assert len(receiver.at("/x")) == 5
    assert len(ids(requests)) == 1
    assert all(read(request)["data"] == task for request in requests)
    assert (outbox["failed"], outbox["dropped"], outbox["oldest_s"]) == (4, 0, None)
    assert [record["attempt"] for record in failures] == [1, 2, 3, 4]
    assert failures[0]["reason"] == "HTTP 500"
    assert 'kagent_webhooks_total{outcome="delivered"} 1.0' in metrics


def test_a_receiver_that_is_gone_or_redirects_gets_no_more(
    folder: Path, receiver: Receiver
) -> None:
    """410 drops the message, with a trace; a redirect is never followed."""
    receiver.script("/gone", Reply(410))
    receiver.script("/moved", Reply(307, {"Location": f"{receiver.url}/elsewhere"}))
    with running_agent(folder, env=allowing(receiver.url)) as agent:
        submit(agent, f"{receiver.url}/gone")
        outbox = wait_for_outbox(agent, pending=0, dropped=1)
        submit(agent, f"{receiver.url}/moved")
        receiver.wait_for("/moved", 2)
        wait_for_outbox(agent, pending=0, delivered=1)

    assert "410" in outbox["last_drop"]
    assert len(receiver.at("/gone")) == 1
    assert receiver.at("/elsewhere") == []


def test_a_slow_receiver_holds_up_nobody_else(folder: Path, receiver: Receiver) -> None:
    """Not the other receivers, not the agent."""
    receiver.script("/slow", *[Reply(waits=True)] * 20)
    with (
        running_receiver() as other,
        running_agent(folder, env=allowing(receiver.url, other.url)) as agent,
    ):
        for _ in range(10):
            submit(agent, f"{receiver.url}/slow")
        receiver.wait_for("/slow", 4)
        for _ in range(10):
            submit(agent, f"{other.url}/quick")
        other.wait_for("/quick", 10)
        assert len(receiver.at("/slow")) == 4
        assert agent.status()["outbox"]["pending"] >= 10
        receiver.go.set()
        wait_for_outbox(agent, pending=0, delivered=20)


def test_a_receiver_that_was_down_gets_everything_when_it_is_back(
    folder: Path, receiver: Receiver
) -> None:
    """A deploy of the receiver loses no result, and no task waits for it."""
    with running_agent(folder, env=allowing(receiver.url)) as agent:
        submit(agent, f"{receiver.url}/0")
        receiver.wait_for("/0")
        receiver.stop()
        tasks = [submit(agent, f"{receiver.url}/{number}") for number in range(1, 9)]
        outbox = wait_for_outbox(agent, pending=8)
        wait_until(lambda: agent.status()["outbox"]["failed"] >= 2)
        receiver.start()
        events = [read(receiver.wait_for(f"/{number}")[0]) for number in range(1, 9)]
        wait_for_outbox(agent, pending=0, delivered=9)

    assert outbox["oldest_s"] is not None
    assert [event["data"] for event in events] == tasks


def test_a_host_that_is_killed_before_the_delivery_delivers_after_its_restart(
    folder: Path, receiver: Receiver
) -> None:
    """The result was answered, so its callback is owed: with the same id, for it may be the second."""
    receiver.script("/x", Reply(waits=True))
    env = allowing(receiver.url)
    with running_agent(folder, env=env, exit_code=None) as agent:
        task = submit(agent, f"{receiver.url}/x")
        receiver.wait_for("/x")
        agent.process.send_signal(signal.SIGKILL)
        assert agent.wait() == -signal.SIGKILL
        (folder / "runtime" / "host.json").unlink()
    assert len(receiver.at("/x")) == 1

    with running_agent(folder, env=env) as agent:
        requests = receiver.wait_for("/x", 2)
        wait_for_outbox(agent, pending=0, delivered=1)
        assert agent.get(f"/v1/tasks/{task['id']}").json() == task

    assert len(ids(requests)) == 1
    assert [read(request)["data"] for request in requests] == [task, task]


def test_a_task_that_a_killed_host_left_calls_back_from_the_next_one(
    folder: Path, receiver: Receiver
) -> None:
    """Its end comes from another process than its beginning; the URL is in the journal."""
    env = allowing(receiver.url)
    wanted = {"capability": "retried_wait_for", "input": {"name": "go"}, "id": "t-1"}
    with running_agent(folder, env=env, exit_code=None) as agent:
        answer = agent.post(
            "/v1/tasks",
            wanted | {"callback_url": f"{receiver.url}/x"},
            headers={"Prefer": "respond-async"},
        )
        assert answer.status == 202
        agent.process.send_signal(signal.SIGKILL)
        assert agent.wait() == -signal.SIGKILL
        (folder / "runtime" / "host.json").unlink()
    assert receiver.requests == []

    with running_agent(folder, env=env) as agent:
        (folder / "runtime" / "data" / "go").touch()
        event = read(receiver.wait_for("/x")[0])

    assert (event["type"], event["data"]["id"]) == ("task.completed", "t-1"), event


def test_a_new_secret_signs_from_the_next_delivery_on(folder: Path, receiver: Receiver) -> None:
    """Rotation: both sign while receivers change theirs, then the old one goes."""
    with running_agent(folder, env=allowing(receiver.url)) as agent:
        for number, secrets in enumerate(([SECRET, OTHER], OTHER), start=2):
            put_vault(folder, {"webhook_secret": secrets})
            agent.wait_logged("vault_reloaded", generation=number)
            submit(agent, f"{receiver.url}/{number}")
        both, last = receiver.wait_for("/2")[0], receiver.wait_for("/3")[0]

    assert read(both, SECRET) == read(both, OTHER)
    assert read(last, OTHER)
    with pytest.raises(WebhookSignatureError):
        read(last, SECRET)


def test_the_shutdown_lets_a_delivery_finish(folder: Path, receiver: Receiver) -> None:
    """What is under way need not come twice."""
    receiver.script("/x", Reply(200, waits=True))
    env = allowing(receiver.url)
    with running_agent(folder, env=env) as agent:
        submit(agent, f"{receiver.url}/x")
        receiver.wait_for("/x")
        agent.process.send_signal(signal.SIGTERM)
        agent.wait_logged("shutdown_started")
        receiver.go.set()
        assert agent.wait() == 0
        delivered = agent.logged("webhook_delivered")

    with running_agent(folder, env=env) as agent:
        assert agent.status()["outbox"]["pending"] == 0
    assert len(delivered) == len(receiver.at("/x")) == 1


def test_the_shutdown_does_not_wait_for_a_receiver_that_hangs(
    folder: Path, receiver: Receiver
) -> None:
    """The next host delivers; this one has a budget to keep."""
    receiver.script("/x", Reply(200, waits=True))
    env = allowing(receiver.url)
    with running_agent(folder, env=env) as agent:
        submit(agent, f"{receiver.url}/x")
        receiver.wait_for("/x")
        began = time.monotonic()
        assert agent.stop() == 0
        took_s = time.monotonic() - began
    with running_agent(folder, env=env) as agent:
        requests = receiver.wait_for("/x", 2)
        wait_for_outbox(agent, pending=0)

    assert took_s < 15
    assert len(ids(requests)) == 1


def test_the_same_id_keeps_its_first_callback(folder: Path, receiver: Receiver) -> None:
    """It is the same task: asking again does not redirect its result."""
    with running_agent(folder, env=allowing(receiver.url)) as agent:
        first = submit(agent, f"{receiver.url}/first", id="t-1")
        again = submit(agent, f"{receiver.url}/second", id="t-1")
        receiver.wait_for("/first")
        wait_for_outbox(agent, pending=0)
        # Also one that would be refused for a new task.
        other = submit(agent, "https://elsewhere.example/", id="t-1")

    assert first == again == other
    assert [request.path for request in receiver.requests] == ["/first"]


@pytest.mark.parametrize(
    ("env", "vault", "url", "message"),
    [
        ({}, {"webhook_secret": SECRET}, "https://a.example/x", "callbacks.allow of config.yaml"),
        (
            allowing("https://a.example"),
            {"webhook_secret": SECRET},
            "https://a.example.evil/x",
            "callbacks.allow in config.yaml",
        ),
        (
            allowing("https://a.example"),
            {},
            "https://a.example/x",
            "no key webhook_secret (callbacks.secret in config.yaml)",
        ),
        (
            allowing("https://a.example", AGENT_CALLBACKS__SECRET="hook.key"),  # noqa: S106 - a name
            {"hook": {"key": "hunter2"}},
            "https://a.example/x",
            "hook.key is unfit",
        ),
        (
            allowing("https://a.example"),
            {"webhook_secret": SECRET},
            "https://me@a.example/x",
            "must not hold a user name",
        ),
    ],
)
def test_a_callback_that_cannot_be_is_refused_before_the_task_runs(
    subject: Path, env: dict[str, str], vault: dict[str, Any], url: str, message: str
) -> None:
    """At the end of the task it would be too late to say so."""
    put_vault(subject, vault)
    with running_agent(subject, env=env) as agent:
        body = {"id": "t-1", "capability": "echo", "input": {"text": "a"}, "callback_url": url}
        answer = agent.post("/v1/tasks", body)
        known = agent.get("/v1/tasks/t-1")
        unknown = agent.post("/v1/tasks", body | {"capability": "ecco"})

    assert (answer.status, answer.json()["code"]) == (422, "invalid_request")
    assert message in answer.json()["detail"]
    assert "hunter2" not in answer.body.decode() + agent.log_text
    assert known.status == 404
    assert unknown.status in {404, 422}


def test_a_receiver_with_a_certificate_of_a_known_authority_is_trusted(
    folder: Path, tmp_path: Path
) -> None:
    """TLS as everywhere: the system's authorities, or those of SSL_CERT_FILE."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with running_receiver(context) as receiver:
        env = allowing(receiver.url, SSL_CERT_FILE=str(tmp_path / "ca.pem"))
        with running_agent(folder, env=env) as agent:
            task = submit(agent, f"{receiver.url}/x")
            event = read(receiver.wait_for("/x")[0])

    assert event["data"] == task


@pytest.mark.timeout(300)
def test_every_callback_arrives_through_any_number_of_kills(
    folder: Path, receiver: Receiver
) -> None:
    """The promise as a whole: what was answered is told, once or more, and never in two ways."""
    chance = random.Random(7)  # noqa: S311 - a load, no secret
    env = allowing(receiver.url)
    answered: dict[str, dict[str, Any]] = {}
    number = 0
    for _ in range(5):
        with running_agent(folder, env=env, exit_code=None) as agent:
            # Some tasks in, at any moment of the next one: on a slow machine too there are some.
            kill = threading.Timer(chance.uniform(0, 0.05), os.kill, (agent.pid, signal.SIGKILL))
            last = number + chance.randint(5, 25)
            while True:
                number += 1
                path = f"/{number}"
                receiver.script(path, *chance.choices([Reply(), Reply(503), RESET], k=2))
                if number == last:
                    kill.start()
                try:
                    answered[path] = submit(agent, receiver.url + path, id=f"t-{number}")
                except OSError:
                    break
            kill.join()
            assert agent.wait() == -signal.SIGKILL
            (folder / "runtime" / "host.json").unlink()
    with running_agent(folder, env=env) as agent:
        wait_for_outbox(agent, pending=0)

    by_path: defaultdict[str, list[Received]] = defaultdict(list)
    for request in receiver.requests:
        by_path[request.path].append(request)
    assert len(answered) > 20
    assert by_path.keys() >= answered.keys()
    for path, requests in by_path.items():
        assert len(ids(requests)) == 1
        assert len({request.body for request in requests}) == 1
        assert path not in answered or read(requests[-1])["data"] == answered[path]
