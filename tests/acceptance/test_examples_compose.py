"""The example `compose`: the file is one that engines take, and its agent runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from kagent_sdk.config import load_config
from tests.agents import REPOSITORY, copy_example, running_agent

FOLDER = REPOSITORY / "examples" / "compose"


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """The file as podman-compose understands it."""
    command = [sys.executable, "-m", "podman_compose", "-f", str(FOLDER / "compose.yaml"), "config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = yaml.safe_load(done.stdout)
    return document


def test_orchestrator_and_agent_share_a_bridge_network(project: dict[str, Any]) -> None:
    """Which is how they find each other: by the names of the services."""
    config = load_config(FOLDER / "my_agent", environ={})
    services = project["services"]

    assert project["networks"] == {"klp-mesh": {"driver": "bridge"}}
    assert set(services) == {"orchestrator", "my-agent"}
    assert all("klp-mesh" in service["networks"] for service in services.values())
    assert config.orchestrator.url == "http://orchestrator:8080"
    assert config.orchestrator.address == "http://my-agent:8080"


def test_the_agent_is_told_where_its_configuration_is(project: dict[str, Any]) -> None:
    """As people write it since the first release of kOS."""
    environment = project["services"]["my-agent"]["environment"]

    assert environment["AGENT_CONFIG"] == "/agent/config.yaml"


def test_tokens_are_secrets_and_in_no_environment(project: dict[str, Any]) -> None:
    """What `inspect` shows must open nothing."""
    for service in project["services"].values():
        files = [
            value
            for value in [*service.get("environment", {}).values(), *service.get("command", [])]
            if "token" in value
        ]
        named = {value.rpartition("/")[2] for value in files}

        assert named == set(service["secrets"])
        assert all("/run/secrets/" in value for value in files)
    assert {name: value["file"] for name, value in project["secrets"].items()} == {
        name: f"./secrets/{name}"
        for name in ("orchestrator_token", "operator_token", "agent_token")
    }


def test_nobody_is_root_or_writes_into_the_image(project: dict[str, Any]) -> None:
    """An example is copied: it must be as safe as what is generated."""
    for service in project["services"].values():
        assert service["user"] == "1000:1000"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert (service["mem_limit"], service["pids_limit"]) == ("512m", 160)
        assert service["healthcheck"]["test"][:3] == ["CMD", "kos-agent", "health"]
    assert project["services"]["orchestrator"]["ports"] == ["127.0.0.1:8080:8080"]
    assert "ports" not in project["services"]["my-agent"]


def test_the_dockerfile_has_three_lines() -> None:
    """That is all that an agent needs above the base image."""
    lines = (FOLDER / "my_agent" / "Dockerfile").read_text().splitlines()

    assert lines == [
        "FROM kos/agent-base",
        "COPY config.yaml entrypoint.py /agent/",
        "EXPOSE 8080",
    ]


def test_its_agent_runs_without_the_rest(tmp_path: Path) -> None:
    """It counts its greetings, so that a restart of the container can be seen to keep them."""
    folder = copy_example("compose", tmp_path) / "my_agent"
    with running_agent(folder, env={"AGENT_ORCHESTRATOR__URL": "null"}) as agent:
        answers = [agent.call("greet", {"name": name}) for name in ("Ada", "Bob")]

    assert answers == [{"text": "Hello, Ada!", "count": 1}, {"text": "Hello, Bob!", "count": 2}]
