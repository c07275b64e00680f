"""The stage of the sandbox's tests: an agent that user 1000 can read, a field, a neighbour.

The agent runs with an interpreter that user 1000 can read (`readable_python`), from a folder of
user 1000 in /tmp: pytest's own temporary folders are for their owner alone.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from dataclasses import field as datafield
from pathlib import Path
from typing import Any

from tests.agents import (
    MARKER_NAME,
    POLL_S,
    REPOSITORY,
    START_DEADLINE_S,
    RunningAgent,
    agent_environment,
)
from tests.integration.escapes.ground import Ground
from tests.integration.escapes.runner import make_request
from tests.integration.readable_python import USER, as_user, is_root

SECRET = "kos-breakout-7f3a9c"  # noqa: S105 - nobody's
Results = dict[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """How the agent is started.

    Attributes:
        starter: "root", who becomes user 1000, or "user" for user 1000 itself.
        isolation: ``worker.isolation``.
        workers: ``worker.count``.
    """

    starter: str
    isolation: str
    workers: int = 2

    def __str__(self) -> str:
        """Return the name of the test's case."""
        return f"{self.starter}-{self.isolation}"

    @property
    def identity(self) -> Mapping[str, Any]:
        """Arguments of `subprocess.Popen` for the host."""
        return {} if self.starter == "root" else as_user()


@dataclass(slots=True)
class Stage:
    """All that is there while a test runs."""

    python: Path
    agent: RunningAgent
    field: Path
    facts: dict[str, Any]
    environment: dict[str, str]
    leaked: tuple[int, ...]
    stack: ExitStack
    _elsewhere: list[socket.socket] = datafield(default_factory=list)

    def ground(self) -> Ground:
        """Return the facts of now, with a new prey, and put back what attempts may have taken."""
        put_victims(self.field, self.agent.directory)
        return Ground(
            agent=str(self.agent.directory),
            field=str(self.field),
            host_pid=self.agent.pid,
            port=int(self.agent.url.rpartition(":")[2]),
            prey_pid=self._start_prey(),
            secret=SECRET,
            leaked_fd=self.leaked[0],
            proxy_port=self._occupy_proxys_port(),
            worker_pids=tuple(self.agent.worker_pids),
            **self.facts,
        )

    def restart(self, scenario: Scenario) -> None:
        """Start the agent once more, in the same folder, after it was stopped."""
        self.agent = _start(
            self.python, scenario, self.agent.directory, self.environment, self.leaked
        )
        self.wait_ready(scenario)

    def wait_ready(self, scenario: Scenario) -> None:
        """Wait until all workers are ready; the agent is with the first."""
        self.agent.wait_ready()
        give_up_at = time.monotonic() + START_DEADLINE_S
        while self.agent.status()["workers"]["ready"] < scenario.workers:
            assert time.monotonic() < give_up_at, self.agent.log_text[-4000:]
            time.sleep(POLL_S)

    def run_inside(
        self, names: Iterable[str], ground: Ground, *, capability: str = "try_to_escape"
    ) -> Results:
        """Run attempts in the agent's worker."""
        request = make_request(names, ground)
        answer = self.agent.call(capability, {"request": request}, timeout_s=110)
        return {name: (outcome, reason) for name, (outcome, reason) in answer.items()}

    def run_outside(self, names: Iterable[str], ground: Ground, *, as_root: bool) -> Results:
        """Run attempts in a process that nothing confines, as user 1000 or as root."""
        done = subprocess.run(
            [self.python, "-m", "tests.integration.escapes.runner"],
            input=json.dumps(make_request(names, ground)).encode(),
            cwd=self.agent.directory,
            env=self.environment,
            capture_output=True,
            check=False,
            pass_fds=self.leaked,
            timeout=110,
            **({} if as_root else as_user()),
        )
        assert done.returncode == 0, done.stderr.decode()[-2000:]
        return {name: (each[0], each[1]) for name, each in json.loads(done.stdout).items()}

    def _occupy_proxys_port(self) -> int:
        """Listen on the proxy's port at another address; return it."""
        port = self.agent.call("proxy_port")
        assert isinstance(port, int)
        if not self._elsewhere:
            server = socket.create_server(("127.0.0.2", port))
            self._elsewhere.append(self.stack.enter_context(server))
        return port

    def _start_prey(self) -> int:
        prey = subprocess.Popen(["sleep", "300"], **as_user())
        self.stack.callback(prey.wait)
        self.stack.callback(prey.kill)
        return prey.pid


