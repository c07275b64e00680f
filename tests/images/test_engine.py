"""kos-agent build and kos-agent run --isolation container, with a real engine."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.agents import REPOSITORY
from tests.images.podman import Container, Podman, most_processes

USER = 1000
TOKEN = "e5f0d83cbb3a4b0d97a2c1f04d6b7a88"  # noqa: S105 - of these tests' agents
HELLO = REPOSITORY / "examples" / "hello"

GREEDY = """\
FROM BASE
USER root
RUN --mount=type=bind,source=.,target=/context cp -r /context /copy
COPY . /agent/
USER 1000:1000
"""
"""Takes all that it is shown, by each way that there is."""

START_SCRIPT = """\
#!/bin/sh
echo "from $(id -u) in $PWD" >runtime/data/said
exec sleep 1000
"""


@pytest.fixture
def agent(tmp_path: Path, unique: str) -> Path:
    """Return the folder of examples/hello under a name of its own, with a vault."""
    folder = tmp_path / unique
    shutil.copytree(HELLO, folder)
    write_config(folder)
    write_vault(folder)
    return folder


def write_config(folder: Path, **sections: Any) -> None:
    """Write config.yaml; the agent's name is the folder's. JSON is YAML."""
    (folder / "config.yaml").write_text(json.dumps({"name": folder.name, **sections}))


def write_vault(folder: Path) -> None:
    """Write a vault with a token as an agent in a container has it."""
    vault = folder / "secrets" / "vault.json"
    vault.parent.mkdir()
    vault.write_text(json.dumps({"agent_token": TOKEN}))
    for path, mode in ((vault, 0o440), (vault.parent, 0o750)):
        os.chown(path, 0, USER)
        path.chmod(mode)


def kos_agent(
    podman: Podman, *words: str | Path, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run the command and return what it wrote."""
    done = subprocess.run(
        [sys.executable, "-m", "kagent_sdk", *words],
        capture_output=True,
        check=False,
        env=dict(podman.environment),
        stdin=subprocess.DEVNULL,
        text=True,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def build(podman: Podman, folder: Path, *options: str) -> dict[str, Any]:
    """Build an agent's image without a network; return what the command answers."""
    words = ["build", str(folder), "--engine=podman", "--network=none", "--json", *options]
    answer = json.loads(kos_agent(podman, *words).stdout)
    assert isinstance(answer, dict)
    return answer


@contextmanager
def running(podman: Podman, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run an agent in its container, in the foreground, for the time of the block; once it is ready."""
    words = ("run", str(folder), "--isolation", "container", "--engine", "podman")
    process = subprocess.Popen(
        [sys.executable, "-m", "kagent_sdk", *words],
        env=dict(podman.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if '"worker_ready"' in line:
                    break
            else:
                pytest.fail("".join(lines))
            yield process
        finally:
            podman.run("rm", "--force", "--time=0", folder.name, check=False)
            process.kill()


def test_a_secret_is_in_no_layer(
    podman: Podman, agent: Path, agent_base: str, tmp_path: Path
) -> None:
    """Whatever the author's files say: an image is read by all who can pull it."""
    (agent / "Dockerfile").write_text(GREEDY.replace("BASE", agent_base))
    (agent / ".dockerignore").write_text("README.md\n!secrets\n!secrets/vault.json\n")
    (agent / "note.txt").write_text("c2VlbiBvbiBwdXJwb3Nl\n")
    image = build(podman, agent)["image"]
    archive = tmp_path / "image.tar"
    podman.run("save", "--format=docker-archive", f"--output={archive}", image)

    with archive.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as bytes_:
        assert bytes_.find(b"c2VlbiBvbiBwdXJwb3Nl") > 0  # what is there is found
        assert bytes_.find(TOKEN.encode()) == -1


def test_an_agent_is_built_run_and_stopped(podman: Podman, agent: Path, agent_base: str) -> None:
    """The two commands are all; from outside it is found by its folder, as without a container."""
    answer = build(podman, agent, f"--base={agent_base}")
    label = '{{index .Config.Labels "io.kos.agent"}}'
    assert answer["image"] == f"{agent.name}:0.1.0"
    assert answer["size_bytes"] > 0
    assert podman.run("inspect", f"--format={label}", answer["image"]).stdout.strip() == agent.name

    with running(podman, agent) as process:
        output = kos_agent(podman, "call", "greet", "name=Ada", "-C", agent).stdout
        doctor = kos_agent(podman, "doctor", agent, "--json", check=False)
        status = json.loads(kos_agent(podman, "status", "-C", agent, "--json").stdout)
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)

    assert json.loads(output) == {"text": "Hello, Ada!"}
    audit = {one["control"]: one["verdict"] for one in json.loads(doctor.stdout)["controls"]}
    assert doctor.returncode == 0, audit
    assert audit["vault"] == audit["read_only_root"] == "in_force"
    assert status["processes"][0]["pid"] == 1
    assert code == 0
    assert not (agent / "runtime/host.json").exists()
    assert (agent / "runtime/journal.db").stat().st_uid == USER


def test_an_exit_code_is_the_agents(podman: Podman, agent: Path, agent_base: str) -> None:
    """A supervisor of the command tells a wrong configuration from a crash."""
    write_config(agent, http={"auth": "token"})
    shutil.rmtree(agent / "secrets")
    build(podman, agent, f"--base={agent_base}")
    words = ("run", agent, "--isolation=container", "--engine=podman")
    done = kos_agent(podman, *words, check=False)

    assert done.returncode == 78, done.stderr
    assert "http.auth is token, but there is none" in done.stderr


def test_without_an_image_the_way_to_one_is_named(podman: Podman, agent: Path) -> None:
    """Nothing is pulled from anywhere by accident."""
    words = ("run", agent, "--isolation=container", "--engine=podman")
    done = kos_agent(podman, *words, check=False)

    assert done.returncode == 2
    assert f"kos-agent build {agent}" in done.stderr


def test_an_image_may_have_a_script_in_place_of_an_entrypoint(
    podman: Podman, agent: Path, agent_base: str
) -> None:
    """/app/start.sh runs supervised and confined, without a line of Python or configuration."""
    (agent / "entrypoint.py").unlink()
    (agent / "start.sh").write_text(START_SCRIPT)
    (agent / "start.sh").chmod(0o755)
    (agent / "Dockerfile").write_text(
        f"FROM {agent_base}\nCOPY start.sh /app/start.sh\nCOPY config.yaml /agent/\n"
    )
    build(podman, agent)

    with running(podman, agent) as process:
        status = json.loads(kos_agent(podman, "status", "-C", agent, "--json").stdout)
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)

    assert status["processes"][1]["state"] == "ready"
    assert (agent / "runtime/data/said").read_text() == "from 1000 in /agent\n"
    assert code == 0


def test_the_exported_script_runs_the_same_container(
    podman: Podman, agent: Path, agent_base: str
) -> None:
    """Where kos-agent is not installed a shell and an engine are enough."""
    build(podman, agent, f"--base={agent_base}")
    kos_agent(podman, "export", "docker-run", agent, "--output", agent)
    most = most_processes()
    more = [] if most is None else [f"--ulimit=nproc={most}:{most}"]
    subprocess.run(
        [agent / "run.sh", "--detach", *more],
        check=True,
        env=dict(podman.environment),
        stdin=subprocess.DEVNULL,
    )
    container = Container(podman, agent.name)
    container.wait_ready()

    assert container.call("greet", "name=Ada") == {"text": "Hello, Ada!"}
    assert container.exec("kos-agent", "doctor").returncode == 0
