"""Tasks that this agent's code sends to other capabilities."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, NamedTuple, Protocol

from pydantic_core import to_json

from kagent_sdk.context import CallRequest
from kagent_sdk.context.pending import is_in_event_loop
from kagent_sdk.errors import CallError, ProtocolError, TaskInterrupted
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.messages import (
    COUNT,
    CallHead,
    decode_failure,
    decode_object,
    encode_call,
)
from kagent_sdk.protocol.tasks import ErrorCode
from kagent_sdk.worker.call_items import CallItems, Inflow
from kagent_sdk.worker.connection import Connection
from kagent_sdk.worker.mailbox import Mailbox

MAX_PENDING = 1000
"""Calls that may wait for an answer: each holds memory here and in the host."""

_OUTPUT = b'{"output":'
"""How an ANSWER with an output begins; the rest of it, up to the brace, is the output."""


class Caller(NamedTuple):
    """Who sends a call.

    Attributes:
        owner: for `Calls.interrupt` and `Calls.leave`.
        task: the call number of its task; 0 for a loop.
        traceparent: W3C trace context to go along; empty for none.
    """

    owner: object
    task: int = 0
    traceparent: str = ""


class Call:
    """A call under way: await it, or take its `result` in a thread."""

    __slots__ = ("_future", "_load")

    def __init__(self, future: Future[bytes], load: Callable[[bytes], Any]) -> None:
        self._future = future
        self._load = load

    def __await__(self) -> Generator[Any, None, Any]:
        """Return the output, or raise `CallError`; cancelling the wait cancels the other task."""
        raw = yield from asyncio.wrap_future(self._future).__await__()
        return self._load(raw)

    def result(self, timeout_s: float | None = None) -> Any:
        """Block this thread until the output is there; see `kagent_sdk.context.PendingCall`."""
        if is_in_event_loop():
            raise RuntimeError("result() would block the event loop: write `await ctx.call(...)`")
        return self._load(self._future.result(timeout_s))

    def cancel(self) -> None:
        """Cancel the other task."""
        self._future.cancel()


class Receiver(Protocol):
    """Where what comes for a call goes; in the loop's thread, but for `fail`."""

    def add(self, item: bytes) -> None:
        """Take one item."""

    def finish(self, output: bytes) -> None:
        """Take the output: nothing more will come."""

    def fail(self, error: BaseException) -> None:
        """Take an error: nothing more will come."""


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
        self._open: dict[int, tuple[Receiver, object]] = {}

    def send(self, caller: Caller, request: CallRequest) -> Call:
        """Send a call at once; thread-safe.

        Raises:
            CallError: the input is not JSON or too large, or too many calls are under way.
        """
        payload = self._encode(caller, request, is_streamed=False)
        number = next(self._numbers)
        future: Future[bytes] = Future()
        self._open[number] = (_Answer(future), caller.owner)
        future.add_done_callback(partial(self._note_done, number))
        self._send(Kind.CALL, number, payload)
        return Call(future, request.load)

    def stream(self, caller: Caller, request: CallRequest) -> CallItems:
        """Send a call whose items are wanted as they come; thread-safe.

        Raises:
            CallError: the input is not JSON or too large, or too many calls are under way.
        """
        payload = self._encode(caller, request, is_streamed=True)
        number = next(self._numbers)
        inflow = Inflow(partial(self._acknowledge, number), partial(self.cancel, number))
        self._open[number] = (inflow, caller.owner)
        self._send(Kind.CALL, number, payload)
        return CallItems(inflow, request.load)

    def answer(self, number: int, payload: bytes) -> None:
        """Take an ANSWER frame; one that nobody waits for any more is dropped.

        Raises:
            ProtocolError: the payload is malformed.
        """
        receiver, _ = self._open.pop(number, (None, None))
        if receiver is None:
            return
        if payload.startswith(_OUTPUT):
            receiver.finish(payload[len(_OUTPUT) : -1])
            return
        document = decode_object(payload)
        if "error" in document:
            receiver.fail(_error_of(document["error"]))
        else:
            receiver.finish(b"null")

    def item(self, number: int, payload: bytes) -> None:
        """Take a CALL_ITEM frame; one that nobody waits for any more is dropped."""
        receiver, _ = self._open.get(number, (None, None))
        if receiver is not None:
            receiver.add(payload)

    def cancel(self, number: int) -> None:
        """Tell the host that nobody wants the answer of a call any more; thread-safe, idempotent."""
        if self._open.pop(number, None) is not None:
            # Always as a letter: the CALL itself may be one that is not opened yet.
            self._mailbox.post(self._connection.send, Kind.CALL_CANCEL, number)

    def interrupt(self, owner: object) -> None:
        """Wake the threads of a cancelled task that wait for an answer, with `TaskInterrupted`."""
        for number, (receiver, its_owner) in tuple(self._open.items()):
            if its_owner is owner:
                self.cancel(number)
                receiver.fail(TaskInterrupted("cancelled while waiting for a call"))

    def leave(self, owner: object, *, has_failed: bool) -> None:
        """Note the end of a task: its streams are cancelled, and when it has failed its calls too.

        A call that is sent for its effect alone goes on.
        """
        for number, (receiver, its_owner) in tuple(self._open.items()):
            if its_owner is owner and (has_failed or isinstance(receiver, Inflow)):
                self.cancel(number)
                message = "the task that sent this call has ended"
                receiver.fail(CallError(ErrorCode.CANCELED, message, status=409))

    def _note_done(self, number: int, future: Future[bytes]) -> None:
        if future.cancelled():
            self.cancel(number)

    def _acknowledge(self, number: int, items: int) -> None:
        self._send(Kind.CALL_ACK, number, COUNT.pack(items))

    def _send(self, kind: Kind, number: int, payload: bytes) -> None:
        if self._mailbox.is_here:
            self._connection.send(kind, number, payload)
        else:
            self._mailbox.post(self._connection.send, kind, number, payload)

    def _encode(self, caller: Caller, request: CallRequest, *, is_streamed: bool) -> bytes:
        if len(self._open) >= MAX_PENDING:
            message = f"{MAX_PENDING} calls wait for an answer already"
            raise CallError(ErrorCode.TOO_MANY_CALLS, message, retryable=True, status=429)
        head = CallHead(
            request.agent,
            request.capability,
            request.timeout_s,
            caller.traceparent or None,
            caller.task,
            request.labels,
            is_streamed,
            request.id,
        )
        return encode_call(head, self._encode_input(request.input))

    def _encode_input(self, input: object) -> bytes:
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


class _Answer:
    """The receiver of a call that does not stream."""

    __slots__ = ("_future",)

    def __init__(self, future: Future[bytes]) -> None:
        self._future = future

    def add(self, item: bytes) -> None:
        """Drop it: nobody asked for items."""

    # Here and below: whoever waits may have given up, and a cancelled future takes no answer.

    def finish(self, output: bytes) -> None:
        with suppress(InvalidStateError):
            self._future.set_result(output)

    def fail(self, error: BaseException) -> None:
        with suppress(InvalidStateError):
            self._future.set_exception(error)


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
