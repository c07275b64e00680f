"""An agent's code calls capabilities of the agent itself: the same way as those of others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kagent_sdk.protocol.link import MAX_HOPS
from tests.agents import RunningAgent, running_agent
from tests.integration.conftest import copy_relay
from tests.integration.waiting import wait_until


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    """One agent for all tests here: each leaves it as it was, but for its marks."""
    # A task that waits for a call keeps its place: a chain of calls takes as many.
    env = {"AGENT_TASKS__MAX_CONCURRENCY": "64"}
    with running_agent(copy_relay(tmp_path_factory.mktemp("calls")), env=env) as running:
        yield running


@pytest.fixture
def agent(shared: RunningAgent) -> RunningAgent:
    """Return the agent without the marks of the test before."""
    marks_of(shared).unlink(missing_ok=True)
    return shared


def marks_of(agent: RunningAgent) -> Path:
    """Return the file that the agent's code leaves its marks in."""
    return agent.directory / "runtime" / "data" / "marks"


def marks(agent: RunningAgent) -> list[str]:
    """Return the marks that it has left."""
    path = marks_of(agent)
    return path.read_text().splitlines() if path.exists() else []


def failure_of(agent: RunningAgent, capability: str, input: object) -> tuple[int, str, str]:
    """Call what fails; return status, code and message."""
    answer = agent.post(f"/v1/capabilities/{capability}", input)
    problem = answer.json()
    return answer.status, problem["code"], problem["detail"]


def is_idle(agent: RunningAgent) -> bool:
    """Tell whether no task is open."""
    tasks = agent.status()["tasks"]
    return (tasks["working"], tasks["queued"]) == (0, 0)


def test_a_call_takes_and_gives_models(agent: RunningAgent) -> None:
    """With agent and capability, with the capability alone, and in two words."""
    assert agent.call("buy", {"day": "2026-02-03"}) == {
        "typed": "datetime.date(2026, 2, 3)",
        "is_same": True,
        "plain": {"day": "2026-02-03", "total": 0.5},
    }


def test_sync_functions_call_and_stream(agent: RunningAgent) -> None:
    """Their threads wait, the event loop does not."""
    assert agent.call("buy_in_thread", {"day": "2026-02-03"}) == 0.5 + 10


def test_loops_call_too(agent: RunningAgent) -> None:
    """Most work of an agent that watches something begins in a loop."""
    wait_until(lambda: "2026-01-01" in agent.call("sweeps"))


@pytest.mark.parametrize("capability", ["misread", "misread_items"])
def test_what_does_not_fit_is_an_error_of_the_call(agent: RunningAgent, capability: str) -> None:
    """An agent that was updated may answer in another shape: that is no crash of this one."""
    status, code, message = failure_of(agent, capability, {})

    assert (status, code) == (502, "invalid_output")
    assert "gave does not fit" in message
    wait_until(lambda: is_idle(agent))


def test_items_come_in_order_and_all_of_them(agent: RunningAgent) -> None:
    """Thousands, far over the window of those that may be under way."""
    count = 5000

    assert agent.call("total", {"count": count}) == count * (count - 1) // 2


def test_large_items_wait_for_a_slow_reader(agent: RunningAgent) -> None:
    """As many as the window would take by number are more than the other agent keeps of a task."""
    count = 200
    query = {"count": count, "size": 100_000, "pause_s": 0.001}

    assert agent.call("total", query) == count * (count - 1) // 2


def test_a_slow_reader_slows_the_other_task_down(agent: RunningAgent) -> None:
    """Nobody keeps what is not read: neither the host nor the worker may grow with it."""
    caller = threading.Thread(
        target=agent.request,
        args=("POST", "/v1/tasks"),
        kwargs={
            "body": {
                "id": "slow",
                "capability": "total",
                "input": {"count": 100_000, "pause_s": 0.01},
            }
        },
    )
    caller.start()
    wait_until(lambda: agent.get("/v1/tasks/slow").status == 200)
    threading.Event().wait(1)
    agent.post("/v1/tasks/slow/cancel")
    caller.join(20)
    wait_until(lambda: is_idle(agent) and len(marks(agent)) == 2)
    left, yielded = marks(agent)

    assert left.startswith("left by")
    # The windows of the stream and of the call, and what was read within a second.
    assert int(yielded.split()[1]) < 2000


@pytest.mark.parametrize(
    ("capability", "input", "output"),
    [("total", {"count": 100_000, "stop_at": 3}, 6), ("peek", {}, [0])],
    ids=["by a break", "by its context manager"],
)
def test_leaving_a_stream_cancels_the_other_task(
    agent: RunningAgent, capability: str, input: object, output: object
) -> None:
    """Whoever has what it wants need not pay for the rest."""
    assert agent.call(capability, input) == output
    wait_until(lambda: is_idle(agent) and len(marks(agent)) == 2)
    assert marks(agent)[0].startswith("left by")


