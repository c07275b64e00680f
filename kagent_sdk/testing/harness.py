"""An agent inside a test's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from pydantic_core import to_json

from kagent_sdk.agent import Agent
from kagent_sdk.errors import StartupError, TaskError
from kagent_sdk.host.engine import (
    IdConflictError,
    RefusedError,
    UnknownCapabilityError,
)
from kagent_sdk.host.task import Submission
from kagent_sdk.protocol.problems import unknown_capability
from kagent_sdk.testing.clock import Clock, ClockError
from kagent_sdk.testing.harness_task import HarnessTask
from kagent_sdk.testing.in_process import InProcessHost
from kagent_sdk.testing.job_watch import JobWatch
from kagent_sdk.testing.records import capturing, stream_into
from kagent_sdk.testing.scripted_calls import MadeCall, ScriptedCalls
from kagent_sdk.testing.settings import find_agent
from kagent_sdk.testing.single_turns import run_turn
from kagent_sdk.worker.record_writer import OWN_STREAM

if TYPE_CHECKING:
    from kagent_sdk.config.models import AgentConfig
    from kagent_sdk.context.state import State

Output = TypeVar("Output")

STARTING_TURNS = 4
"""Of the loop: a frame is written, read, makes a job, and the job begins."""


class AgentHarness:
    """Runs an agent in the test's process and event loop, with the runtime that it has in production.

    ::

        async with AgentHarness(agent, secrets={"api_key": "k"}) as harness:
            assert await harness.call("greet", name="Ada") == {"text": "Hello, Ada!"}

    Inputs and outputs are validated, tasks have deadlines and attempts, the state has its
    transactions. There is no process, no socket, no sandbox and no file; what needs those is for
    `AgentProcess`. When the block ends, tasks are cancelled, ``on_shutdown`` runs, the jobs that the
    agent has started are cancelled, and what the harness changed in the process is as it was.

    Args:
        agent: the agent, or the folder of one (`load_agent`), whose config.yaml counts then. It may be
            run again in another harness.
        secrets: what the agent may read, whatever the configuration exposes.
        state: what its state begins with; values are anything that pydantic can write as JSON.
        clock: for a time of your choice; one that goes with the real time if None.
        config: what config.yaml would say, or the folder of one; the folder's own, or else the
            defaults, if None.
        loops: whether the agent's loops run by themselves, as in production; else only in `run_loop`.

    Attributes:
        logs: the records that the agent has logged, as `logs/runtime.log` would have them.
        clock: the time of this harness.
    """

    def __init__(
        self,
        agent: Agent | Path,
        *,
        secrets: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
        config: Mapping[str, Any] | Path | AgentConfig | None = None,
        loops: bool = False,
    ) -> None:
        self.logs: list[dict[str, Any]] = []
        self.clock = clock or Clock()
        self._config, self._agent = find_agent(agent, config)
        self._secrets = dict(secrets or {})
        self._state = {key: to_json(value) for key, value in (state or {}).items()}
        self._calls = ScriptedCalls()
        self._with_loops = loops
        self._host: InProcessHost | None = None
        self._jobs: JobWatch | None = None
        self._stack = ExitStack()

    async def __aenter__(self) -> Self:
        """Start the agent.

        Raises:
            StartupError: an ``on_startup`` function failed, or the agent runs in another harness.
        """
        parts = self._agent.parts
        if not self._with_loops:
            parts = replace(parts, loops=())
        if parts.state.requests is not None:
            raise StartupError("this agent runs already: leave its other harness first")
        self._host = InProcessHost(
            parts,
            self._config,
            clock=self.clock,
            link=lambda: self._calls if self._calls.is_scripted else None,
        )
        try:
            self._open()
            token = OWN_STREAM.set(stream_into(self.logs))
            try:
                self._jobs = self._stack.enter_context(JobWatch())
                await self._host.start(self._state, self._secrets)
            finally:
                OWN_STREAM.reset(token)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the agent, and put everything back."""
        await self._close()

    def _open(self) -> None:
        assert self._host is not None
        self.clock.settle = self._host.settle
        self.clock.open()
        self._stack.callback(self.clock.close)
        self._stack.enter_context(capturing(self._config.logs.level))

    async def _close(self) -> None:
        host, self._host = self._host, None
        try:
            if host is not None:
                await host.aclose()
            if self._jobs is not None:
                await self._jobs.end()
        finally:
            self.clock.settle = None
            self._agent.parts.state.requests = None
            self._stack.close()

    @property
    def _running(self) -> InProcessHost:
        if self._host is None:
            raise RuntimeError(
                "the harness is not open: `async with AgentHarness(agent) as harness:`"
            )
        return self._host

    # Tasks

    @overload
    async def call(
        self,
        capability: str,
        input: object = ...,
        /,
        *,
        output: type[Output],
        timeout_s: float | None = ...,
        metadata: Mapping[str, Any] | None = ...,
        **arguments: object,
    ) -> Output: ...

    @overload
    async def call(
        self,
        capability: str,
        input: object = ...,
        /,
        *,
        output: None = ...,
        timeout_s: float | None = ...,
        metadata: Mapping[str, Any] | None = ...,
        **arguments: object,
    ) -> Any: ...

    async def call(
        self,
        capability: str,
        input: object = None,
        /,
        *,
        output: Any = None,
        timeout_s: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        **arguments: object,
    ) -> Any:
        """Send a task and return its output; of a stream the list of its items.

        Args:
            capability: its name.
            input: a model, or anything that JSON can hold; or give the members of an object as
                ``arguments``.
            output: a model or any other type that pydantic knows; JSON's own types if not given.
            timeout_s: how long the task may take; bounded by the capability's own.
            metadata: for ``ctx.metadata``.
            arguments: the members of the input, by name.

        Raises:
            TaskError: the task was not taken, or failed: ``code`` is what a caller over HTTP would
                be told.
        """
        task = self._submit(capability, _body(input, arguments), timeout_s, metadata, None)
        try:
            return await task.result(output)
        except asyncio.CancelledError:
            await task.cancel()
            raise

    async def start(
        self,
        capability: str,
        input: object = None,
        /,
        *,
        id: str | None = None,
        timeout_s: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        **arguments: object,
    ) -> HarnessTask:
        """Send a task, and return when it has come to its first ``await``, or waits for a place.

        Args:
            capability: as of `call`.
            input: as of `call`.
            id: the task's. The same id with the same input is the same task: it does not run again.
            timeout_s: as of `call`.
            metadata: as of `call`.
            arguments: as of `call`.

        Raises:
            TaskError: the task was not taken.
        """
        if id is not None:
            await self._running.engine.recall(id)
        task = self._submit(capability, _body(input, arguments), timeout_s, metadata, id)
        self._running.engine.events.open(task._task)  # noqa: SLF001 - its other half
        if task._task.safe is not None:  # noqa: SLF001
            await task._task.safe  # noqa: SLF001
        for _ in range(STARTING_TURNS):
            await asyncio.sleep(0)
        return task

    def _submit(
        self,
        capability: str,
        body: bytes,
        timeout_s: float | None,
        metadata: Mapping[str, Any] | None,
        id: str | None,
    ) -> HarnessTask:
        engine = self._running.engine
        submission = Submission(
            id or engine.ids.new(),
            capability,
            body,
            timeout_s=timeout_s,
            metadata=to_json(metadata or {}),
            kept=id is not None,
        )
        try:
            return HarnessTask(engine, engine.submit(submission))
        except UnknownCapabilityError:
            known = self._agent.capabilities
            problem = unknown_capability(capability, known)
            raise TaskError("unknown_capability", problem.detail, status=404) from None
        except IdConflictError:
            message = f"the id {id} belongs to a task with another capability or input"
            raise TaskError("id_conflict", message, status=409) from None
        except RefusedError as refused:
            code = refused.refusal.value
            message = f"the agent takes no task now: {code}"
            raise TaskError(code, message, retryable=True, status=503) from None

    # What is around the tasks

    @property
    def state(self) -> State:
        """The agent's state, to look at and to change; each call commits by itself."""
        return self._agent.state

    @property
    def calls(self) -> list[MadeCall]:
        """What the agent has asked of other agents, in order."""
        return self._calls.calls

    def answer(self, target: str, answer: object) -> None:
        """Say what another agent answers to ``ctx.call`` and ``ctx.stream``.

        Args:
            target: ``agent/capability``, or a capability for any agent that offers it. Calls of the
                agent to itself need no answer: they run.
            answer: the output; or a function of the input that returns it, plain or async; or an
                async generator function, for a stream; a `TaskError`, returned or raised, is the
                other task's failure.
        """
        self._calls.script(target, answer)

    async def rotate_secrets(self, secrets: Mapping[str, Any]) -> None:
        """Give the agent other secrets, as a rotated vault does.

        Returns when it knows them, and its ``on_secrets_changed`` functions have run up to where
        they wait for something.
        """
        self._running.rotate(secrets)
        await self.advance(0)

    async def advance(self, seconds: float) -> None:
        """Move the time on; see `Clock.advance`."""
        if self._host is None:
            raise ClockError("the harness is not open")
        await self.clock.advance(seconds)

    async def run_loop(self, name: str) -> None:
        """Run one turn of a loop and return when it is over, or when a life-long one returns.

        Raises:
            LookupError: the agent has no such loop.
            BaseException: what the loop's function raised.
        """
        await run_turn(self._agent.parts, name, self._running)

    async def crash_worker(self) -> None:
        """Lose the worker in the middle of its tasks, as by SIGKILL, and start another one.

        Tasks that are idempotent run again; the others fail with ``worker_crashed``. ``on_startup``
        runs again. Here the agent's code is cancelled; in production it would not notice anything.
        """
        await self._running.lose_worker()

    def logged(self, event: str, **values: object) -> list[dict[str, Any]]:
        """Return the records of an event that have these values."""
        wanted = {"event": event, **values}
        return [
            record
            for record in self.logs
            if all(key in record and record[key] == value for key, value in wanted.items())
        ]


def _body(input: object, arguments: Mapping[str, object]) -> bytes:
    if arguments and input is not None:
        raise TypeError("give the input, or its members by name, not both")
    return to_json(arguments if input is None else input)
