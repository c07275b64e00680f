"""Tasks over HTTP, as callers in any language use them."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from tests.agents import RunningAgent, running_agent
from tests.integration.conftest import SUBJECT
from tests.integration.restarts import let_go
from tests.integration.waiting import wait_until


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    """One agent for all tests here that leave it as it was."""
    folder = tmp_path_factory.mktemp("tasks") / "subject"
    shutil.copytree(SUBJECT, folder)
    env = {"AGENT_TASKS__CANCEL_GRACE_S": "0.5"}
    with running_agent(folder, env=env) as running:
        yield running


def test_a_plain_call_answers_with_the_output_alone(agent: RunningAgent) -> None:
    """The route for curl: input in, output out."""
    answer = agent.post("/v1/capabilities/echo", {"text": "hé"})

    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == "hé"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"\xff", 400, "invalid_json"),
        (b'{"text": 1}', 422, "invalid_input"),
        (b"{}", 422, "invalid_input"),
        (b"[" * 100_000, 400, "invalid_json"),
    ],
)
def test_input_that_does_not_fit_is_refused_with_a_problem(
    agent: RunningAgent, body: bytes, status: int, code: str
) -> None:
    """The caller learns what is wrong and where."""
    answer = agent.post("/v1/capabilities/echo", body)

    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == code
    if code == "invalid_input":
        details = answer.json()["error"]["details"]
        assert details[0]["loc"] == ["text"]
        assert set(details[0]) == {"loc", "msg", "type"}


def test_an_unknown_capability_names_the_nearest(agent: RunningAgent) -> None:
    """A typo costs a second, not a search."""
    answer = agent.post("/v1/capabilities/ecco", {})

    assert answer.status == 404
    assert answer.json()["nearest"][0] == "echo"


def test_a_task_is_a_document_with_every_member(agent: RunningAgent) -> None:
    """The contract that orchestrators are written against."""
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    answer = agent.post(
        "/v1/tasks",
        {"capability": "nap", "input": {"seconds": 0}, "metadata": {"who": "me"}},
        headers={"traceparent": traceparent},
    )

    task = answer.json()
    assert answer.status == 200
    assert set(task) == {
        "id",
        "capability",
        "state",
        "output",
        "error",
        "progress",
        "attempt",
        "created_at",
        "started_at",
        "finished_at",
        "trace_id",
        "metadata",
    }
    assert (task["state"], task["output"], task["attempt"]) == ("completed", 1, 1)
    assert task["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert task["metadata"] == {"who": "me"}
    assert task["progress"] == {"fraction": 0.25, "message": "asleep"}
    assert agent.get(f"/v1/tasks/{task['id']}").json() == task


def test_an_async_request_is_acknowledged_and_found_later(agent: RunningAgent) -> None:
    """`Prefer: respond-async` is for callers that do not want to hold a connection."""
    answer = agent.post(
        "/v1/tasks",
        {"capability": "nap", "input": {"seconds": 0.3}},
        headers={"Prefer": "respond-async"},
    )
    location = answer.headers["Location"]

    assert answer.status == 202
    assert answer.json()["state"] in ("submitted", "working")
    assert agent.get(location).json()["state"] == "working"
    assert agent.get(f"{location}?wait_s=10").json()["state"] == "completed"
    assert location.rsplit("/", 1)[1] in [t["id"] for t in agent.get("/v1/tasks").json()["tasks"]]


def test_the_same_id_is_the_same_task(agent: RunningAgent) -> None:
    """A caller that lost an answer may ask again without doing the work twice."""
    body = {"id": "once", "capability": "thread_nap", "input": {"seconds": 0}}
    first = agent.post("/v1/tasks", body).json()
    again = agent.post("/v1/tasks", body).json()
    other = agent.post("/v1/tasks", {**body, "input": {"seconds": 0.1}})
    fast = agent.post(
        "/v1/capabilities/thread_nap", {"seconds": 0}, headers={"Idempotency-Key": "once"}
    )

    assert again == first
    assert other.status == 409
    assert other.json()["code"] == "id_conflict"
    assert fast.json() == first["output"]


def test_a_failed_task_says_why_and_nothing_more(agent: RunningAgent) -> None:
    """An author's error reaches the caller; a traceback stays in the log."""
    own = agent.post("/v1/capabilities/fail", {"kind": "task_error"})
    internal = agent.post("/v1/tasks", {"capability": "fail", "input": {"kind": "bug"}}).json()
    exit_ = agent.post("/v1/capabilities/fail", {"kind": "exit"})

    assert own.status == 429
    assert own.json()["error"] == {
        "code": "quota",
        "message": "no more today",
        "retryable": False,
        "details": {"left": 0},
    }
    assert internal["state"] == "failed"
    assert internal["error"]["code"] == "internal_error"
    assert internal["error"]["message"] == "RuntimeError: boom at /secret/path"
    assert exit_.status == 500
    assert "Traceback" not in json.dumps([own.json(), internal, exit_.json()])
    wait_until(lambda: "RuntimeError: boom at /secret/path" in agent.log_text)
    assert "in fail" in agent.log_text