@contextmanager
def running_stage(
    python: Path, scenario: Scenario, config: str = "", vault: Mapping[str, str] | None = None
) -> Iterator[Stage]:
    """Put up the stage, with a ready agent on it, for the time of the block."""
    with ExitStack() as stack:
        root = Path(tempfile.mkdtemp(prefix="kos-stage-", dir="/tmp"))
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        root.chmod(0o755)
        field = lay_out_field(root / "field")
        directory = lay_out_agent(root / "agent", scenario, config, vault or {})
        environment = agent_environment({"KOS_TEST_HOSTS_SECRET": SECRET}, uuid.uuid4().hex)
        # Here it is the sandbox that is tested, as it is by default.
        environment.pop("AGENT_WORKER__USER", None)
        environment["HOME"] = "/nonexistent"
        facts = stack.enter_context(_running_neighbour(python, directory, field, environment))
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        leaked = (os.open(field / "secret", os.O_RDONLY), server.fileno())
        stack.callback(os.close, leaked[0])
        agent = _start(python, scenario, directory, environment, leaked)
        stage = Stage(python, agent, field, facts, environment, leaked, stack)
        stack.callback(lambda: stage.agent.kill())  # noqa: PLW0108 - it may be another by then
        stage.wait_ready(scenario)
        yield stage


def free_port() -> int:
    """Return a TCP port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    assert isinstance(port, int)
    return port


def _start(
    python: Path,
    scenario: Scenario,
    directory: Path,
    environment: dict[str, str],
    leaked: tuple[int, ...],
) -> RunningAgent:
    log_file = directory.with_name("host.log")
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [python, "-m", "kagent_sdk", "run", str(directory)],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=leaked,
            **scenario.identity,
        )
    return RunningAgent(directory, process, log_file, environment[MARKER_NAME])


def lay_out_field(field: Path) -> Path:
    """Make what lies outside of the agent's folder."""
    (field / "victims").mkdir(parents=True)
    (field / "secret").write_text(SECRET)
    (field / "secret").chmod(0o600)
    (field / "program").write_text("#!/bin/sh\necho here\n")
    (field / "program").chmod(0o755)
    _give_to_user(field)
    if is_root():
        program = field / "root-id"
        shutil.copy(shutil.which("id") or "/usr/bin/id", program)
        program.chmod(0o4755)
    return field


def lay_out_agent(
    directory: Path, scenario: Scenario, config: str, vault: Mapping[str, str]
) -> Path:
    """Make the agent's folder: the attempts are its author's code."""
    package = directory / "tests" / "integration" / "escapes"
    source = REPOSITORY / "tests" / "integration" / "escapes"
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in (package.parent, package.parent.parent):
        (folder / "__init__.py").touch()
    (package / "entrypoint.py").rename(directory / "entrypoint.py")
    (directory / "config.yaml").write_text(
        f"name: breakout\nworker: {{count: {scenario.workers}, isolation: {scenario.isolation}}}\n{config}"
    )
    (directory / "secrets").mkdir()
    (directory / "secrets" / "vault.json").write_text(json.dumps({"key": SECRET, **vault}))
    (directory / "secrets" / "vault.json").chmod(0o600)
    (directory / "runtime" / "empty").mkdir(parents=True)
    _give_to_user(directory)
    return directory


def put_victims(field: Path, directory: Path) -> None:
    """Put down what attempts take away or change, outside and in the agent's folder."""
    names = ("removed", "renamed", "truncated", "mode", "times", "attributes")
    own = [directory / "runtime" / name for name in ("decoy", "removable")]
    for path in (*(field / "victims" / name for name in names), *own):
        path.write_text("x")
        if is_root():
            os.chown(path, USER, USER)


def _give_to_user(folder: Path) -> None:
    if is_root():
        for path in (folder, *folder.rglob("*")):
            os.chown(path, USER, USER, follow_symlinks=False)


@contextmanager
def _running_neighbour(
    python: Path, directory: Path, field: Path, environment: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    process = subprocess.Popen(
        [python, "-m", "tests.integration.escapes.neighbour", field, SECRET],
        cwd=directory,
        # Without the marker: it is none of the agent's processes.
        env={"NEIGHBOURS_SECRET": SECRET, "PATH": environment["PATH"]},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        **as_user(),
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            facts = json.loads(process.stdout.readline())
            assert isinstance(facts, dict)
            yield facts
        finally:
            process.stdin.close()
            process.wait(20)
