"""Run an orchestrator in tests: one process, found through ``.kos-mesh/orchestrator.json``.

::

    with running(prepare_orchestrator(tmp_path / "mesh")) as orchestrator:
        with running_agent(copy_ledger(tmp_path), env=link_environment(orchestrator.url)):
            task = orchestrator.call("count", {...})
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import psutil

from tests.agents import MARKER_NAME, Answer, agent_environment
from tests.integration.waiting import wait_until

PROGRAM = Path(__file__).parent / "mesh_orchestrator.py"
NOTE = Path(".kos-mesh", "orchestrator.json")
LEASE_S = 2.0
HEARTBEAT_S = 0.4
RETURN_S = 60.0
START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 60.0

T = TypeVar("T")


class Place(Protocol):
    """Where an orchestrator runs and is asked; see `tests.integration.netns`."""

    def run(self, action: Callable[[], T]) -> T:
        """Do something there."""
        ...


class Here:
    """Where the tests run."""

    def run(self, action: Callable[[], T]) -> T:
        """Do it."""
        return action()


HERE = Here()


def link_environment(
    url: str, delivery: str = "push", *, address: str | None = None
) -> dict[str, str]:
    """Return what makes an agent register at an orchestrator, and speak to it often."""
    found = {
        "AGENT_ORCHESTRATOR__URL": url,
        "AGENT_ORCHESTRATOR__DELIVERY": delivery,
        "AGENT_ORCHESTRATOR__HEARTBEAT_S": str(HEARTBEAT_S),
    }
    return found if address is None else found | {"AGENT_ORCHESTRATOR__ADDRESS": address}


@dataclass(slots=True)
class RunningOrchestrator:
    """An orchestrator that a test started.

    Attributes:
        directory: the folder that holds ``.kos-mesh``.
        log_file: everything that it wrote to stdout and stderr, over all its starts.
        place: where it runs.
        token: what the tests show.
        url: base URL; empty until `wait_ready`.
    """

    directory: Path
    arguments: tuple[str, ...]
    log_file: Path
    place: Place = HERE
    token: str | None = field(default=None, repr=False)
    process: subprocess.Popen[bytes] | None = None
    url: str = ""

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start it; do not wait for it."""
        self.directory.mkdir(exist_ok=True)
        environment = agent_environment(None, os.environ.get(MARKER_NAME, "mesh"))
        command = [sys.executable, str(PROGRAM), *self.arguments]
        with self.log_file.open("ab") as log:
            self.process = self.place.run(
                lambda: subprocess.Popen(
                    command,
                    cwd=self.directory,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )

    def find_port(self) -> int | None:
        """Return the port that it listens on now; None while it does not."""
        try:
            note = json.loads((self.directory / NOTE).read_bytes())
            if self.process is None or note["pid"] != self.pid:
                return None
            self.url = str(note["url"]).rstrip("/")
            return int(self.url.rpartition(":")[2])
        except (OSError, ValueError, KeyError):
            return None

    def wait_ready(self, deadline_s: float = START_DEADLINE_S) -> None:
        """Wait until it says where it listens.

        Raises:
            AssertionError: it ended first, or the deadline passed.
        """

        def is_there() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, f"it ended\n{self.tail}"
            return self.find_port() is not None

        wait_until(is_there, deadline_s)

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end, wait for that, and return its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_DEADLINE_S)

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        prefer: str = "",
        timeout_s: float = 30,
    ) -> Answer:
        """Send one request."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        if data is not None:
            request.add_header("Content-Type", "application/json")
        if prefer:
            request.add_header("Prefer", prefer)
        if self.token is not None:
            request.add_header("Authorization", f"Bearer {self.token}")
        return self.place.run(lambda: _exchange(request, timeout_s))

    def status(self) -> dict[str, Any]:
        """Return the ``/status`` document."""
        answer = self.request("GET", "/status")
        assert answer.status == 200, answer
        document = answer.json()
        assert isinstance(document, dict)
        return document

    def submit(self, capability: str, task_input: object, task_id: str) -> dict[str, Any]:
        """Hand in a task and do not wait for its end."""
        body = {"id": task_id, "capability": capability, "input": task_input}
        answer = self.request("POST", "/v1/tasks", body, prefer="respond-async")
        assert answer.status in (200, 202), answer
        document: dict[str, Any] = answer.json()
        return document

    def read(self, task_id: str, wait_s: float = 0) -> dict[str, Any]:
        """Return a task, after its end or so many seconds."""
        answer = self.request("GET", f"/v1/tasks/{task_id}?wait_s={wait_s}", timeout_s=wait_s + 30)
        assert answer.status == 200, answer
        document: dict[str, Any] = answer.json()
        return document

    def replicas(self) -> list[dict[str, Any]]:
        """Return all registered replicas of all agents."""
        return [one for agent in self.status()["agents"] for one in agent["replicas"]]

    def wait_replicas(self, count: int, state: str = "up", deadline_s: float = 60) -> None:
        """Wait until so many replicas are ready, or in another state."""
        wait_until(lambda: self.count_replicas(state) == count, deadline_s)

    def count_replicas(self, state: str = "up") -> int:
        """Return how many replicas are ready, or in another state; those that are lost are listed too."""
        found = [one for one in self.replicas() if one["state"] == state]
        return len([one for one in found if state != "up" or one["ready"]])

    @property
    def tail(self) -> str:
        """The end of what it has written."""
        return self.log_file.read_text(errors="replace")[-4000:]


def prepare_orchestrator(
    directory: Path,
    *,
    lease_s: float = LEASE_S,
    return_s: float = RETURN_S,
    host: str = "127.0.0.1",
    place: Place = HERE,
    token_files: Sequence[Path] = (),
) -> RunningOrchestrator:
    """Return an orchestrator that is not started yet.

    Args:
        directory: made if it is not there.
        lease_s: how long an agent may be silent.
        return_s: how long a task that must not be run twice waits for its agent.
        host: the address to listen on.
        place: where it shall run.
        token_files: with the tokens of agents and operators.
    """
    arguments = (str(lease_s), str(HEARTBEAT_S), str(return_s), host, *map(str, token_files))
    log_file = directory.parent / f"{directory.name}.orchestrator.log"
    token = token_files[1].read_text() if token_files else None
    return RunningOrchestrator(directory, arguments, log_file, place, token)


@contextmanager
def running(orchestrator: RunningOrchestrator) -> Iterator[RunningOrchestrator]:
    """Run an orchestrator for the time of the block; it must end in order."""
    orchestrator.start()
    try:
        orchestrator.wait_ready()
        yield orchestrator
        assert orchestrator.stop() == 0, orchestrator.tail
    finally:
        orchestrator.kill()


def _exchange(request: urllib.request.Request, timeout_s: float) -> Answer:
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            return Answer(response.status, dict(response.headers), response.read())
    except urllib.error.HTTPError as exc:
        with exc:
            return Answer(exc.code, dict(exc.headers), exc.read())


def signal_tree(pid: int, number: signal.Signals) -> int:
    """Send a signal to a process and all below it, parents first; return how many got it."""
    count = 0
    try:
        host = psutil.Process(pid)
        tree = [host, *host.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in tree:
        try:
            process.send_signal(number)
            count += 1
        except psutil.NoSuchProcess:
            continue
    return count


def wait_gone(pids: Sequence[int], deadline_s: float = 10) -> None:
    """Wait until processes are gone, or wait to be reaped."""
    give_up_at = time.monotonic() + deadline_s
    for pid in pids:
        while psutil.pid_exists(pid) and time.monotonic() < give_up_at:
            try:
                if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                    break
            except psutil.NoSuchProcess:
                break
            time.sleep(0.01)


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def is_listening(port: int) -> bool:
    """Tell whether something takes connections at a loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True
