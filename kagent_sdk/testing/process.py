"""A real agent under test: a host and its worker, in a copy of the agent's folder."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kagent_sdk.testing.host_process import HostProcess
from kagent_sdk.testing.process_client import ProcessClient, error_in
from kagent_sdk.testing.process_failures import AgentFailedError
from kagent_sdk.testing.process_faults import ProcessFaults
from kagent_sdk.testing.process_tasks import ProcessTasks
from kagent_sdk.testing.settings import as_environment
from kagent_sdk.testing.waiting import Condition, until

LEFTOVERS = shutil.ignore_patterns(
    "runtime", "logs", ".venv", "venv", ".git", "__pycache__", ".*_cache"
)


class AgentProcess:
    """Runs a copy of an agent's folder, on a free port, until the block ends.

    ::

        async with AgentProcess(folder, config={"tasks": {"max_queue": 3}}) as process:
            assert await process.call("greet", name="Ada") == {"text": "Hello, Ada!"}

    The copy begins without ``runtime/`` and ``logs/``. Whatever the agent has started is gone after
    the block. An agent that ended by itself meanwhile, with another code than 0, fails the test.

    Args:
        folder: the agent's; it is left as it is.
        config: overrides for config.yaml, by section.
        environ: overrides for the environment, ``AGENT_*`` variables among them.
        secrets: the content of ``secrets/vault.json``; that of the folder if None.

    Attributes:
        folder: the copy.
        tasks: ``/v1/tasks``.
        faults: what can go wrong, on demand.
    """

    folder: Path

    def __init__(
        self,
        folder: Path | str,
        *,
        config: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        secrets: Mapping[str, Any] | None = None,
    ) -> None:
        self._source = Path(folder)
        self._environment = {**as_environment(config or {}), **(environ or {})}
        self._secrets = secrets
        self._place: Path | None = None
        self._host: HostProcess | None = None
        self._client = ProcessClient()
        self._is_end_expected = False
        self.tasks = ProcessTasks(self._client)
        self.faults = ProcessFaults(self)

    async def __aenter__(self) -> Self:
        """Copy the folder, start the agent, and return when it takes tasks.

        Raises:
            AgentFailedError: it ended, or was not ready within a minute.
        """
        self._place = Path(tempfile.mkdtemp(prefix="kagent-test-"))
        try:
            self._copy(self._place)
            await self.start()
        except BaseException:
            await self._clean_up()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the agent, if it still runs, and remove all that is left of it."""
        try:
            if error is None:
                await self._end()
            elif isinstance(error, AssertionError) and self._host is not None:
                error.add_note(str(self.host.fail("while the agent ran")))
        finally:
            await self._clean_up()

    def _copy(self, place: Path) -> None:
        self.folder = place / self._source.resolve().name
        shutil.copytree(self._source, self.folder, ignore=LEFTOVERS)
        if self._secrets is not None:
            self.faults.write_vault(self._secrets)

    async def _end(self) -> None:
        code = self.exit_code
        if code is None:
            code = await self.terminate()
        if code != 0 and not self._is_end_expected:
            raise self.host.fail(f"the agent ended with exit code {code}")
        if left := self.host.processes():
            raise self.host.fail(f"the agent has left processes: {left}")

    async def _clean_up(self) -> None:
        with suppress(OSError):
            await self._client.aclose()
        if self._host is not None:
            self._host.kill_all()
        if self._place is not None:
            shutil.rmtree(self._place, ignore_errors=True)

    # Its life

    @property
    def host(self) -> HostProcess:
        """The present host process.

        Raises:
            RuntimeError: none was started.
        """
        if self._host is None:
            raise RuntimeError("not started: `async with AgentProcess(folder) as process:`")
        return self._host

    async def start(self) -> None:
        """Start the agent again in its folder, after it has ended; return when it takes tasks.

        Raises:
            AgentFailedError: it ended, or was not ready within a minute.
        """
        if self._host is not None:
            if self._host.exit_code is None:
                raise RuntimeError("the agent runs already")
            self._host.kill_all()
        self._is_end_expected = False
        self._host = HostProcess(self.folder, self._environment)
        await self.wait_ready()

    async def wait_ready(self) -> None:
        """Return when the agent takes tasks.

        Raises:
            AgentFailedError: it ended, or was not ready within a minute.
        """

        async def is_ready() -> bool:
            if self.exit_code is not None:
                raise self.host.fail(f"the agent ended with exit code {self.exit_code}")
            self._client.url = self.host.find_url() or ""
            return bool(self.url) and await self._client.is_ready()

        await self.wait_until(is_ready, "the start of the agent")

    async def wait_until(self, condition: Condition, what: str = "it") -> None:
        """Return as soon as a condition holds, plain or async.

        Args:
            condition: looked at again and again.
            what: is to happen; for the message.

        Raises:
            AgentFailedError: it does not within a minute.
        """
        await until(condition, what, fail=self.host.fail)

    async def wait_exit(self) -> int:
        """Wait until the host has ended, and return its exit code.

        Raises:
            AgentFailedError: it does not within a minute.
        """
        await self.wait_until(lambda: self.exit_code is not None, "the agent's end")
        code = self.exit_code
        assert code is not None
        self._is_end_expected = True
        return code

    async def terminate(self) -> int:
        """Ask the agent to stop (SIGTERM), wait for it, and return its exit code."""
        self.host.signal(signal.SIGTERM)
        return await self.wait_exit()

    async def kill(self) -> int:
        """Kill the host (SIGKILL), and with it its worker; return the exit code, -9."""
        self.host.signal(signal.SIGKILL)
        return await self.wait_exit()

    async def kill_worker(self) -> int:
        """Kill the worker (SIGKILL); see `ProcessFaults.kill_worker`."""
        return await self.faults.kill_worker()

    @property
    def exit_code(self) -> int | None:
        """How the host has ended; None while it runs, -9 after SIGKILL."""
        return self.host.exit_code

    @property
    def url(self) -> str:
        """Where the control plane is."""
        return self._client.url

    # What it does

    async def call(self, capability: str, input: object = None, /, **arguments: object) -> Any:
        """Call a capability and return its output; of a stream the list of its items.

        Args:
            capability: its name.
            input: a model, or anything that JSON can hold; or its members as ``arguments``.
            arguments: the members of the input, by name.

        Raises:
            TaskError: the task was not taken, or failed.
        """
        body = arguments if input is None else input
        status, output = await self.request("POST", f"/v1/capabilities/{capability}", body)
        if status != 200:
            raise error_in(status, output)
        return output

    async def stream(
        self, capability: str, input: object = None, /, **arguments: object
    ) -> AsyncIterator[Any]:
        """Call a capability, and iterate over what it yields or emits, as it comes.

        Raises:
            TaskError: the task was not taken, or failed.
        """
        body = arguments if input is None else input
        async for name, data in self._client.stream(f"/v1/capabilities/{capability}", body):
            if name == "event":
                yield data
            elif name == "task" and data["state"] != "completed":
                raise error_in(500, {"error": data["error"]})

    async def request(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Send any request to the control plane; return the status, and the body as JSON."""
        return await self._client.request(method, path, body, headers)

    async def status(self) -> dict[str, Any]:
        """Return the ``/status`` document."""
        _, document = await self.request("GET", "/status")
        assert isinstance(document, dict)
        return document

    async def worker_pid(self) -> int:
        """Return the process id of the first worker that runs."""
        processes = (await self.status())["processes"]
        pids = [part["pid"] for part in processes if part["role"] == "worker" and part["pid"]]
        if not pids:
            raise self.host.fail("no worker runs")
        return int(pids[0])

    # What it says

    @property
    def output(self) -> str:
        """What host and worker have written to stdout and stderr so far."""
        return self.host.output

    def logs(self, event: str | None = None, **values: object) -> list[dict[str, Any]]:
        """Return the records of the present host and its workers; only those that have these values."""
        wanted = values if event is None else {"event": event, **values}
        return [
            record
            for record in self.host.records
            if all(key in record and record[key] == value for key, value in wanted.items())
        ]

    async def wait_logged(self, event: str, **values: object) -> dict[str, Any]:
        """Wait for a record of an event that has these values, and return the first.

        Raises:
            AgentFailedError: none comes within a minute.
        """
        shown = json.dumps(values, default=str)
        await self.wait_until(lambda: bool(self.logs(event, **values)), f"a record {event} {shown}")
        return self.logs(event, **values)[0]


__all__ = ["AgentFailedError", "AgentProcess"]
