"""What this worker asks the host about the state, and a task's own transaction."""

from __future__ import annotations

import os
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from itertools import count
from threading import Event
from typing import TYPE_CHECKING

from kagent_sdk.context.key_turns import KeyTurns
from kagent_sdk.errors import StateError, TaskInterrupted
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.worker.connection import Connection
from kagent_sdk.worker.mailbox import Mailbox

if TYPE_CHECKING:
    from kagent_sdk.context.state import State
    from kagent_sdk.context.state_overlay import Overlay
    from kagent_sdk.protocol.state import Answer

# What belongs to the state is imported by the first who uses it: it costs a start 10 ms.

MAX_OPEN = 1000
"""Requests that may wait for an answer: each holds memory here and in the host."""


class StateRequests:
    """All STATE frames that wait for an answer, by number; thread-safe.

    Attributes:
        turns: those of all that change keys.
    """

    def __init__(self, connection: Connection, mailbox: Mailbox) -> None:
        self.turns = KeyTurns()
        self._connection = connection
        self._mailbox = mailbox
        self._numbers = count(1)
        self._open: dict[int, tuple[Future[Answer], object]] = {}
        self._closed = Event()
        self._pid = os.getpid()

    def send(self, owner: object, payload: bytes) -> Future[Answer]:
        """Send a request at once.

        Args:
            owner: for `interrupt`.
            payload: of the STATE frame.

        Raises:
            StateError: the host is gone, or `MAX_OPEN` requests wait already.
        """
        if self._closed.is_set():
            raise _gone()
        if os.getpid() != self._pid:
            raise StateError(
                "the state belongs to the worker: a process that it has forked has none"
            )
        if len(self._open) >= MAX_OPEN:
            raise StateError(f"{MAX_OPEN} requests about the state wait for an answer already")
        number = next(self._numbers)
        future: Future[Answer] = Future()
        self._open[number] = (future, owner)
        # Looked at again: whoever closes meanwhile has seen the future, or is seen here.
        if self._closed.is_set():
            self._fail(number, _gone())
        elif self._mailbox.is_here:
            self._connection.send(Kind.STATE, number, payload)
        else:
            self._mailbox.post(self._connection.send, Kind.STATE, number, payload)
        return future

    def answer(self, number: int, payload: bytes) -> None:
        """Take a STATE_ANSWER frame; one that nobody waits for any more is dropped.

        Raises:
            ProtocolError: the payload is malformed.
        """
        from kagent_sdk.protocol.state import decode_answer  # noqa: PLC0415

        future, _ = self._open.pop(number, (None, None))
        if future is None:
            return
        answer = decode_answer(payload)
        # Whoever asked may have given up: a cancelled future takes no answer.
        with suppress(InvalidStateError):
            future.set_result(answer)

    def interrupt(self, owner: object) -> None:
        """Wake the threads of a cancelled task that wait for an answer, with `TaskInterrupted`."""
        for number, (_, its_owner) in tuple(self._open.items()):
            if its_owner == owner:
                self._fail(number, TaskInterrupted("cancelled while waiting for the state"))

    def close(self) -> None:
        """Let everything that waits fail, and all that comes: the host is gone. Idempotent."""
        self._closed.set()
        for number in tuple(self._open):
            self._fail(number, _gone())

    def _fail(self, number: int, error: BaseException) -> None:
        future, _ = self._open.pop(number, (None, None))
        if future is not None:
            with suppress(InvalidStateError):
                future.set_exception(error)


class StateLine:
    """The requests of one owner: the port of its `kagent_sdk.context.state_access.DirectAccess`."""

    __slots__ = ("_owner", "_requests")

    def __init__(self, requests: StateRequests, owner: object) -> None:
        self._requests = requests
        self._owner = owner

    @property
    def turns(self) -> KeyTurns:
        """Those of all that change keys in this worker."""
        return self._requests.turns

    def ask(self, payload: bytes) -> Future[Answer]:
        """Send a STATE frame; see `StateRequests.send`."""
        return self._requests.send(self._owner, payload)


class TaskTransaction:
    """The state as one attempt of a task has it: one transaction, committed with its result.

    Args:
        requests: what is read goes this way.
        number: the task's call number.
        task_id: for errors.

    Attributes:
        state: what the author gets.
        sealed: the payload of the COMMIT frame, once `seal` has made it, if there is one.
    """

    __slots__ = ("_overlay", "sealed", "state")

    state: State
    _overlay: Overlay

    def __init__(self, requests: StateRequests, number: int, task_id: str) -> None:
        from kagent_sdk.context.state import State  # noqa: PLC0415
        from kagent_sdk.context.state_access import DirectAccess  # noqa: PLC0415
        from kagent_sdk.context.state_overlay import Overlay  # noqa: PLC0415

        # The number, not the task itself, so that there is no ring to collect.
        access = DirectAccess(StateLine(requests, number))
        self._overlay = Overlay(access, f"task {task_id}")
        self.state = State(self._overlay)
        self.sealed: bytes | None = None

    def seal(self) -> None:
        """Take no more changes: the task was successful.

        Raises:
            StateError: the changes cannot be committed.
        """
        self.sealed = self._overlay.seal()

    def close(self) -> None:
        """Take no more changes: the task has been answered."""
        self._overlay.discard()


def make_state(requests: StateRequests) -> State:
    """Return the state as loops have it: each call commits by itself."""
    from kagent_sdk.context.state import State  # noqa: PLC0415
    from kagent_sdk.context.state_access import DirectAccess  # noqa: PLC0415

    return State(DirectAccess(StateLine(requests, None)))


def _gone() -> StateError:
    return StateError("the host is gone: the state cannot be asked any more")
