"""The example `compose` under podman-compose: an orchestrator and an agent, found by their names."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.agents import REPOSITORY, Answer, copy_example
from tests.images.podman import Container, Podman, run_command
from tests.images.sites import run_compose
from tests.integration.meshes import send
from tests.integration.waiting import wait_until

EXAMPLE = REPOSITORY / "examples" / "compose"

MACHINE = """\
services:
  orchestrator: {{image: {base}, ports: !override ["127.0.0.1::8080"]}}
  my-agent: {{image: {image}}}
"""
"""What is another's here: images without a registry, and a free port."""

LOOK = "id -u; ls -l /run/secrets; grep ' / ' /proc/self/mounts"


@dataclass(frozen=True, slots=True)
class Classic:
    """The example, running; its services, and where the orchestrator is shown."""

    podman: Podman
    folder: Path
    name: str

    @property
    def orchestrator(self) -> Container:
        """The orchestrator's container."""
        return Container(self.podman, f"{self.name}_orchestrator_1")

    @property
    def agent(self) -> Container:
        """The agent's container."""
        return Container(self.podman, f"{self.name}_my-agent_1")

    @property
    def url(self) -> str:
        """Where the orchestrator is shown on this machine."""
        port = self.podman.run("port", self.orchestrator.name, "8080").stdout.strip()
        return f"http://{port}"

    def send(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """Send a request with the operators' token."""
        token = (self.folder / "secrets" / "operator_token").read_text().strip()
        return send(method, self.url + path, body, {"Authorization": f"Bearer {token}", **headers})

    def status(self) -> Any:
        """Return what `kos-agent status --url` tells of the orchestrator."""
        done = run_command(
            *(sys.executable, "-m", "kagent_sdk", "status", "--json", "--url", self.url),
            *("--token-file", self.folder / "secrets" / "operator_token"),
            env=self.podman.environment,
        )
        return json.loads(done.stdout)


@pytest.fixture
def classic(
    podman: Podman, agent_base: str, run_prefix: str, unique: str, tmp_path: Path
) -> Classic:
    """The example under podman-compose, with the tokens that its README makes."""
    folder = copy_example("compose", tmp_path).rename(tmp_path / unique)
    image = f"localhost/{run_prefix}/my-agent"
    podman.run(
        "build", "--quiet", "--network=none", f"--tag={image}",
        f"--build-context=kos/agent-base=container-image://{agent_base}", folder / "my_agent",
    )  # fmt: skip
    (folder / "machine.yaml").write_text(MACHINE.format(base=agent_base, image=image))
    run_command("bash", "-ec", _secrets_of_readme(), env=dict(os.environ), cwd=folder)
    run_compose(podman, folder, "up", "-d")
    return Classic(podman, folder, unique)


def _secrets_of_readme() -> str:
    """Return the commands of its README that make the tokens."""
    lines = re.findall(r"^\$ (.*)$", (EXAMPLE / "README.md").read_text(), re.MULTILINE)
    return "\n".join(line for line in lines if line.startswith(("install", "for", "chgrp")))


def test_a_task_outlives_the_orchestrator_that_took_it(classic: Classic, podman: Podman) -> None:
    """The whole of it in one: names, tokens, health, a task, a crash of the orchestrator, an end."""
    classic.agent.wait_logged("link_registered")
    greeting = {"capability": "my-agent/greet", "input": {"name": "Ada"}}
    first = classic.send("POST", "/v1/tasks", greeting).json()
    status = classic.status()
    services = (classic.orchestrator, classic.agent)
    looks = [one.exec("sh", "-c", LOOK).stdout for one in services]
    told = [one.inspect("{{json .Config}}") for one in services]
    tokens = [path.read_text().strip() for path in (classic.folder / "secrets").iterdir()]
    for one in services:  # Without systemd podman does not ask by itself.
        podman.run("healthcheck", "run", one.name)
    health = [one.inspect("{{.State.Health.Status}}") for one in services]
    longer = {**greeting, "id": "open", "input": {"name": "Bob", "after_s": 3}}
    classic.send("POST", "/v1/tasks", longer, Prefer="respond-async")
    wait_until(lambda: classic.send("GET", "/v1/tasks/open").json()["state"] == "working")
    killed = classic.orchestrator.pid
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: classic.orchestrator.pid not in {0, killed})  # by its restart policy
    classic.orchestrator.wait_logged("agent_registered")
    last = classic.send("GET", "/v1/tasks/open?wait_s=30").json()
    starts = [len(classic.orchestrator.records("orchestrator_started"))]
    starts.append(len(classic.agent.records("host_started")))
    registered = len(classic.agent.records("link_registered"))
    run_compose(podman, classic.folder, "down", "--volumes")
    left = [podman.find(kind, classic.name) for kind in ("container", "network", "volume")]

    assert (first["state"], first["output"]) == ("completed", {"text": "Hello, Ada!", "count": 1})
    assert [agent["name"] for agent in status["agents"]] == ["my-agent"]
    assert health == ["healthy", "healthy"]
    for look in looks:
        assert look.startswith("1000\n")
        assert " / overlay ro," in look
        assert look.count("-rw-r----- 1 root") == 2
    assert len(tokens) == 3
    assert not any(token in text for token in tokens for text in told)
    assert (last["state"], last["attempt"]) == ("completed", 1)
    assert last["output"] == {"text": "Hello, Bob!", "count": 2}
    assert (starts, registered) == ([2, 1], 2)
    assert left == [[], [], []]
