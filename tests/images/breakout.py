"""The attempts of tests/integration/escapes, in a container: as its agent's code, and beside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.images.conftest import USER, build_agent
from tests.images.podman import START_DEADLINE_S, Container, Podman
from tests.integration.escapes.ground import Ground
from tests.integration.escapes.runner import make_request
from tests.integration.sandbox_stage import (
    SECRET,
    Results,
    Scenario,
    lay_out_agent,
    put_victims,
)

FIELD = "/field"
"""Outside of the agent's folder, and the user's."""

VARIABLES = {"KOS_TEST_HOSTS_SECRET": SECRET}
"""Of the host alone."""

WORKERS = 2

CONFIG = """\
sandbox:
  network:
    allow: ["api.example.com:443"]
"""
"""With an exit, so that there are TCP sockets in the worker: without one there is less to attack."""

NEIGHBOUR = ("python3", "-m", "tests.integration.escapes.neighbour", FIELD, SECRET)
OCCUPANT = """
import socket, sys
server = socket.create_server(("127.0.0.2", int(sys.argv[1])))
print(0, flush=True)
sys.stdin.read()
"""
"""Somebody else at the proxy's port."""

PREY = """
import os, sys
print(os.getpid(), flush=True)
sys.stdin.read()
"""


@dataclass(slots=True)
class Breakout:
    """A container whose agent tries to get out, and what it knows of its surroundings."""

    container: Container
    folder: Path
    field: Path
    facts: dict[str, Any]
    stack: ExitStack

    def ground(self) -> Ground:
        """Return the facts of now, with a new prey, and put back what attempts may have taken."""
        put_victims(self.field, self.folder)
        processes = self.container.status()["processes"]
        proxy_port = self.container.call("proxy_port")
        self.facts.setdefault("proxy_port", proxy_port)
        return Ground(
            agent="/agent",
            field=FIELD,
            host_pid=1,
            port=8080,
            prey_pid=_serve(self.container, self.stack, "python3", "-c", PREY),
            secret=SECRET,
            leaked_fd=1000,  # an engine hands none down
            worker_pids=tuple(part["pid"] for part in processes if part["role"] == "worker"),
            **self.facts,
        )

    def run_inside(self, names: Iterable[str], ground: Ground) -> Results:
        """Run attempts in the agent's worker."""
        request = json.dumps({"request": make_request(names, ground)})
        done = self.container.exec(
            "kos-agent", "call", "try_to_escape", "-", "--json", input=request
        )
        return _results(done.stdout)

    def run_beside(self, names: Iterable[str], ground: Ground) -> Results:
        """Run attempts beside the agent: of the same user, confined by the container alone."""
        done = self.container.exec(
            "python3", "-m", "tests.integration.escapes.runner",
            input=json.dumps(make_request(names, ground)),
        )  # fmt: skip
        return _results(done.stdout)


def build_breakout(podman: Podman, folder: Path, base: str, image: str) -> Path:
    """Build the image of the agent whose code is the attempts; return its source.

    Args:
        podman: the engine.
        folder: for the source.
        base: what the image is made from.
        image: its name.
    """
    source = lay_out_agent(folder, Scenario("user", "process", WORKERS), CONFIG, {})
    for name in ("runtime", "secrets"):
        shutil.rmtree(source / name)
    build_agent(podman, source, base, image)
    return source


def put_secret(vault: Path) -> None:
    """Add to a vault what attempts look for."""
    vault.write_text(json.dumps({**json.loads(vault.read_text()), "key": SECRET}))


@contextmanager
def running_breakout(container: Container, folder: Path, field: Path) -> Iterator[Breakout]:
    """Have a field and a neighbour for the agent in its container, for the time of the block.

    Args:
        container: that has just been started, with `VARIABLES`, and the field at `FIELD`.
        folder: what the machine has of the agent: its ``runtime``.
        field: on the machine.
    """
    with ExitStack() as stack:
        container.wait_ready()
        (folder / "runtime" / "empty").mkdir()
        os.chown(folder / "runtime" / "empty", USER, USER)
        give_up_at = time.monotonic() + START_DEADLINE_S
        while container.status()["workers"]["ready"] < WORKERS:
            assert time.monotonic() < give_up_at, container.logs()[-4000:]
        facts = _serve(container, stack, *NEIGHBOUR)
        breakout = Breakout(container, folder, field, facts, stack)
        port = str(container.call("proxy_port"))
        _serve(container, stack, "python3", "-c", OCCUPANT, port)
        yield breakout


def _serve(container: Container, stack: ExitStack, *words: str) -> Any:
    """Start a program inside, which ends when the stack is left; return the JSON line it prints."""
    process = subprocess.Popen(
        ["podman", "exec", "--interactive", container.name, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=dict(container.podman.environment),
        cwd=container.podman.folder,
    )
    stack.enter_context(process)
    assert process.stdin is not None
    assert process.stdout is not None
    stack.callback(process.stdin.close)
    return json.loads(process.stdout.readline())


def _results(text: str) -> Results:
    return {name: (each[0], each[1]) for name, each in json.loads(text).items()}
