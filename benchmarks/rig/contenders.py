"""Who is measured: how each is installed, started and called."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from rig.environments import BENCHMARKS, Environment
from rig.processes import Server, free_port, start
from rig.wire import BadAnswerError, build_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PEERS = BENCHMARKS / "peers"
AGENTS = BENCHMARKS / "agents"

TEXT = (
    "The host never runs a line of the author's code, so nothing that the code does can delay a "
    "probe, lose a log line, forge a result or lose a task that was accepted; the worker holds no "
    "power, and they talk over a socket pair in frames."
)
INPUT = {"text": TEXT}
OUTPUT = {"summary": " ".join(TEXT.split()[:12]), "words": len(TEXT.split())}


NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


def leave_as_it_is(_folder: Path) -> None:
    """Prepare nothing."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A server to measure.

    Attributes:
        name: short, for options and results.
        title: for tables.
        environment: where it is installed.
        folder: its apps, or None for ours, whose apps are agents.
        alive_path: what a liveness probe asks.
    """

    name: str
    title: str
    environment: Environment
    folder: Path | None
    alive_path: str

    @property
    def ready_path(self) -> str:
        """What tells that it takes requests."""
        return "/readyz" if self.folder is None else self.alive_path

    @contextmanager
    def serve(
        self,
        app: str,
        *,
        core: int | None,
        mode: str = "",
        settings: Mapping[str, str] = NO_SETTINGS,
        prepare: Callable[[Path], None] = leave_as_it_is,
    ) -> Iterator[Server]:
        """Start one of its apps; the server is not up yet when this yields.

        Args:
            app: name of the file, without ``.py``.
            core: the core to stay on, None for any.
            mode: a further argument for the apps that take one.
            settings: further variables of the environment.
            prepare: called with the agent's folder before the start; for ours alone.
        """
        with tempfile.TemporaryDirectory(prefix="kagent-benchmark-") as scratch:
            port = free_port()
            work = Path(scratch)
            python = str(self.environment.python)
            if self.folder is None:
                (work / "agent").mkdir()
                shutil.copyfile(AGENTS / f"{app}.py", work / "agent" / "entrypoint.py")
                prepare(work / "agent")
                command = [python, "-m", "kagent_sdk", "run", str(work / "agent")]
            else:
                command = [python, str(self.folder / f"{app}.py"), str(port)]
                command += [mode] if mode else []
            environment = {**_environment(port), **settings}
            with start(command, port, core=core, folder=work, environment=environment) as server:
                yield server


def _environment(port: int) -> dict[str, str]:
    """Return a plain environment, so that a setting of the caller's shell favours nobody."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    # Where benchmarks run as root, user 1000 may be kept from the interpreter.
    ours = {"AGENT_HTTP__HOST": "127.0.0.1", "AGENT_HTTP__PORT": str(port)}
    return {**kept, **ours, "AGENT_WORKER__USER": "keep"}


AIOHTTP = Contender(
    "aiohttp",
    "bare aiohttp",
    Environment("aiohttp", PEERS / "aiohttp" / "requirements.txt", ("aiohttp", "pydantic")),
    PEERS / "aiohttp",
    "/healthz",
)
FASTAPI = Contender(
    "fastapi",
    "FastAPI + uvicorn",
    Environment(
        "fastapi", PEERS / "fastapi" / "requirements.txt", ("fastapi", "uvicorn", "h11", "pydantic")
    ),
    PEERS / "fastapi",
    "/healthz",
)
FASTAPI_STANDARD = Contender(
    "fastapi-standard",
    "FastAPI + uvicorn[standard]",
    Environment(
        "fastapi-standard",
        PEERS / "fastapi" / "requirements-standard.txt",
        ("fastapi", "uvicorn", "httptools", "uvloop", "pydantic"),
    ),
    PEERS / "fastapi",
    "/healthz",
)
AGENTCORE = Contender(
    "agentcore",
    "bedrock-agentcore",
    Environment(
        "agentcore",
        PEERS / "agentcore" / "requirements.txt",
        ("bedrock-agentcore", "starlette", "uvicorn", "pydantic"),
    ),
    PEERS / "agentcore",
    "/ping",
)
OURS = Contender(
    "kagent",
    "kagent_sdk",
    Environment("kagent", None, ("kagent-sdk", "aiohttp", "pydantic")),
    None,
    "/healthz",
)
CONSTANT = Contender("constant", "a constant", AIOHTTP.environment, PEERS / "constant", "/")
CONTENDERS = (AIOHTTP, FASTAPI, FASTAPI_STANDARD, AGENTCORE, OURS)


@dataclass(frozen=True, slots=True)
class Lane:
    """One way to have the digest made: a contender and the request it takes.

    Attributes:
        key: short, for options and results.
        title: for tables.
        contender: the server.
        path: where to POST.
        is_task: the input stands in a task document, and so does the output.
    """

    key: str
    title: str
    contender: Contender
    path: str
    is_task: bool = False

    def request(self) -> bytes:
        """Return the request's bytes."""
        document = {"capability": "digest", "input": INPUT} if self.is_task else INPUT
        return build_request("POST", self.path, json.dumps(document).encode())

    def judge(self, body: bytes) -> Check:
        """Examine a first answer in full and return a quick check for all that follow.

        Raises:
            BadAnswerError: the body is not what the digest of `INPUT` must be.
        """
        document = json.loads(body)
        output = document.get("output") if self.is_task else document
        if output != OUTPUT or (self.is_task and document.get("state") != "completed"):
            raise BadAnswerError(f"{self.title} answered {body[:500]!r}")
        return TaskCheck(body) if self.is_task else SameBody(body)


class SameBody:
    """Every answer must have the body of the first, byte for byte."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __call__(self, answer: bytes, body_start: int) -> bool:
        """Compare the body."""
        return answer.endswith(self._body, body_start)


class TaskCheck:
    """Every answer must hold a completed task with the right output; ids and times differ."""

    def __init__(self, body: bytes) -> None:
        separators = ((",", ":"), (", ", ": "))
        written = [json.dumps(OUTPUT, separators=pair).encode() for pair in separators]
        self._output = next(output for output in written if output in body)

    def __call__(self, answer: bytes, body_start: int) -> bool:
        """Look for the state and the output."""
        return (
            answer.find(self._output, body_start) > 0
            and answer.find(b'"completed"', body_start) > 0
        )


Check = SameBody | TaskCheck

LANES = (
    Lane("aiohttp", AIOHTTP.title, AIOHTTP, "/digest"),
    Lane("fastapi", FASTAPI.title, FASTAPI, "/digest"),
    Lane("fastapi-standard", FASTAPI_STANDARD.title, FASTAPI_STANDARD, "/digest"),
    Lane("agentcore", AGENTCORE.title, AGENTCORE, "/invocations"),
    Lane("fast-path", "kagent_sdk, /v1/capabilities", OURS, "/v1/capabilities/digest"),
    Lane("tasks", "kagent_sdk, /v1/tasks", OURS, "/v1/tasks", is_task=True),
)
