"""A terminal whose keys are read one by one, until whatever ends that."""

from __future__ import annotations

import os
import signal
import termios
import tty
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import FrameType

_OFLAG = 1  # of what tcgetattr returns (termios(3))

ENDING = (signal.SIGTERM, signal.SIGHUP)
HEARD = (signal.SIGWINCH, signal.SIGCONT, *ENDING)


class RawTerminal:
    """Puts a terminal into raw mode for the time of the block, and back whatever happens.

    Output is still processed: a newline goes to the beginning of a line. Signals that concern the
    terminal are read from a descriptor; in raw mode Ctrl-C is none of them, but a byte.

    Args:
        fd: the terminal.

    Attributes:
        signals_fd: readable when a signal came; then call `take_signals`.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before: list[Any] = []
        self._handlers: dict[signal.Signals, Any] = {}
        self._write_fd = -1
        self._wakeup_before = -1
        self.signals_fd = -1

    def __enter__(self) -> Self:
        """Begin."""
        self._before = termios.tcgetattr(self._fd)
        self.signals_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wakeup_before = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for number in HEARD:
            self._handlers[number] = signal.signal(number, _note)
        try:
            self._make_raw()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Put everything back."""
        with suppress(termios.error):  # a terminal that is gone needs nothing
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self.signals_fd)
        os.close(self._write_fd)

    def take_signals(self) -> bool:
        """Take the signals that came; tell whether the size of the terminal may have changed.

        Raises:
            SystemExit: one of them asks for the end.
        """
        numbers = os.read(self.signals_fd, 256)
        for number in ENDING:
            if number in numbers:
                raise SystemExit(128 + number)
        if signal.SIGCONT in numbers:
            self._make_raw()  # the shell has put it back in the meantime
        return bool({signal.SIGWINCH, signal.SIGCONT}.intersection(numbers))

    def _make_raw(self) -> None:
        tty.setraw(self._fd, termios.TCSADRAIN)
        attributes = termios.tcgetattr(self._fd)
        attributes[_OFLAG] |= termios.OPOST | termios.ONLCR
        termios.tcsetattr(self._fd, termios.TCSADRAIN, attributes)


def _note(number: int, frame: FrameType | None) -> None:
    """Do nothing: the number is in the pipe already (`signal.set_wakeup_fd`)."""
