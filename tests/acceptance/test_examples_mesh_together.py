"""The example `mesh` as its README runs it: three agents in one command, and the same over NATS."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

import pytest

from kagent_sdk.cli import nats_session
from kagent_sdk.cli.boundary import UnreachableError
from kagent_sdk.cli.nats_calls import open_nats
from kagent_sdk.cli.target import Target
from kagent_sdk.link.nats.caller import NatsCaller, Submission
from kagent_sdk.link.nats.client import connect_caller
from kagent_sdk.link.nats.records import TaskRecord
from tests.acceptance.cli import Result, Terminal, kos
from tests.agents import REPOSITORY
from tests.integration.meshes import RunningMesh, ending, start_mesh
from tests.integration.nats_server import NatsServer
from tests.integration.waiting import wait_until

MESH = REPOSITORY / "examples" / "mesh"
TEXT = "The shop is down since noon. We lost two orders, and nobody answers the phone."
TICKET = json.dumps({"customer": "Ada", "text": "First. Second. Third. Fourth."})
REPLY = {
    "subject": "[high] Ada: We lost two orders, and nobody answers the phone.",
    "team": "platform",
    "words": 15,
}
POINTS = ["1. First.", "2. Second.", "3. Third."]
SLOW = {"text": "One. Two. Three. Four.", "pause_s": 1}
EXIT_USAGE = 2


@contextmanager
def up(folder: Path, file: str, replicas: dict[str, int]) -> Iterator[RunningMesh]:
    """Run `kos-agent up --mesh FILE`; nothing of it is left behind."""
    mesh = start_mesh(folder, arguments=("--mesh", folder / file), options={"cwd": folder.parent})
    with ending(mesh):
        wait_until(mesh.data.joinpath("orchestrator.json").exists, 60)
        for agent, count in replicas.items():
            mesh.wait_ready(agent, count)
        yield mesh


def copy_example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the example's folder."""
    folder = tmp_path_factory.mktemp("mesh") / "mesh"
    ignored = shutil.ignore_patterns("runtime", "logs", "__pycache__", ".kos-mesh")
    shutil.copytree(MESH, folder, ignore=ignored)
    return folder


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """The mesh with its own orchestrator."""
    folder = copy_example(tmp_path_factory)
    with up(folder, "mesh.yaml", {"desk": 1, "triage": 2, "digest": 1}) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server with JetStream."""
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def nats_mesh(
    tmp_path_factory: pytest.TempPathFactory, server: NatsServer
) -> Iterator[RunningMesh]:
    """The mesh over that server, two replicas of each."""
    folder = copy_example(tmp_path_factory)
    file = folder / "mesh-nats.yaml"
    file.write_text(file.read_text().replace("nats://127.0.0.1:4222", server.url))
    with up(folder, file.name, {"desk": 2, "triage": 2, "digest": 2}) as mesh:
        yield mesh


def in_folder(mesh: RunningMesh, *words: str) -> Result:
    """Type a command in the folder of a mesh."""
    return kos(*words, cwd=mesh.directory)


def call_all(mesh: RunningMesh) -> None:
    """Make the calls of the README."""
    handled = in_folder(mesh, "call", "desk/handle", "customer=Ada", f"text={TEXT}")
    streamed = in_folder(mesh, "call", "desk/read_aloud", f"ticket:={TICKET}", "--stream")

    assert (handled.code, handled.json()) == (0, REPLY), handled
    assert streamed.code == 0, streamed
    assert [json.loads(line) for line in streamed.out.splitlines()] == POINTS


def test_one_command_runs_three_agents_that_call_each_other(mesh: RunningMesh) -> None:
    """The calls of the README, and what each left behind: a task, logs, a place on the screen."""
    call_all(mesh)
    tasks = in_folder(mesh, "tasks", "--json").json()["tasks"]
    ended = Counter((task["agent"], task["capability"], task["state"]) for task in tasks)
    status = in_folder(mesh, "status", "--json").json()
    capabilities = in_folder(mesh, "capabilities", "--json").json()["capabilities"]
    log = in_folder(mesh, "logs", "desk", "--json")

    assert ended["desk", "handle", "completed"] == 1
    assert ended["triage", "triage", "completed"] == 1
    assert ended["digest", "digest", "completed"] == 1
    assert ended["desk", "read_aloud", "completed"] == 1
    # The desk leaves this stream early, which cancels it; the last point may have come before.
    assert ended["digest", "points", "canceled"] + ended["digest", "points", "completed"] == 1
    assert {one["name"]: len(one["replicas"]) for one in status["agents"]} == {
        "desk": 1,
        "triage": 2,
        "digest": 1,
    }
    assert {one["name"] for one in capabilities} == {
        *("handle", "read_aloud"),
        *("triage", "digest", "points"),
    }
    assert any(json.loads(line)["event"] == "worker_ready" for line in log.out.splitlines()), log


def test_the_same_commands_go_through_nats(nats_mesh: RunningMesh, server: NatsServer) -> None:
    """From the mesh's folder, and from anywhere with the server's address; agents call that way too."""
    call_all(nats_mesh)
    words = ("call", "handle", "customer=Ada", f"text={TEXT}", "--url", server.url)
    started = kos(*words, "--async", "--id", "again")
    same = kos(*words, "--id", "again")
    other = kos("call", "handle", "customer=Bob", "text=No.", "--id", "again", "--url", server.url)
    wrong = in_folder(nats_mesh, "call", "handle", "customer=Ada")
    listed = in_folder(nats_mesh, "capabilities", "--json").json()["capabilities"]
    through_http = nats_mesh.request("GET", "/v1/tasks").json()["tasks"]
    status = nats_mesh.request("GET", "/status").json()

    assert (started.code, started.out) == (0, "again\n"), started
    assert (same.code, same.json()) == (0, REPLY), same
    assert other.code == EXIT_USAGE, other
    assert "a task with another input" in other.err
    assert wrong.code == EXIT_USAGE, wrong
    assert "kos-agent call handle customer=CUSTOMER text=TEXT" in wrong.err
    assert [(one["agents"], one["name"]) for one in listed] == [
        (["desk"], "handle"),
        (["desk"], "read_aloud"),
        (["digest"], "digest"),
        (["digest"], "points"),
        (["triage"], "triage"),
    ]
    assert through_http == []
    assert status["fleet"]["link"] == server.url


def test_agents_and_tasks_are_looked_at_through_nats(
    nats_mesh: RunningMesh, server: NatsServer
) -> None:
    """Whoever has the server's address sees who is there and what became of a task, and can end one."""
    at_server = ("--url", server.url)
    kos("call", "triage/triage", "text=It is down.", "--id", "looked-at", *at_server)
    slow = ("digest/points", f"text={'Wait. ' * 100}", "pause_s:=5")
    kos("call", *slow, "--async", "--id", "ended", *at_server)
    canceled = kos("tasks", "--cancel", "ended", *at_server)
    waited = kos("tasks", "ended", "--watch", *at_server)
    status = kos("status", "--json", *at_server).json()
    screen = kos("status", *at_server)
    listed = kos("tasks", "--json", "--agent", "triage", *at_server).json()["tasks"]
    in_mesh = in_folder(nats_mesh, "tasks", "--json", "--limit", "1").json()["tasks"]
    shown = kos("tasks", "looked-at", "--json", *at_server).json()
    detail = kos("tasks", "looked-at", *at_server)
    unknown = kos("tasks", "nobody-has-sent-it", *at_server)
    logs = kos("logs", "desk", *at_server)

    agents = {one["name"]: one for one in status["agents"]}
    assert {name: len(one["replicas"]) for name, one in agents.items()} == {
        "desk": 2,
        "triage": 2,
        "digest": 2,
    }
    assert all(one["ready"] for agent in agents.values() for one in agent["replicas"])
    assert "6 of 6 replicas ready" in screen.out
    assert {one["agent"] for one in listed} == {"triage"}
    assert "looked-at" in [one["id"] for one in listed]
    assert in_mesh[0]["id"] == "ended"
    assert (shown["state"], shown["output"]["urgency"]) == ("completed", "high")
    assert "looked-at" in detail.out
    assert canceled.code == 0, canceled
    assert "canceled" in waited.out, waited
    assert waited.code == 1
    assert unknown.code == 1, unknown
    assert "there is no task nobody-has-sent-it" in unknown.err
    assert logs.code == EXIT_USAGE
    assert "go through NATS, and this does not" in logs.err


