"""Run a mesh in tests: `kos-agent up` in a folder of its own, found through ``.kos-mesh``.

::

    with running_mesh(tmp_path, {"steady": 2}) as mesh:
        mesh.wait_ready()

Leaving the block stops it with SIGTERM, and fails the test when the exit code is not 0 or a process is
left behind.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.agents import (
    MARKER_NAME,
    POLL_S,
    STOP_DEADLINE_S,
    Answer,
    agent_environment,
)
from tests.integration.waiting import wait_until

AGENT = '''
from kagent_sdk import Agent, TaskContext

agent = Agent()
WORD = "{word}"


@agent.capability
async def word() -> str:
    """Say the word of this release."""
    return WORD


@agent.capability
async def count(ctx: TaskContext) -> int:
    """Count."""
    number = (await ctx.state.get("count", 0)) + 1
    await ctx.state.set("count", number)
    return number


if __name__ == "__main__":
    agent.run()
'''


def write_agent(folder: Path, word: str = "first", config: str = "") -> Path:
    """Write a small agent, or another release of it, and return its folder."""
    folder.mkdir(exist_ok=True)
    (folder / "entrypoint.py").write_text(AGENT.replace("{word}", word))
    (folder / "config.yaml").write_text(config or "version: 1.0.0\n")
    return folder


@dataclass(slots=True)
class RunningMesh:
    """A process `kos-agent up` that a test started.

    Attributes:
        directory: of mesh.yaml.
        process: the orchestrator.
        marker: that all processes of the mesh carry, see `tests.agents`.
    """

    directory: Path
    process: subprocess.Popen[bytes]
    marker: str
    output: Path
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def operator(self) -> dict[str, str]:
        """What an operator shows: ``headers``, or the token that `kos-agent up` has made."""
        if self.headers:
            return self.headers
        return {"Authorization": f"Bearer {(self.data / 'operator-token').read_text()}"}

    @property
    def data(self) -> Path:
        """The folder of what it keeps."""
        return self.directory / ".kos-mesh"

    @property
    def url(self) -> str:
        """Where the orchestrator listens."""
        document = json.loads((self.data / "orchestrator.json").read_bytes())
        assert document["pid"] == self.process.pid
        return str(document["url"])

    @property
    def news(self) -> list[dict[str, Any]]:
        """What it has told, line by line."""
        lines = self.output.read_text().rpartition("\n")[0].splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    @property
    def text(self) -> str:
        """All that it has written."""
        return self.output.read_text(errors="replace")

    def told(self, event: str, **values: object) -> list[dict[str, Any]]:
        """Return what it has told of an event with these values."""
        wanted = {"event": event, **values}
        return [one for one in self.news if {key: one.get(key) for key in wanted} == wanted]

    def request(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request to the orchestrator."""
        return send(method, self.url + path, body, {**self.operator, **(headers or {})})

    def fleet(self, agent: str = "steady") -> dict[str, Any]:
        """Return what ``/v1/fleet/AGENT`` says; nothing while it does not answer."""
        try:
            answer = self.request("GET", f"/v1/fleet/{agent}")
        except (OSError, ValueError, AssertionError):
            return {"replicas": [], "ready": 0}
        if answer.status == 404:
            return {"replicas": [], "ready": 0}
        assert answer.status == 200, answer
        document = answer.json()
        assert isinstance(document, dict)
        return document

    def wait_ready(self, agent: str = "steady", replicas: int = 1) -> list[dict[str, Any]]:
        """Wait until as many replicas are ready, no more and no less, and return them."""

        def is_so() -> bool:
            assert self.process.poll() is None, self.text
            document = self.fleet(agent)
            return bool(len(document["replicas"]) == document["ready"] == replicas)

        wait_until(is_so)
        found = self.fleet(agent)["replicas"]
        assert isinstance(found, list)
        return found

    def call(
        self, capability: str, replica: int = 0, agent: str = "steady", body: object = None
    ) -> Any:
        """Call a replica directly, as the orchestrator would."""
        url = self.fleet(agent)["replicas"][replica]["url"]
        token = (self.data / "agents" / agent / "keys" / str(replica) / "token").read_text()
        answer = send(
            "POST",
            f"{url}/v1/capabilities/{capability}",
            {} if body is None else body,
            {"Authorization": f"Bearer {token}"},
        )
        assert answer.status == 200, answer
        return answer.json()

    def processes(self) -> list[psutil.Process]:
        """Return every living process of the mesh."""
        return [process for process in psutil.process_iter() if self._owns(process)]

    def kill_orchestrator(self) -> None:
        """Kill the orchestrator alone, with SIGKILL."""
        self.process.kill()
        assert self.process.wait() == -signal.SIGKILL

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal it, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(STOP_DEADLINE_S)

    def assert_nothing_left(self) -> None:
        """Fail if a process of the mesh is still there."""
        give_up_at = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < give_up_at:
            time.sleep(POLL_S)
        assert not left, f"left running: {left}\n{self.text}"

    def kill_all(self) -> None:
        """Kill what is left, for the end of a test that failed."""
        if self.process.poll() is None:
            self.process.kill()  # first, or it would start the others again
        self.process.wait()
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _owns(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARKER_NAME) == self.marker
        except (psutil.Error, OSError):
            return False


def start_mesh(
    directory: Path,
    *,
    marker: str | None = None,
    environment: Mapping[str, str] | None = None,
    python: Path | None = None,
    options: Mapping[str, Any] | None = None,
    arguments: Sequence[str | Path] = (),
) -> RunningMesh:
    """Run `kos-agent up` in a folder with a mesh.yaml; do not wait for it.

    Args:
        directory: of mesh.yaml.
        marker: of its processes.
        environment: more of it.
        python: the interpreter, instead of the tests' own.
        options: of `subprocess.Popen`, such as the user.
        arguments: more words of the command.
    """
    marker = marker or uuid.uuid4().hex
    output = directory / f"up-{uuid.uuid4().hex[:8]}.out"
    program = sys.executable if python is None else python
    words = [program, "-m", "kagent_sdk", "up", "--port", "0", "--json", *arguments]
    with output.open("wb") as file:
        process = subprocess.Popen(
            words,
            env=agent_environment(environment, marker),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            **{"cwd": directory, **(options or {})},
        )
    return RunningMesh(directory, process, marker, output)


@contextmanager
def running_mesh(
    directory: Path,
    text: str,
    *,
    environment: Mapping[str, str] | None = None,
    python: Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> Iterator[RunningMesh]:
    """Run a mesh for the time of the block.

    Args:
        directory: of mesh.yaml, which is written.
        text: of mesh.yaml.
        environment: more of it.
        python: the interpreter, instead of the tests' own.
        options: of `subprocess.Popen`, such as the user.
    """
    (directory / "mesh.yaml").write_text(text)
    mesh = start_mesh(directory, environment=environment, python=python, options=options)
    with ending(mesh):
        yield mesh


@contextmanager
def ending(mesh: RunningMesh) -> Iterator[None]:
    """End a mesh with the block: in order, or else by force."""
    try:
        yield
        assert mesh.stop() == 0, mesh.text
        mesh.assert_nothing_left()
    finally:
        mesh.kill_all()


def send(method: str, url: str, body: object, headers: Mapping[str, str]) -> Answer:
    """Send one request; a status over 399 is an answer like any other."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, dict(headers), method=method)
    if data is not None:
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=90) as response:
            return Answer(response.status, dict(response.headers), response.read())
    except urllib.error.HTTPError as exc:
        with exc:
            return Answer(exc.code, dict(exc.headers), exc.read())