def test_a_stream_sends_items_as_they_come_and_the_task_last(agent: RunningAgent) -> None:
    """Server-sent events: any client can follow a task."""
    events = list(agent.stream("count", {"n": 3}))

    assert [event.data for event in events if event.name == "event"] == [0, 1, 2]
    assert [event.name for event in events if event.name != "event"] == ["state", "state", "task"]
    assert events[-1].data["state"] == "completed"
    assert [int(event.id or 0) for event in events] == list(range(1, 7))


def test_an_event_that_no_reader_could_parse_fails_its_task_alone(agent: RunningAgent) -> None:
    """What nests too deeply is no JSON for most readers; the other tasks do not suffer for it."""
    worker = agent.worker_pids
    task = agent.post("/v1/tasks", {"capability": "nest", "input": {"depth": 230}}).json()

    assert (task["state"], task["error"]["code"]) == ("failed", "invalid_output")
    assert agent.call("nest", {"depth": 2}) == [[[None]]]
    assert agent.worker_pids == worker


def test_a_stream_can_be_replayed_from_where_the_client_was(agent: RunningAgent) -> None:
    """A dropped connection loses nothing."""
    task = agent.post("/v1/tasks", {"capability": "count", "input": {"n": 5}}).json()
    answer = agent.get(f"/v1/tasks/{task['id']}/events", headers={"Last-Event-ID": "5"})

    assert task["output"] == [0, 1, 2, 3, 4]
    ids = [line for line in answer.body.decode().splitlines() if line.startswith("id:")]
    assert ids == ["id: 6", "id: 7", "id: 8"]


def test_a_task_can_be_followed_although_it_does_not_stream(agent: RunningAgent) -> None:
    """Progress is worth following for any capability."""
    headers = {"Accept": "text/event-stream"}
    body = {"capability": "nap", "input": {"seconds": 0.1}}
    answer = agent.post("/v1/tasks", body, headers=headers)

    text = answer.body.decode()
    assert 'event: progress\ndata: {"fraction": 0.25, "message": "asleep"}' in text
    assert "event: task" in text


def test_a_slow_reader_paces_the_worker_and_not_the_hosts_memory(agent: RunningAgent) -> None:
    """A client that stops reading a fast stream cannot grow the host."""
    host = psutil.Process(agent.pid)
    before = host.memory_info().rss
    stream = agent.stream("count", {"n": 400, "size": 256 * 1024})
    first = next(stream)
    time.sleep(1)  # the time in which an unbounded host would take in 100 MiB
    grown = host.memory_info().rss - before
    stream.close()

    assert first.name == "state"
    assert grown < 40 * 1024 * 1024


