"""Run real agents in tests: one host process each, found through ``runtime/host.json``.

::

    with running_agent(tmp_path / "hello", env={"AGENT_TASKS__MAX_QUEUE": "3"}) as agent:
        assert agent.call("greet", {"name": "Ada"}) == {"text": "Hello, Ada!"}

Leaving the block stops the agent with SIGTERM and fails the test when the exit code is not 0 or
when a process or ``runtime/host.json`` is left behind. A test that ends the agent by itself calls
`RunningAgent.stop` or `RunningAgent.wait`; the block then only looks for what is left.
`start_agent` starts a host without waiting for it, for tests of a start that fails.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from kagent_sdk.testing import AgentFailedError, host_process

REPOSITORY = Path(__file__).resolve().parent.parent
START_DEADLINE_S = 30.0
"""Two shared, noisy cores: a start takes a second, the deadline is for a machine that is busy."""
STOP_DEADLINE_S = 40.0
"""Over the default ``shutdown.grace_s`` of 25 s."""
POLL_S = 0.02

MARKER_NAME = host_process.MARKER_NAME
coverage_environment = host_process.coverage_environment


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer; a status over 399 is an answer like any other."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as parsed JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class SentEvent:
    """One server-sent event, its data parsed."""

    name: str
    data: Any
    id: str | None = None


@dataclass(slots=True)
class RunningAgent:
    """A host process that a test started.

    Attributes:
        directory: the agent's folder.
        process: the host.
        log_file: everything that the host wrote to stdout and stderr.
        marker: value of the environment variable that all its processes carry.
        url: base URL of the control plane; empty until `wait_ready`.
    """

    directory: Path
    process: subprocess.Popen[bytes]
    log_file: Path
    marker: str
    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        """The host's process id."""
        return self.process.pid

    @property
    def worker_pids(self) -> list[int]:
        """The workers' process ids, as ``/status`` tells them."""
        processes = self.status()["processes"]
        return [part["pid"] for part in processes if part["role"] == "worker" and part["pid"]]

    @property
    def log_text(self) -> str:
        """What the host has written so far."""
        return self.log_file.read_text(errors="replace")

    @property
    def records(self) -> list[dict[str, Any]]:
        """The log records that the host has written so far."""
        lines = self.log_text.rpartition("\n")[0].splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def logged(self, event: str, **values: object) -> list[dict[str, Any]]:
        """Return the records of an event that have these values."""
        wanted = {"event": event, **values}
        return [
            record for record in self.records if {key: record.get(key) for key in wanted} == wanted
        ]

    def wait_logged(self, event: str, **values: object) -> dict[str, Any]:
        """Wait for a record of an event that has these values, and return the first."""
        give_up_at = time.monotonic() + START_DEADLINE_S
        while not (found := self.logged(event, **values)):
            assert time.monotonic() < give_up_at, f"no {event} {values}\n{self._tail}"
            time.sleep(POLL_S)
        return found[0]

    def processes(self) -> list[psutil.Process]:
        """Return every living process of this agent, orphans included, host first."""
        found = host_process.find_processes(self.marker)
        return sorted(found, key=lambda process: (process.pid != self.pid, process.pid))

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30,
    ) -> Answer:
        """Send one request; ``body`` is sent as it is when bytes, else as JSON unless None."""
        request = self._build(method, path, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as response:
                return Answer(response.status, dict(response.headers), response.read())
        except urllib.error.HTTPError as exc:
            with exc:
                return Answer(exc.code, dict(exc.headers), exc.read())

    def get(self, path: str, **options: Any) -> Answer:
        """Send a GET request."""
        return self.request("GET", path, **options)

    def post(self, path: str, body: object = None, **options: Any) -> Answer:
        """Send a POST request."""
        return self.request("POST", path, body, **options)

    def status(self) -> dict[str, Any]:
        """Return the ``/status`` document."""
        answer = self.get("/status")
        assert answer.status == 200, answer
        document = answer.json()
        assert isinstance(document, dict)
        return document

    def call(self, capability: str, input: object = None, *, timeout_s: float = 60) -> Any:
        """Call a capability on the fast path and return its output; any error fails the test."""
        body = {} if input is None else input
        answer = self.post(f"/v1/capabilities/{capability}", body, timeout_s=timeout_s)
        assert answer.status == 200, (answer.status, answer.body[:2000])
        return answer.json()

    def stream(
        self, capability: str, input: object = None, *, timeout_s: float = 60
    ) -> Generator[SentEvent, None, None]:
        """Call a capability and yield its server-sent events; closing it closes the connection.

        ``timeout_s`` bounds each wait for bytes, not the whole stream.
        """
        request = self._build(
            "POST",
            f"/v1/capabilities/{capability}",
            {} if input is None else input,
            {"Accept": "text/event-stream"},
        )
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            yield from parse_events(line.decode() for line in response)

    def wait_ready(self, deadline_s: float = START_DEADLINE_S) -> None:
        """Wait until ``/readyz`` is 200.

        Raises:
            AgentFailedError: the host ended first, or the deadline passed.
        """
        give_up_at = time.monotonic() + deadline_s
        while time.monotonic() < give_up_at:
            if self.process.poll() is not None:
                raise AgentFailedError(
                    f"the host ended with {self.process.returncode}\n{self._tail}"
                )
            if self._is_ready():
                return
            time.sleep(POLL_S)
        raise AgentFailedError(f"not ready after {deadline_s:.0f} s\n{self._tail}")

    def wait(self, deadline_s: float = STOP_DEADLINE_S) -> int:
        """Wait until the host has ended and return its exit code."""
        try:
            return self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AgentFailedError(f"still there after {deadline_s:.0f} s\n{self._tail}") from None

    def stop(self, signal_number: int = signal.SIGTERM, deadline_s: float = STOP_DEADLINE_S) -> int:
        """Signal the host, wait for its end and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        return self.wait(deadline_s)

    def assert_nothing_left(self, deadline_s: float = 10.0) -> None:
        """Fail if a process of the agent or its ``runtime/host.json`` is still there."""
        give_up_at = time.monotonic() + deadline_s
        while (left := self.processes()) and time.monotonic() < give_up_at:
            time.sleep(POLL_S)
        assert not left, f"left running: {left}\n{self._tail}"
        assert not (self.directory / "runtime" / "host.json").exists(), "runtime/host.json is left"

    def kill(self) -> None:
        """Kill every process of the agent; for the end of a test that failed."""
        for process in self.processes():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait()

    def _is_ready(self) -> bool:
        try:
            document = json.loads((self.directory / "runtime" / "host.json").read_bytes())
            if document["pid"] != self.pid:
                return False
            self.url = document["url"].rstrip("/")
            return self.get("/readyz", timeout_s=5).status == 200
        except (OSError, ValueError):
            return False

    def _build(
        self, method: str, path: str, body: object, headers: Mapping[str, str] | None
    ) -> urllib.request.Request:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, dict(self.headers), method=method)
        if data is not None:
            request.add_header("Content-Type", "application/json")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        return request

    @property
    def _tail(self) -> str:
        return self.log_text[-4000:]


def start_agent(
    directory: Path,
    *,
    env: Mapping[str, str] | None = None,
    arguments: Sequence[str] | None = None,
    stdout: int | None = None,
) -> RunningAgent:
    """Start the host of the agent in ``directory`` on a free loopback port; do not wait for it.

    Args:
        directory: the agent's folder.
        env: added to the environment, from which all of ``AGENT_*`` is removed first.
        arguments: the interpreter's arguments, relative to ``directory``; ``-m kagent_sdk run
            DIRECTORY`` if None.
        stdout: a descriptor for the host to write to, instead of the log file.
    """
    marker = uuid.uuid4().hex
    log_file = directory.parent / f"{directory.name}-{marker[:8]}.host.log"
    command = [sys.executable, *(arguments or ("-m", "kagent_sdk", "run", str(directory)))]
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=agent_environment(env, marker),
            stdin=subprocess.DEVNULL,
            stdout=log if stdout is None else stdout,
            stderr=log,
        )
    return RunningAgent(directory, process, log_file, marker)


def agent_environment(env: Mapping[str, str] | None, marker: str) -> dict[str, str]:
    """Return an environment that no surrounding agent, proxy or terminal can leak into.

    Workers stay the caller: where tests run as root, user 1000 may be kept from the interpreter, or
    from pytest's folders; tests of users take both elsewhere.
    """
    return host_process.agent_environment(env or {}, marker)


@contextmanager
def running_agent(
    directory: Path,
    *,
    env: Mapping[str, str] | None = None,
    arguments: Sequence[str] | None = None,
    deadline_s: float = START_DEADLINE_S,
    exit_code: int | None = 0,
    stdout: int | None = None,
) -> Iterator[RunningAgent]:
    """Run the agent in ``directory`` for the time of the block.

    Args:
        directory: the agent's folder.
        env: see `start_agent`.
        arguments: see `start_agent`.
        deadline_s: how long it may take to become ready.
        exit_code: what the host must end with; None: anything.
        stdout: see `start_agent`.
    """
    agent = start_agent(directory, env=env, arguments=arguments, stdout=stdout)
    try:
        agent.wait_ready(deadline_s)
        yield agent
        code = agent.stop()
        assert exit_code is None or code == exit_code, f"exit code {code}\n{agent.log_text[-4000:]}"
        agent.assert_nothing_left()
    finally:
        agent.kill()


@asynccontextmanager
async def running_agent_async(
    directory: Path,
    *,
    env: Mapping[str, str] | None = None,
    arguments: Sequence[str] | None = None,
    deadline_s: float = START_DEADLINE_S,
    exit_code: int | None = 0,
) -> AsyncIterator[RunningAgent]:
    """Do what `running_agent` does without blocking the event loop.

    The agent's methods still block: use an aiohttp client on `RunningAgent.url`, or
    `asyncio.to_thread`.
    """
    block = running_agent(
        directory, env=env, arguments=arguments, deadline_s=deadline_s, exit_code=exit_code
    )
    agent = await asyncio.to_thread(block.__enter__)
    try:
        yield agent
    except BaseException as exc:
        if not await asyncio.to_thread(block.__exit__, type(exc), exc, exc.__traceback__):
            raise
    else:
        await asyncio.to_thread(block.__exit__, None, None, None)


def copy_example(name: str, target: Path) -> Path:
    """Copy ``examples/NAME`` to ``target``/NAME without what a run leaves; return the copy."""
    copy = target / name
    leftovers = shutil.ignore_patterns("runtime", "logs", "__pycache__", ".venv", "secrets")
    shutil.copytree(REPOSITORY / "examples" / name, copy, ignore=leftovers)
    return copy


def parse_events(lines: Iterator[str]) -> Iterator[SentEvent]:
    """Read server-sent events (https://html.spec.whatwg.org/#parsing-an-event-stream)."""
    name, data, last_id = "message", "", None
    for raw in lines:
        line = raw.rstrip("\r\n")
        key, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield SentEvent(name, json.loads(data), last_id)
            name, data = "message", ""
        elif key == "event":
            name = value
        elif key == "data":
            data += value if not data else f"\n{value}"
        elif key == "id":
            last_id = value
