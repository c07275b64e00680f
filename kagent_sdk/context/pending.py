"""Work on the state that is under way: awaited in async code, waited for in a thread.

What is to be done is a generator, `Steps`: it yields what it waits for (an answer of the host's, its
turn, or a pause in seconds) and is sent the answer. So the same work runs in any event loop and any thread.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from kagent_sdk.protocol.state import Answer

Result = TypeVar("Result")

Step: TypeAlias = "Future[Any] | float"
Steps: TypeAlias = "Generator[Step, Answer | None, Result]"


def is_in_event_loop() -> bool:
    """Tell whether an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class _Changing(threading.local):
    """The key whose `State.update` calls its function in this thread, if any."""

    key = ""


_CHANGING = _Changing()


@contextmanager
def changing(key: str) -> Iterator[None]:
    """Let this thread wait for nothing for the time of the block: a function of `update` runs."""
    before, _CHANGING.key = _CHANGING.key, key
    try:
        yield
    finally:
        _CHANGING.key = before


class Pending(Generic[Result]):
    """Something under way: await it in async code, take its `result` in a sync function.

    Args:
        steps: what is to be done.
        forgotten: called when it is thrown away unfinished, and nobody has ever waited for it.
        at_once: whether it begins now, or when somebody waits for it. What may hold up others must
            not begin before.
    """

    __slots__ = ("_forgotten", "_is_done", "_is_watched", "_result", "_step", "_steps")

    _result: Result

    def __init__(
        self,
        steps: Steps[Result],
        forgotten: Callable[[], None] | None = None,
        *,
        at_once: bool = True,
    ) -> None:
        self._steps = steps
        self._forgotten = forgotten
        self._is_done = False
        self._is_watched = False
        self._step: Step | None = None
        if at_once:
            self._go_on(None)

    def __await__(self) -> Generator[Any, None, Result]:
        """Return the result; cancelling leaves open whether a change was made.

        Raises:
            StateError: see the method of `State` that has returned this.
            RuntimeError: it is awaited elsewhere, or has failed already.
        """
        self._watch()
        try:
            while not self._is_done:
                step, answer = self._step, None
                if isinstance(step, float):
                    yield from asyncio.sleep(step).__await__()
                elif step is not None:
                    answer = yield from asyncio.wrap_future(step).__await__()
                self._go_on(answer)
        except BaseException:
            self._fail()
            raise
        self._is_watched = False
        return self._result

    def result(self, timeout_s: float | None = None) -> Result:
        """Block this thread until the result is there and return it; for sync functions only.

        Raises:
            StateError: see the method of `State` that has returned this.
            TimeoutError: it took longer than ``timeout_s``; whether a change was made is open.
            RuntimeError: called in an event loop, which it would block for ever; or it is awaited
                elsewhere, or has failed already.
        """
        self._forgotten = None  # whatever is wrong below is told already
        if is_in_event_loop():
            raise RuntimeError("result() would block the event loop: write `await state.get(…)`")
        if _CHANGING.key:
            raise RuntimeError(
                f"the function of update({_CHANGING.key!r}) must not wait for the state: it holds up "
                f"everyone who changes this key"
            )
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        self._watch()
        try:
            while not self._is_done:
                self._go_on(_wait(self._step, until_s))
        except BaseException:
            self._fail()
            raise
        self._is_watched = False
        return self._result

    def __del__(self) -> None:
        if not self._is_done and self._forgotten is not None:
            self._forgotten()

    def _watch(self) -> None:
        if self._is_watched:
            raise RuntimeError("this is awaited elsewhere, or has failed already")
        self._is_watched = True
        self._forgotten = None

    def _fail(self) -> None:
        self._is_done = True
        # At once, not when it is collected: it may hold the turn of a key.
        self._steps.close()

    def _go_on(self, answer: Answer | None) -> None:
        try:
            self._step = self._steps.send(answer)
        except StopIteration as end:
            self._result = end.value
            self._is_done = True
        except BaseException:
            self._is_done = True
            raise


def _wait(step: Step | None, until_s: float | None) -> Answer | None:
    if step is None:
        return None
    if isinstance(step, float):
        time.sleep(step)
        return None
    answer: Answer | None = step.result(
        None if until_s is None else max(0.0, until_s - time.monotonic())
    )
    return answer
