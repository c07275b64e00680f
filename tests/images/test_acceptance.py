"""The examples in the image, started by the flags that their policy gives."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from tests.agents import REPOSITORY
from tests.images.conftest import TOKEN, build_agent
from tests.images.lockdown import Launcher
from tests.images.podman import Podman
from tests.images.wheels import make_wheels
from tests.integration.waiting import wait_until

EXAMPLES = REPOSITORY / "examples"
LINES = "".join(
    f"2026-11-24T10:{number // 60:02}:{number % 60:02}Z worker[7]: "
    + (f"job {number} done\n" if number % 100 else "ERROR disk is full\n")
    for number in range(600)
)


@pytest.fixture
def hello(podman: Podman, hello_image: str, agent_folder: Path, unique: str) -> Launcher:
    """Return what starts examples/hello."""
    return Launcher(podman, hello_image, EXAMPLES / "hello", agent_folder, unique)


def test_hello_answers_streams_and_cancels(hello: Launcher) -> None:
    """What the README shows works in the image as it does on a desk."""
    container = hello.start_ready()
    stream = container.exec("kos-agent", "call", "countdown", "start:=3", "--stream").stdout
    container.exec(
        "kos-agent", "call", "countdown", "start:=1000", "pause_s:=10", "--id", "long", "--async"
    )
    container.exec("kos-agent", "tasks", "--cancel", "long")
    wait_until(lambda: container.read_task("long")["state"] == "canceled")
    code = container.stop()

    assert [json.loads(line) for line in stream.splitlines()] == [3, 2, 1, 0]
    assert code == 0


def test_hello_shows_how_it_is(hello: Launcher) -> None:
    """An operator has the same commands inside, and the log outside."""
    container = hello.start_ready()
    status = container.status()
    health = container.podman.run("healthcheck", "run", container.name, check=False)
    shown = container.exec("kos-agent", "logs", "-n", "1", "--json").stdout
    log = (hello.folder / "logs" / "runtime.log").read_text()

    assert (status["agent"]["name"], status["workers"]["ready"]) == ("hello", 1)
    assert container.call("fingerprint", "text=ä") == sha256("ä".encode()).hexdigest()
    assert health.returncode == 0
    assert json.loads(shown)["event"]
    assert '"worker_ready"' in log
    assert TOKEN not in log + container.logs()


def test_hello_is_called_from_outside_with_the_token_of_its_vault(
    hello: Launcher, podman: Podman
) -> None:
    """Callers come by the network, and only those who have the token."""
    podman.run("network", "create", "--internal", hello.name)
    container = replace(hello, network=hello.name).start_ready()
    address = container.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
    request = urllib.request.Request(
        f"http://{address}:8080/v1/capabilities/greet", data=b'{"name": "Ada"}'
    )
    with urllib.request.urlopen(f"http://{address}:8080/readyz", timeout=20) as answer:
        ready = answer.status
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=20)
    refused.value.close()
    request.add_header("Authorization", f"Bearer {TOKEN}")
    with urllib.request.urlopen(request, timeout=20) as answer:
        greeting = json.load(answer)

    assert ready == 200
    assert refused.value.code == 401
    assert greeting == {"text": "Hello, Ada!"}


def test_what_an_agent_keeps_outlives_its_container(trial: Launcher) -> None:
    """A container is replaced with every release; state, tasks and files are not."""
    first = trial.start_ready()
    first.call("remember", "text=a word")
    first.call("write", "text=a line")
    first.exec("kos-agent", "call", "nap", "seconds:=0", "--id", "early")
    first.exec("kos-agent", "call", "nap", "seconds:=0.1", "--id", "early-too", "--async")
    code = first.stop()
    first.remove()
    second = trial.start_ready()

    assert code == 0
    assert second.call("recall") == "a word"
    assert second.call("read") == "a line"
    assert second.read_task("early")["state"] == "completed"
    assert second.read_task("early-too")["state"] == "completed"


def test_shell_is_supervised(
    podman: Podman, agent_base: str, agent_folder: Path, unique: str
) -> None:
    """An agent in another language needs nothing of ours in its image but the base."""
    source = EXAMPLES / "shell"
    image = build_agent(podman, source, agent_base, f"localhost/{unique}/shell")
    launcher = Launcher(podman, image, source, agent_folder, unique)
    container = launcher.start(env={"INTERVAL_S": "0.1"})
    container.wait_logged("space_left")
    code = container.stop()

    assert code == 0
    assert "stopping" in container.logs()


def test_log_triage_reads_what_is_mounted(
    podman: Podman, agent_base: str, agent_folder: Path, unique: str, tmp_path: Path
) -> None:
    """An agent brings packages, and is shown files of the machine: read-only, by name."""
    source = EXAMPLES / "log_triage"
    packages, logs = tmp_path / "packages", tmp_path / "logs"
    for folder in (packages, logs):
        folder.mkdir()
    make_wheels(packages, source / "requirements.txt")
    (logs / "app.log").write_text(LINES)
    image = build_agent(
        podman, source, agent_base, f"localhost/{unique}/log-triage", packages=packages
    )
    launcher = Launcher(podman, image, source, agent_folder, unique)
    container = launcher.start_ready(f"--volume={logs}:/var/log/app:ro")
    report = container.call("triage", 'paths:=["/var/log/app"]')

    assert report["lines"] == 600
    assert "disk is full" in json.dumps(report["problems"])
