"""The one place that touches signals.

As PID 1 a process gets no default action for a signal without a handler (kill(2), NOTES): a SIGTERM
that comes while modules are still being imported would be lost. So handlers are installed first
thing, note what came, and pass it on when the loop is there.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class EarlySignals:
    """Catches signals from the first moment, and hands them to the loop later."""

    def __init__(self) -> None:
        self._early: list[signal.Signals] = []

    def install(self) -> None:
        """Catch the stop signals, SIGHUP and SIGUSR1 from now on."""
        for number in (*STOP_SIGNALS, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, self._note)

    def hand_over(
        self,
        loop: asyncio.AbstractEventLoop,
        on_stop: Callable[[str], None],
        on_reload: Callable[[], None],
        on_reopen: Callable[[], None],
    ) -> None:
        """Let the loop handle signals, those that came before included.

        Args:
            loop: to handle them in.
            on_stop: for SIGTERM and SIGINT, with the signal's name.
            on_reload: for SIGHUP.
            on_reopen: for SIGUSR1; an early one means nothing, the log file is not open yet.
        """
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, on_stop, number.name)
        loop.add_signal_handler(signal.SIGHUP, on_reload)
        loop.add_signal_handler(signal.SIGUSR1, on_reopen)
        early, self._early = self._early, []
        for number in early:
            if number in STOP_SIGNALS:
                on_stop(number.name)
            else:
                on_reload()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._early.append(signal.Signals(number))