@pytest.mark.usefixtures("nats_mesh")
def test_a_call_through_nats_is_cancelled_by_ctrl_c(server: NatsServer) -> None:
    """Who stops waiting does not leave the work running."""
    words = [*("call", "digest/points", "text=One. Two. Three.", "pause_s:=5", "--stream")]
    with Terminal([*words, "--id", "left", "--url", server.url]) as terminal:
        terminal.read_until('"One."')
        terminal.interrupt()
        terminal.read_until("canceled task left")

    async def end() -> TaskRecord | None:
        async with connect_caller(server.url) as caller:
            return await caller.wait("digest", "left", 20)

    record = asyncio.run(end())
    assert record is not None
    assert record.state == "canceled"


async def test_a_killed_replica_loses_nothing(nats_mesh: RunningMesh, server: NatsServer) -> None:
    """Both replicas work; one dies with tasks in its hands, and each task ends all the same, once."""
    ids = [f"slow-{number}" for number in range(8)]
    victim = (await asyncio.to_thread(nats_mesh.wait_ready, "digest", 2))[0]["pid"]
    async with connect_caller(server.url) as caller:
        for task in ids:
            await caller.submit(Submission(task, "points", json.dumps(SLOW).encode(), "digest"))
        await asyncio.gather(*(_first_item(caller, task) for task in ids))
        working = [await caller.find("digest", task) for task in ids]
        os.kill(victim, signal.SIGKILL)
        ends = await asyncio.gather(*(caller.wait("digest", task, 60) for task in ids))
        documents = [await caller.document(end) for end in ends if end is not None]
    again = [document["id"] for document in documents if document["attempt"] > 1]
    told = await asyncio.to_thread(nats_mesh.told, "replica_waiting", agent="digest")

    assert len({record.instance for record in working if record is not None}) == 2
    assert again
    assert told[0]["reason"] == "was killed by signal 9"
    assert [(one["state"], len(one["output"])) for one in documents] == [("completed", 4)] * 8
    await asyncio.to_thread(nats_mesh.wait_ready, "digest", 2)


async def _first_item(caller: NatsCaller, task: str) -> None:
    """Return when the task has yielded something: from then on it is in the journal of its agent."""
    async with aclosing(caller.events("digest", task)) as events:
        async for event in events:
            if json.loads(event.payload)["event"] == "event":
                return


def test_a_server_that_is_not_there_is_said_to_be_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only that something failed: what to look at."""
    monkeypatch.setattr(nats_session, "CONNECT_S", 0.3)
    with (
        pytest.raises(UnreachableError, match=r"is nats://127\.0\.0\.1:1 the address of a NATS"),
        open_nats(Target("nats://127.0.0.1:1")),
    ):
        pass
