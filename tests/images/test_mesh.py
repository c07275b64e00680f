"""A mesh whose agents are in containers."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from pathlib import Path

from tests.agents import REPOSITORY
from tests.images.podman import Podman
from tests.integration.meshes import running_mesh
from tests.integration.waiting import wait_until

MESH = """\
agents:
  {name}: {{path: hello, driver: container, image: {image}, network: {name}}}
orchestrator:
  host: 0.0.0.0
  address: http://{gateway}
  token_file: agents.token
  operator_token_file: operators.token
"""


def test_a_replica_in_a_container_is_started_killed_started_again_and_stopped(
    podman: Podman, hello_image: str, unique: str, tmp_path: Path
) -> None:
    """The whole policy of the container, and still one command for the mesh."""
    shutil.copytree(REPOSITORY / "examples" / "hello", tmp_path / "hello")
    operator = secrets.token_urlsafe(32)
    for name, token in (("agents", secrets.token_urlsafe(32)), ("operators", operator)):
        (tmp_path / f"{name}.token").write_text(token)
        (tmp_path / f"{name}.token").chmod(0o600)
    podman.run("network", "create", unique)
    gateway = podman.run(
        "network", "inspect", unique, "--format={{range .Subnets}}{{.Gateway}}{{end}}"
    )
    text = MESH.format(name=unique, image=hello_image, gateway=gateway.stdout.strip())
    with running_mesh(tmp_path, text, environment=podman.environment) as mesh:
        mesh.headers = {"Authorization": f"Bearer {operator}"}
        (first,) = mesh.wait_ready(unique)
        answer = mesh.call("greet", agent=unique, body={"name": "Ada"})
        names = podman.run("ps", "--format={{.Names}}").stdout.split()
        os.kill(first["pid"], signal.SIGKILL)  # the engine's own process: its container lives on
        wait_until(lambda: bool(mesh.told("replica_waiting")))
        (second,) = mesh.wait_ready(unique)
        again = mesh.call("greet", agent=unique, body={"name": "Bob"})
        alive = podman.run("ps", "--format={{.Names}}").stdout.split()

        assert (answer, again) == ({"text": "Hello, Ada!"}, {"text": "Hello, Bob!"})
        assert first["pid"] != second["pid"]
        ours = [name for name in names if unique in name]
        assert len(ours) == 1
        assert [name for name in alive if unique in name] == ours
    left = podman.run("ps", "--all", "--format={{.Names}}").stdout.split()

    assert [name for name in left if unique in name] == []