def test_cancel_ends_an_async_task_at_once(agent: RunningAgent) -> None:
    """Cooperative code is asked, and goes."""
    task = _start(agent, "nap", {"seconds": 60})
    answer = agent.post(f"/v1/tasks/{task}/cancel")
    done = agent.get(f"/v1/tasks/{task}?wait_s=10").json()

    assert answer.status == 202
    assert done["state"] == "canceled"
    assert done["error"]["code"] == "canceled"
    assert agent.post(f"/v1/tasks/{task}/cancel").status == 200


def test_cancel_interrupts_sync_code_that_does_not_look(agent: RunningAgent) -> None:
    """A thread that ignores its cancellation gets an exception, and the worker lives on."""
    worker = agent.worker_pids
    task = _start(agent, "patient_loop", {"seconds": 60})
    agent.post(f"/v1/tasks/{task}/cancel")
    done = agent.get(f"/v1/tasks/{task}?wait_s=10").json()

    assert done["state"] == "canceled"
    assert agent.worker_pids == worker


def test_what_ignores_everything_takes_the_worker_with_it(subject: Path) -> None:
    """The last step of the ladder is sure; idempotent tasks beside it run again."""
    with running_agent(subject, env={"AGENT_TASKS__CANCEL_GRACE_S": "0.5"}) as agent:
        worker = agent.worker_pids
        beside = _start(agent, "retried_wait_for", {"name": "go"})
        alone = _start(agent, "nap", {"seconds": 30})
        task = _start(agent, "stubborn", {"seconds": 60})
        agent.post(f"/v1/tasks/{task}/cancel")
        done = agent.get(f"/v1/tasks/{task}?wait_s=20").json()

        let_go(agent, "go")
        assert done["state"] == "canceled"
        assert agent.get(f"/v1/tasks/{beside}?wait_s=30").json()["output"] == 2
        failed = agent.get(f"/v1/tasks/{alone}?wait_s=20").json()
        assert (failed["state"], failed["error"]["code"]) == ("failed", "worker_crashed")
        assert "cancellation_ignored" in failed["error"]["message"]
        agent.wait_ready()
        assert agent.worker_pids != worker


def test_a_deadline_answers_on_time_whatever_the_code_does(agent: RunningAgent) -> None:
    """`timeout_s` is a promise to the caller."""
    began = time.monotonic()
    body = {"capability": "patient_loop", "input": {"seconds": 60}, "timeout_s": 0.3}
    task = agent.post("/v1/tasks", body).json()

    assert time.monotonic() - began < 30
    assert (task["state"], task["error"]["code"]) == ("failed", "timeout")
    assert task["error"]["retryable"] is True


def test_a_caller_that_leaves_cancels_its_task(agent: RunningAgent) -> None:
    """Nobody waits for the answer: the place is for others."""
    canceled = agent.status()["tasks"]["canceled"]
    _leave(agent, "nap", b'{"seconds": 60}')

    wait_until(lambda: agent.status()["tasks"]["canceled"] == canceled + 1)


def test_a_detached_task_goes_on_without_its_caller(agent: RunningAgent) -> None:
    """`on_disconnect="detach"` is for work that must be done anyway."""
    completed = agent.status()["tasks"]["completed"]
    _leave(agent, "detached_nap", b'{"seconds": 0.5}')

    wait_until(lambda: agent.status()["tasks"]["completed"] == completed + 1)


def test_a_capabilitys_own_limit_holds_and_nobody_else_waits(agent: RunningAgent) -> None:
    """One slow capability cannot take all places."""
    answers: list[float] = []

    def call() -> None:
        answers.append(agent.call("single_nap", {"seconds": 0.3}))

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert agent.call("echo", {"text": "quick"}) == "quick"
    for thread in threads:
        thread.join()

    began = sorted(answers)
    assert all(later - earlier >= 0.3 for earlier, later in pairwise(began))


def test_an_agent_calls_its_own_capabilities(agent: RunningAgent) -> None:
    """`ctx.call` reaches this agent without a link."""
    assert agent.call("call_self", {"text": "me"}) == "heard me"


