"""Other agents, as far as a test needs them: what they answer to ``ctx.call`` and ``ctx.stream``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any

from pydantic_core import from_json, to_json

from kagent_sdk.errors import TaskError
from kagent_sdk.link.port import CallFailedError, LinkStatus, OutgoingCall
from kagent_sdk.protocol.tasks import ErrorCode, TaskFailure

OnItem = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class MadeCall:
    """A call that the agent has sent to another one.

    Attributes:
        id: of the other agent's task.
        agent: by name; None for any agent that offers the capability.
        input: as the other agent would see it.
        timeout_s: how long the other agent has; None: its own time.
        labels: those that the other agent must have.
    """

    id: str
    agent: str | None
    capability: str
    input: Any
    timeout_s: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


class ScriptedCalls:
    """A link to agents that exist in the test alone (`kagent_sdk.link.port.Link`).

    Attributes:
        calls: those that were made, in order.
    """

    def __init__(self) -> None:
        self.status = LinkStatus(state="up", orchestrator="test")
        self.calls: list[MadeCall] = []
        self._answers: dict[str, object] = {}

    @property
    def is_scripted(self) -> bool:
        """Whether there is any other agent."""
        return bool(self._answers)

    def script(self, target: str, answer: object) -> None:
        """Say what a capability of another agent answers; see `AgentHarness.answer`."""
        self._answers[target] = answer

    async def run(self) -> None:
        """Do nothing: there is nobody to register with."""

    async def drain(self) -> None:
        """Do nothing."""

    async def close(self, within_s: float) -> None:
        """Do nothing."""

    async def call(self, call: OutgoingCall, on_item: OnItem | None = None) -> bytes:
        """Answer as the test has said.

        Raises:
            CallFailedError: nothing was said of this capability, or the answer is a failure.
        """
        input = from_json(call.input)
        self.calls.append(
            MadeCall(call.task, call.agent, call.capability, input, call.timeout_s, call.labels)
        )
        answer = self._find(call)
        try:
            return await _give(answer(input) if callable(answer) else answer, on_item)
        except TaskError as error:
            raise CallFailedError(_failure(error)) from error

    def _find(self, call: OutgoingCall) -> object:
        names = (f"{call.agent}/{call.capability}", call.capability)
        for name in names:
            if name in self._answers:
                return self._answers[name]
        target = call.capability if call.agent is None else names[0]
        message = f"the test says nothing of {target!r}: harness.answer({target!r}, …) does"
        raise CallFailedError(TaskFailure(ErrorCode.UNREACHABLE, message, status=502))


async def _give(answer: object, on_item: OnItem | None) -> bytes:
    if isawaitable(answer):
        answer = await answer
    if isinstance(answer, TaskError):
        raise answer
    if isinstance(answer, AsyncIterable):
        items = [await _pass_on(item, on_item) async for item in answer]
        return b"[" + b",".join(items) + b"]"
    output = to_json(answer)
    if on_item is not None and isinstance(answer, list):
        for item in answer:
            await _pass_on(item, on_item)
    # A function that answers at once takes a turn of the loop all the same, as a network does.
    await asyncio.sleep(0)
    return output


async def _pass_on(item: object, on_item: OnItem | None) -> bytes:
    data = to_json(item)
    if on_item is not None:
        await on_item(data)
    return data


def _failure(error: TaskError) -> TaskFailure:
    return TaskFailure(
        error.code,
        error.message,
        retryable=error.retryable,
        details=error.details,
        status=error.status,
    )
