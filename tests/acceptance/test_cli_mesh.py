"""`kos-agent` with an orchestrator: the commands that an agent has, for a mesh of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.cli import Result, kos, show
from tests.agents import copy_example, running_agent
from tests.integration.mesh_processes import link_environment, prepare_orchestrator, running

EXIT_USAGE, EXIT_UNREACHABLE = 2, 3


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of an orchestrator with two replicas of the hello agent."""
    folder = tmp_path_factory.mktemp("mesh")
    with running(prepare_orchestrator(folder / "here")) as orchestrator, ExitStack() as stack:
        for delivery in ("push", "pull"):
            (folder / delivery).mkdir()
            agent = copy_example("hello", folder / delivery)
            stack.enter_context(
                running_agent(agent, env=link_environment(orchestrator.url, delivery))
            )
        orchestrator.wait_replicas(2)
        yield folder / "here"


def in_mesh(folder: Path, *words: str) -> Result:
    """Type a command in the folder of the mesh."""
    return kos(*words, cwd=folder)


def test_a_capability_is_called_through_the_orchestrator(mesh: Path) -> None:
    """As with one agent; the name of an agent before it chooses among several."""
    plain = in_mesh(mesh, "call", "greet", "name=Ada")
    named = in_mesh(mesh, "call", "hello/greet", "name=Ada")
    streamed = in_mesh(mesh, "call", "countdown", "start:=2", "--stream")

    assert (plain.code, plain.json()) == (0, {"text": "Hello, Ada!"}), plain
    assert (named.code, named.json()) == (0, {"text": "Hello, Ada!"}), named
    assert (streamed.code, streamed.out.split()) == (0, ["2", "1", "0"]), streamed


def test_a_wrong_call_is_explained(mesh: Path) -> None:
    """With what is expected, as it would be called here."""
    wrong = in_mesh(mesh, "call", "hello/greet", "name:=3")

    assert wrong.code == EXIT_USAGE, wrong
    assert "kos-agent call hello/greet name=NAME" in wrong.err, wrong


def test_tasks_of_the_mesh_are_listed_and_followed(mesh: Path) -> None:
    """Which agent had them stands beside them."""
    started = in_mesh(mesh, "call", "greet", "name=Ada", "--async", "--id", "mesh-1")
    watched = in_mesh(mesh, "tasks", "mesh-1", "--watch")
    listed = in_mesh(mesh, "tasks", "--limit", "5")

    assert (started.code, started.out) == (0, "mesh-1\n"), started
    assert watched.code == 0, watched
    assert "  agent       hello\n  state       completed\n" in watched.out
    assert listed.out.startswith("TASK"), listed
    assert "AGENT" in listed.out.splitlines()[0]


def test_the_mesh_is_shown_on_one_screen(mesh: Path) -> None:
    """On a terminal of the common size; the same for programs."""
    screen = show("status", "-C", mesh).out
    document = in_mesh(mesh, "status", "--json").json()

    assert "● ready" in screen, screen
    assert "2 of 2" in screen
    assert "pull" in screen
    assert document["kind"] == "orchestrator"
    assert [agent["name"] for agent in document["agents"]] == ["hello"]


def test_what_the_mesh_can_do_is_listed_with_who_does_it(mesh: Path) -> None:
    """Once for each capability, however many replicas there are."""
    listed = in_mesh(mesh, "capabilities")
    one = in_mesh(mesh, "capabilities", "hello/greet", "--json").json()

    assert listed.out.splitlines()[0].split()[:2] == ["CAPABILITY", "AGENTS"], listed
    assert sum(line.startswith("greet ") for line in listed.out.splitlines()) == 1
    assert one["agents"] == ["hello"]


def test_an_orchestrator_is_asked_for_its_health(mesh: Path) -> None:
    """By its folder and by its address."""
    note = json.loads((mesh / ".kos-mesh" / "orchestrator.json").read_text())

    assert in_mesh(mesh, "health", "--ready").out == "ready\n"
    assert kos("health", "--url", note["url"], "--json").json() == {"healthy": True, "reason": None}


def test_an_orchestrator_that_started_nobody_has_no_logs(mesh: Path) -> None:
    """The agents here were started by somebody else, who has them."""
    answer = in_mesh(mesh, "logs", "hello")

    assert answer.code != 0
    assert answer.err.startswith("error: "), answer


def test_an_orchestrator_that_is_gone_is_said_to_be_gone(tmp_path: Path) -> None:
    """Not that there is no agent: there never was one here."""
    (tmp_path / ".kos-mesh").mkdir()
    note = {"pid": 2**22 + 1, "url": "http://127.0.0.1:1"}
    (tmp_path / ".kos-mesh" / "orchestrator.json").write_text(json.dumps(note))
    answer = kos("status", cwd=tmp_path)

    assert answer.code == EXIT_UNREACHABLE
    assert "no orchestrator is running" in answer.err
