"""A mesh whose agents are in containers."""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.agents import Answer
from tests.images.conftest import build_agent
from tests.images.podman import Podman
from tests.integration.meshes import RunningMesh, running_mesh, write_agent
from tests.integration.waiting import wait_until

MESH = """\
agents:
  {name}:
    path: steady
    driver: container
    image: {image}
    network: {name}
    replicas: 2
    env: {{AGENT_WORKER__CRASH_LIMIT: 1}}
orchestrator:
  host: 0.0.0.0
  address: http://{gateway}
  token_file: agents.token
  operator_token_file: operators.token
"""


def test_releases_are_rolled_out_without_a_failed_call_bad_ones_are_not_and_states_come_back(
    podman: Podman, agent_base: str, unique: str, tmp_path: Path
) -> None:
    """What holds for processes holds for containers: a new image costs no call, and a bad one nothing.

    Of one replica the folder is lost and its container killed, of the other the engine's own process: the
    container of that lives on, and has to go.
    """
    image = f"localhost/{unique}/steady"
    folder = write_agent(tmp_path / "steady", "first")
    build_as(podman, folder, agent_base, image, "first")
    with running_contained(podman, tmp_path, unique, image) as mesh:
        before = mesh.wait_ready(unique, 2)
        assert [mesh.call("count", number, unique) for number in (0, 1)] == [1, 1]
        write_agent(folder, "second")
        build_as(podman, folder, agent_base, image, "second")
        with calling(mesh, "word") as answers:
            wait_until(lambda: len(answers) >= 4)
            done = mesh.request("POST", f"/v1/fleet/{unique}/update")
            told = len(answers)
            wait_until(lambda: len(answers) >= told + 4)
        after = mesh.wait_ready(unique, 2)

        assert done.status == 200, (done.body, mesh.text)
        assert {one["release"] for one in after} == {done.json()["release"]}
        assert done.json()["previous"] == before[0]["release"]
        assert [answer.status for answer in answers] == [200] * len(answers)
        assert {answer.json()["state"] for answer in answers} == {"completed"}
        words = [answer.json()["output"] for answer in answers]
        assert words[:4] == ["first"] * 4
        assert words[-4:] == ["second"] * 4

        # The same files in another image: what is tried is the image, and it does not come up.
        broken = tmp_path / "broken"
        broken.mkdir()
        (broken / "entrypoint.py").write_text("import nothing_of_that_name\n")
        build_as(podman, broken, image, image, "broken")
        bad = mesh.request("POST", f"/v1/fleet/{unique}/update")
        still = mesh.wait_ready(unique, 2)

        assert bad.status == 409
        assert "exit code 75" in bad.json()["detail"]
        assert "nothing was replaced" in bad.json()["detail"]
        assert [one["pid"] for one in still] == [one["pid"] for one in after]

        before_losses = running(podman, unique)
        lose_both(mesh, podman, unique, after[1]["pid"])
        # Not the broken image that has the name by now.
        assert [mesh.call("word", number, unique) for number in (0, 1)] == ["second"] * 2
        assert running(podman, unique) == before_losses

    assert podman.find("container", f"kos-{unique}") == []


def build_as(podman: Podman, source: Path, base: str, image: str, tag: str) -> None:
    """Build an image and give it the name; it keeps a tag, by which it is removed after the test."""
    podman.run("tag", build_agent(podman, source, base, f"{image}:{tag}"), image)


def lose_both(mesh: RunningMesh, podman: Podman, name: str, pid: int) -> None:
    """Take the folder and the container of one replica, and the engine's process of the other."""
    made = mesh.request("POST", f"/v1/fleet/{name}/snapshot").json()
    (mesh.data / "agents" / name / "0").rename(mesh.data / "lost")
    podman.run("kill", "--signal=KILL", running(podman, name)[0])
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(mesh.told("replica_waiting")) == 2)
    mesh.wait_ready(name, 2)

    assert "exit code 137" in mesh.told("replica_waiting", replica=0)[0]["reason"]
    assert "signal 9" in mesh.told("replica_waiting", replica=1)[0]["reason"]
    (restored,) = mesh.told("snapshot_restored")
    assert restored["replica"] == 0
    assert restored["snapshot"] in str(made)
    assert [mesh.call("count", number, name) for number in (0, 1)] == [2, 2]


def running(podman: Podman, name: str) -> list[str]:
    """Return the names of the containers of an agent that run."""
    names = podman.run("ps", f"--filter=name=kos-{name}-", "--format={{.Names}}").stdout.split()
    return sorted(names)


@contextmanager
def running_contained(podman: Podman, folder: Path, name: str, image: str) -> Iterator[RunningMesh]:
    """Run a mesh with one agent in two containers, on a network of their own."""
    operator = secrets.token_urlsafe(32)
    for file, token in (("agents", secrets.token_urlsafe(32)), ("operators", operator)):
        (folder / f"{file}.token").write_text(token)
        (folder / f"{file}.token").chmod(0o600)
    podman.run("network", "create", name)
    gateway = podman.run(
        "network", "inspect", name, "--format={{range .Subnets}}{{.Gateway}}{{end}}"
    ).stdout.strip()
    text = MESH.format(name=name, image=image, gateway=gateway)
    with running_mesh(folder, text, environment=podman.environment) as mesh:
        mesh.headers = {"Authorization": f"Bearer {operator}"}
        yield mesh


@contextmanager
def calling(mesh: RunningMesh, capability: str) -> Iterator[list[Answer]]:
    """Let a caller send one task after the other for the time of the block; give the answers."""
    answers: list[Answer] = []
    is_over = threading.Event()

    def call() -> None:
        while not is_over.is_set():
            answers.append(
                mesh.request("POST", "/v1/tasks", {"capability": capability, "input": {}})
            )

    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(call)
        try:
            yield answers
        finally:
            is_over.set()
        job.result()