def test_a_full_queue_is_429_with_a_time_to_come_back(subject: Path) -> None:
    """The agent says no in time, instead of holding what it cannot do."""
    env = {"AGENT_TASKS__MAX_CONCURRENCY": "1", "AGENT_TASKS__MAX_QUEUE": "1"}
    with running_agent(subject, env=env) as agent:
        for _ in range(2):
            _start(agent, "nap", {"seconds": 1})
        answer = agent.post("/v1/capabilities/echo", {"text": "x"})

        assert answer.status == 429
        assert int(answer.headers["Retry-After"]) >= 1
        ready = agent.get("/readyz")
        assert (ready.status, ready.json()["status"]) == (503, "full")


def test_results_are_forgotten_within_the_bounds(subject: Path) -> None:
    """`tasks.retention_*` bounds what the host holds."""
    with running_agent(subject, env={"AGENT_TASKS__RETENTION_COUNT": "3"}) as agent:
        body = {"capability": "echo", "input": {"text": "x"}}
        ids = [agent.post("/v1/tasks", body).json()["id"] for _ in range(5)]

        assert agent.get(f"/v1/tasks/{ids[0]}").status == 404
        assert [task["id"] for task in agent.get("/v1/tasks").json()["tasks"]] == ids[:1:-1]


def test_tasks_are_listed_by_state_and_page(agent: RunningAgent) -> None:
    """A person looks for the failed ones among thousands."""
    for _ in range(3):
        agent.post("/v1/tasks", {"capability": "fail", "input": {"kind": "task_error"}})
    page = agent.get("/v1/tasks?state=failed&capability=fail&limit=2").json()
    rest = agent.get(f"/v1/tasks?state=failed&capability=fail&after={page['next']}").json()

    assert len(page["tasks"]) == 2
    assert all("output" not in task and task["state"] == "failed" for task in page["tasks"])
    assert len(rest["tasks"]) >= 1
    assert not {t["id"] for t in page["tasks"]} & {t["id"] for t in rest["tasks"]}
    assert agent.get("/v1/tasks?state=nonsense").status == 400
    assert agent.get("/v1/tasks?limt=2").json()["nearest"] == ["limit"]


def test_a_large_body_is_refused_before_it_is_read(subject: Path) -> None:
    """`http.max_body_bytes` bounds what one request can cost."""
    with running_agent(subject, env={"AGENT_HTTP__MAX_BODY_BYTES": "2000"}) as agent:
        assert agent.post("/v1/capabilities/echo", {"text": "x" * 1000}).status == 200
        assert agent.post("/v1/capabilities/echo", {"text": "x" * 3000}).status == 413


def test_an_output_over_the_limit_fails_its_task(subject: Path) -> None:
    """One output cannot fill the host."""
    with running_agent(subject, env={"AGENT_TASKS__MAX_OUTPUT_BYTES": "2000"}) as agent:
        assert agent.call("big", {"size": 1000})
        answer = agent.post("/v1/capabilities/big", {"size": 3000})

        assert (answer.status, answer.json()["code"]) == (500, "output_too_large")


def _start(agent: RunningAgent, capability: str, input: object) -> str:
    body = {"capability": capability, "input": input}
    answer = agent.post("/v1/tasks", body, headers={"Prefer": "respond-async"})
    assert answer.status == 202, answer
    task_id = answer.json()["id"]
    assert isinstance(task_id, str)
    return task_id


def _leave(agent: RunningAgent, capability: str, body: bytes) -> None:
    """Send a call and close the connection once the task runs."""
    address = urlsplit(agent.url)
    working = agent.status()["tasks"]["working"]
    with socket.create_connection((address.hostname, address.port)) as client:
        head = f"POST /v1/capabilities/{capability} HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
        client.sendall(head.encode() + f"{len(body)}\r\n\r\n".encode() + body)
        wait_until(lambda: agent.status()["tasks"]["working"] == working + 1)
