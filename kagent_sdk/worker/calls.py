"""Tasks that this agent's code sends to other capabilities."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from itertools import count
from typing import Any

from pydantic_core import to_json

from kagent_sdk.context.pending import is_in_event_loop
from kagent_sdk.errors import CallError, ProtocolError, TaskInterrupted
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.messages import CallHead, decode_failure, decode_object, encode_call
from kagent_sdk.protocol.tasks import ErrorCode
from kagent_sdk.worker.connection import Connection
from kagent_sdk.worker.mailbox import Mailbox

MAX_PENDING = 1000
"""Calls that may wait for an answer: each holds memory here and in the host."""


class Call:
    """A call under way: await it, or take its `result` in a thread."""

    __slots__ = ("_future",)

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def __await__(self) -> Generator[Any, None, Any]:
        """Return the output, or raise `CallError`."""
        return asyncio.wrap_future(self._future).__await__()

    def result(self, timeout_s: float | None = None) -> Any:
        """Block this thread until the output is there; see `kagent_sdk.context.PendingCall`."""
        if is_in_event_loop():
            raise RuntimeError("result() would block the event loop: write `await ctx.call(...)`")
        return self._future.result(timeout_s)


class Calls:
    """All calls under way, by number.

    Args:
        max_input_bytes: the largest input that may be sent.
    """

    def __init__(self, connection: Connection, mailbox: Mailbox, max_input_bytes: int) -> None:
        self._connection = connection
        self._mailbox = mailbox
        self._max_input_bytes = max_input_bytes
        self._numbers = count(1)
        self._pending: dict[int, tuple[Future[Any], object]] = {}

    def send(
        self,
        owner: object,
        *,
        agent: str,
        capability: str,
        input: object,
        timeout_s: float | None,
        traceparent: str | None,
    ) -> Call:
        """Send a call at once; thread-safe.

        Args:
            owner: for `interrupt`.
            agent: the other agent's name.
            capability: the other capability's name.
            input: anything that JSON can hold.
            timeout_s: how long the other task may take.
            traceparent: W3C trace context to go along.

        Raises:
            CallError: the input is not JSON or too large, or too many calls are under way.
        """
        if len(self._pending) >= MAX_PENDING:
            message = f"{MAX_PENDING} calls wait for an answer already"
            raise CallError("too_many_calls", message, retryable=True)
        head = CallHead(agent, capability, timeout_s, traceparent)
        payload = encode_call(head, self._encode(input))
        number = next(self._numbers)
        future: Future[Any] = Future()
        self._pending[number] = (future, owner)
        if self._mailbox.is_here:
            self._connection.send(Kind.CALL, number, payload)
        else:
            self._mailbox.post(self._connection.send, Kind.CALL, number, payload)
        return Call(future)

    def answer(self, number: int, payload: bytes) -> None:
        """Take an ANSWER frame; one that nobody waits for any more is dropped.

        Raises:
            ProtocolError: the payload is malformed.
        """
        future, _ = self._pending.pop(number, (None, None))
        if future is None:
            return
        document = decode_object(payload)
        # The caller may have given up: a cancelled future takes no answer.
        with suppress(InvalidStateError):
            if "error" in document:
                future.set_exception(_error_of(document["error"]))
            else:
                future.set_result(document.get("output"))

    def interrupt(self, owner: object) -> None:
        """Wake the threads of a cancelled task that wait for an answer, with `TaskInterrupted`."""
        for future, its_owner in tuple(self._pending.values()):
            if its_owner is owner:
                with suppress(InvalidStateError):
                    future.set_exception(TaskInterrupted("cancelled while waiting for a call"))

    def _encode(self, input: object) -> bytes:
        try:
            payload = to_json(input, inf_nan_mode="null")
        except (ValueError, RecursionError) as exc:
            message = f"the input of the call cannot be written as JSON: {exc}"
            raise CallError(ErrorCode.INVALID_INPUT, message, status=422) from exc
        if len(payload) > self._max_input_bytes:
            message = (
                f"the input of the call has {len(payload)} bytes, "
                f"over the limit of {self._max_input_bytes}"
            )
            raise CallError(ErrorCode.INVALID_INPUT, message, status=422)
        return payload


def _error_of(document: object) -> CallError:
    if not isinstance(document, dict):
        raise ProtocolError("malformed ANSWER frame: error is not an object")
    failure = decode_failure(to_json({"status": 502, **document}))
    return CallError(
        failure.code,
        failure.message,
        retryable=failure.retryable,
        details=failure.details,
        status=failure.status,
    )
