"""The agents of the example `mesh`, each by itself; together they are the mesh's own tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from kagent_sdk.config import load_config
from tests.agents import REPOSITORY, RunningAgent, running_agent

MESH = REPOSITORY / "examples" / "mesh"
TEXT = "The shop is down since noon. We lost two orders, and nobody answers the phone."


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RunningAgent]]:
    """All three, none of which knows of the others."""
    folder = tmp_path_factory.mktemp("mesh") / "mesh"
    shutil.copytree(MESH, folder, ignore=shutil.ignore_patterns("runtime", "logs", "__pycache__"))
    with (
        running_agent(folder / "desk") as desk,
        running_agent(folder / "triage") as triage,
        running_agent(folder / "digest") as digest,
    ):
        yield {"desk": desk, "triage": triage, "digest": digest}


def test_the_mesh_names_the_folders_of_its_agents() -> None:
    """`kos-agent up --mesh` starts what the file says."""
    mesh = yaml.safe_load((MESH / "mesh.yaml").read_text())
    names = {
        name: load_config(MESH / each["path"], environ={}).name
        for name, each in mesh["agents"].items()
    }

    assert list(mesh) == ["agents"]
    assert names == {"desk": "desk", "triage": "triage", "digest": "digest"}


def test_triage_judges_by_words(agents: dict[str, RunningAgent]) -> None:
    """What `desk` gets from it."""
    assert agents["triage"].call("triage", {"text": TEXT}) == {
        "urgency": "high",
        "team": "platform",
        "because": ["down", "lost"],
    }
    assert agents["triage"].call("triage", {"text": "A refund, please."})["team"] == "billing"
    assert agents["triage"].call("triage", {"text": "Hello."})["urgency"] == "normal"


def test_digest_shortens_and_streams(agents: dict[str, RunningAgent]) -> None:
    """Both of its capabilities, as `desk` uses them."""
    digest = agents["digest"].call("digest", {"text": TEXT})
    points = agents["digest"].call("points", {"text": "One. Two!", "pause_s": 0})

    assert digest == {
        "summary": "We lost two orders, and nobody answers the phone.",
        "words": 15,
    }
    assert points == [{"number": 1, "text": "One."}, {"number": 2, "text": "Two!"}]


@pytest.mark.parametrize("capability", ["handle", "read_aloud"])
def test_desk_alone_says_what_it_lacks(agents: dict[str, RunningAgent], capability: str) -> None:
    """The first thing that happens to whoever runs it without the others."""
    ticket = {"customer": "Ada", "text": TEXT}
    body = {"ticket": ticket} if capability == "read_aloud" else ticket
    answer = agents["desk"].post(f"/v1/capabilities/{capability}", body)

    assert (answer.status, answer.json()["code"]) == (503, "unreachable")
    assert "set orchestrator.url in config.yaml" in answer.json()["detail"]


def test_desk_declares_what_the_readme_calls(agents: dict[str, RunningAgent]) -> None:
    """By these names the others and the orchestrator find it."""
    names = [each["name"] for each in agents["desk"].get("/v1/capabilities").json()["capabilities"]]

    assert names == ["handle", "read_aloud"]
    assert Path(MESH / "README.md").read_text().count("desk/") >= len(names)