@pytest.mark.parametrize("capability", ["relay_nap", "relay_nap_in_thread"])
def test_cancelling_a_task_cancels_what_it_has_called(agent: RunningAgent, capability: str) -> None:
    """A chain of agents that works on for nobody costs as much as one that does."""
    task = {"id": capability, "capability": capability, "input": {"seconds": 60}}
    agent.post("/v1/tasks", task, headers={"Prefer": "respond-async"})
    wait_until(lambda: marks(agent) == ["asleep"])
    agent.post(f"/v1/tasks/{capability}/cancel")
    wait_until(lambda: marks(agent) == ["asleep", "woken"])
    wait_until(lambda: is_idle(agent))

    assert agent.get(f"/v1/tasks/{capability}").json()["state"] == "canceled"


def test_giving_up_a_call_cancels_it(agent: RunningAgent) -> None:
    """`asyncio.wait_for` is how authors give up."""
    assert agent.call("nap_first") == "gave up"
    wait_until(lambda: marks(agent) == ["asleep", "woken"] and is_idle(agent))


def test_a_call_has_its_own_time_limit(agent: RunningAgent) -> None:
    """The caller goes on with what it knows about it."""
    status, code, message = failure_of(agent, "relay_nap", {"seconds": 60, "timeout_s": 2})

    assert (status, code, message) == (504, "timeout", "not finished within 2 s")
    wait_until(lambda: marks(agent) == ["asleep", "woken"])


def test_a_call_never_has_more_time_than_its_caller(agent: RunningAgent) -> None:
    """Whatever it asks for: nobody would hear its answer."""
    task = {
        "capability": "relay_nap",
        "input": {"seconds": 60, "timeout_s": 600},
        "timeout_s": 2,
    }
    document = agent.post("/v1/tasks", task).json()

    assert (document["state"], document["error"]["code"]) == ("failed", "timeout")
    wait_until(lambda: marks(agent) == ["asleep", "woken"] and is_idle(agent))


def test_a_circle_of_calls_ends(agent: RunningAgent) -> None:
    """Two agents that ask each other would fill both for ever."""
    status, code, message = failure_of(agent, "descend", {"depth": MAX_HOPS + 1})

    assert agent.call("descend", {"depth": MAX_HOPS}) == MAX_HOPS
    assert (status, code) == (508, "too_many_hops")
    assert "in a circle?" in message


def test_a_call_for_its_effect_alone_outlives_its_task(agent: RunningAgent) -> None:
    """The end of the task comes in the same breath as the call."""
    agent.call("send_off", {"text": "and forget"})
    wait_until(lambda: marks(agent) == ["noted and forget"])


def test_an_id_makes_a_call_happen_once(agent: RunningAgent) -> None:
    """Another attempt of the caller must not order twice."""
    task = agent.post("/v1/tasks", {"id": "o-1", "capability": "once", "input": {"token": "t"}})

    assert task.json()["output"] == ["o-1:note", "o-1:note", "id_conflict", 409]
    assert marks(agent) == ["noted t"]


@pytest.mark.parametrize(
    ("input", "status", "code", "message"),
    [
        (
            {"target": "other/price"},
            503,
            "unreachable",
            "agent 'other' cannot be reached: there is ",
        ),
        ({"target": "unheard"}, 503, "unreachable", "there is no capability 'unheard' here, and "),
        (
            {"target": "price", "labels": {"zone": "a"}},
            503,
            "unreachable",
            "agents with labels are ",
        ),
        ({"target": "relay/pric"}, 404, "unknown_capability", "did you mean"),
    ],
)
def test_what_is_not_here_needs_a_link(
    agent: RunningAgent, input: object, status: int, code: str, message: str
) -> None:
    """The message names the key to set."""
    found = failure_of(agent, "elsewhere", input)

    assert found[:2] == (status, code)
    assert message in found[2]
    assert ("set orchestrator.url in config.yaml" in found[2]) is (code == "unreachable")


def test_the_trace_goes_along(agent: RunningAgent) -> None:
    """One trace over all agents; each call is a span of its own."""
    sent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = agent.post("/v1/capabilities/trace", {}, headers={"traceparent": sent})
    outer, inner = answer.json()

    assert outer == sent
    assert inner.split("-")[:2] == sent.split("-")[:2]
    assert inner.split("-")[2] != sent.split("-")[2]


def test_many_streams_at_the_same_time(agent: RunningAgent) -> None:
    """They share a socket, and none waits for another one."""
    assert agent.call("many", {"count": 40}) == 40 * 39 // 2
