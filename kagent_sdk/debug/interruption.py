"""Code in the agent's loop that another thread may interrupt, such as a console's ``while True``."""

from __future__ import annotations

import threading
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

from kagent_sdk.interrupts import set_interrupt, swallow

T = TypeVar("T")


class ConsoleInterrupt(KeyboardInterrupt):
    """What was typed is to end; for ``except Exception`` is not."""


class Interruptible:
    """Lets a thread run calls, one at a time, that other threads may interrupt.

    A call is interrupted once at most (see `kagent_sdk.interrupts`): one that catches that goes on.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread_ident = 0
        self._is_interrupted = False

    def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """Return what the call returns.

        Raises:
            ConsoleInterrupt: it was interrupted.
        """
        try:
            self._arm()
            try:
                return call(*arguments)
            finally:
                self._disarm()
        except ConsoleInterrupt:
            # It may have landed after the call, in what disarms; it is the only one.
            self._disarm()
            raise

    @types.coroutine
    def steps(self, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        """Await a coroutine, each step of which is such a call; not interrupted while it waits."""
        resume: Callable[..., Any] = work.send
        argument: Any = None
        while True:
            try:
                waited_for = self.run(resume, argument)
            except StopIteration as done:
                result: T = done.value
                return result
            try:
                argument = yield waited_for
                resume = work.send
            except BaseException as error:  # noqa: BLE001 - GeneratorExit and cancellation too
                argument, resume = error, work.throw

    def interrupt(self) -> None:
        """Interrupt the call that runs now, if one does. For any thread."""
        with self._lock:
            if self._thread_ident and not self._is_interrupted:
                self._is_interrupted = True
                set_interrupt(self._thread_ident, ConsoleInterrupt)

    def _arm(self) -> None:
        with self._lock:
            self._is_interrupted = False
            self._thread_ident = threading.get_ident()

    def _disarm(self) -> None:
        with self._lock:
            self._thread_ident = 0
        if self._is_interrupted:
            swallow(ConsoleInterrupt)
