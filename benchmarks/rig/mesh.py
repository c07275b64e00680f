"""A mesh to measure: an orchestrator or a NATS server, and replicas of one agent."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rig.contenders import AGENTS, OURS
from rig.processes import Server, ServerError, free_port, start
from rig.wire import HOST, build_request, is_answered, read_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

AGENT = "digest"
WAIT_S = 60.0
POLL_S = 0.05
HTTP_OK = range(200, 300)
OPERATOR_TOKEN = secrets.token_urlsafe(32)
"""Of every orchestrator that is measured."""

STATUS = {"lifecycle": "ready", "ready": True, "working": 0, "queued": 0}


@contextmanager
def orchestrator(core: int | None = None) -> Iterator[Server]:
    """Run an orchestrator that answers."""
    with tempfile.TemporaryDirectory(prefix="kagent-benchmark-") as scratch:
        port = free_port()
        command = [str(OURS.environment.python), "-m", "kagent_sdk", "orchestrator"]
        token = Path(scratch, "operators.token")
        token.touch(0o600)
        token.write_text(OPERATOR_TOKEN)
        command += ["--port", str(port), "--operator-token-file", str(token)]
        environment = plain_environment()
        with start(
            command, port, core=core, folder=Path(scratch), environment=environment
        ) as server:
            server.wait_until_ok("/healthz")
            yield server


@contextmanager
def nats_server() -> Iterator[Server]:
    """Run a NATS server with JetStream that answers.

    Raises:
        ServerError: it is not installed.
    """
    program = shutil.which("nats-server")
    if program is None:
        raise ServerError("nats-server is not installed")
    with tempfile.TemporaryDirectory(prefix="kagent-benchmark-") as scratch:
        port, monitor = free_port(), free_port()
        command = [program, "-js", "-sd", scratch, "-a", HOST, "-p", str(port), "-m", str(monitor)]
        folder = Path(scratch)
        with start(
            command, port, core=None, folder=folder, environment=plain_environment()
        ) as server:
            healthz = build_request("GET", "/healthz", close=True)
            wait_for(lambda: is_answered(monitor, healthz, timeout_s=1), server)
            yield server


@contextmanager
def replicas(url: str, count: int) -> Iterator[list[Server]]:
    """Run so many replicas of the digest agent with a link to ``url``; all of them are ready."""
    with tempfile.TemporaryDirectory(prefix="kagent-benchmark-") as scratch, ExitStack() as stack:
        servers = []
        for number in range(count):
            folder = Path(scratch, str(number), AGENT)
            folder.mkdir(parents=True)
            shutil.copyfile(AGENTS / "digest.py", folder / "entrypoint.py")
            port = free_port()
            command = [str(OURS.environment.python), "-m", "kagent_sdk", "run", str(folder)]
            environment = {
                **plain_environment(),
                "AGENT_HTTP__HOST": HOST,
                "AGENT_HTTP__PORT": str(port),
                "AGENT_ORCHESTRATOR__URL": url,
                "AGENT_ORCHESTRATOR__REQUIRED": "true",  # ready means that there is a link
            }
            started = start(command, port, core=None, folder=folder, environment=environment)
            servers.append(stack.enter_context(started))
        for server in servers:
            server.wait_until_ok("/readyz")
        yield servers


def plain_environment() -> dict[str, str]:
    """Return an environment in which nothing of the caller's shell counts."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    # Where benchmarks run as root, user 1000 may be kept from the interpreter.
    return {**kept, "AGENT_WORKER__USER": "keep"}


def wait_for(condition: Callable[[], bool], server: Server, *, within_s: float = WAIT_S) -> None:
    """Wait until something is so.

    Raises:
        ServerError: it does not become so in time.
    """
    give_up_at = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > give_up_at:
            raise ServerError(f"waited for too long:\n{server.printed()}")
        time.sleep(POLL_S)


def registration(number: int) -> dict[str, Any]:
    """Return the registration of an agent that is not there: it asks for tasks, and never does."""
    schema = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    return {
        "agent": f"simulated-{number}",
        "instance": secrets.token_urlsafe(16),
        "version": "1.0",
        "sdk_version": "0.1.0",
        "delivery": "pull",
        "capabilities": [
            {
                "name": f"work-{name}",
                "description": "Do some work.",
                "input_schema": schema,
                "output_schema": schema,
            }
            for name in range(3)
        ],
        "limits": {"max_concurrency": 4, "max_queue": 100},
        "status": STATUS,
    }


class Line:
    """One connection, kept open, for one request after the other."""

    def __init__(self, port: int) -> None:
        self._connection = socket.create_connection((HOST, port), timeout=WAIT_S)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def post(self, path: str, document: object) -> Any:
        """Send a document and return the one that answers.

        Raises:
            ServerError: the answer is an error.
        """
        self._connection.sendall(build_request("POST", path, json.dumps(document).encode()))
        answer = read_answer(self._connection)
        if answer.status not in HTTP_OK:
            raise ServerError(f"{path} answered {answer.status}: {answer.body[:500]!r}")
        return json.loads(answer.body) if answer.body else None


def post_all(port: int, requests: Sequence[tuple[str, object]]) -> float:
    """Send requests, one after the other; return the seconds that they took."""
    with Line(port) as line:
        began_s = time.perf_counter()
        for path, document in requests:
            line.post(path, document)
        return time.perf_counter() - began_s
