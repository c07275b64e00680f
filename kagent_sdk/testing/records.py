"""What an agent logs inside a test: the records that production would write, as dictionaries."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from kagent_sdk.context import current_owner
from kagent_sdk.worker.logging_setup import RecordHandler
from kagent_sdk.worker.output import STDERR_FD, Channel, LineStream, Output
from kagent_sdk.worker.record_writer import OWN_STREAM
from kagent_sdk.worker.structlog_setup import STRUCTLOG, StructlogSetup


class _LineChannel(Channel):
    """Hands whole lines to a function instead of a pipe."""

    def __init__(self, take: Callable[[bytes], object]) -> None:
        super().__init__(Output(), STDERR_FD, "<records>")
        self._hand_over = take

    def write_line(self, line: bytes) -> None:
        """Take a record."""
        self._hand_over(line)


class RecordStream(LineStream):
    """Where the records of one agent go.

    Args:
        take: given each line.
    """

    def __init__(self, take: Callable[[bytes], object]) -> None:
        output = Output()
        output.whose = current_owner
        super().__init__(output, STDERR_FD, "<records>")
        self.buffer = _LineChannel(take)
        self.takes_records = True


def stream_into(records: list[dict[str, Any]]) -> RecordStream:
    """Return a stream that adds each record to a list."""
    return RecordStream(lambda line: records.append(json.loads(line)))


class _Capture:
    """`logging` and structlog as in a worker, for as long as somebody needs it."""

    def __init__(self) -> None:
        self.users = 0
        self._router = RecordStream(_route)
        self._handler = RecordHandler(self._router)
        self._handler.addFilter(lambda _record: OWN_STREAM.get() is not None)
        self._root_level = 0
        self._structlog: dict[str, Any] | None = None
        self._setup: StructlogSetup | None = None

    def begin(self, level: str) -> None:
        """Install it, or let one that is there be as talkative as asked for."""
        number = logging.getLevelNamesMapping()[level.upper()]
        self.users += 1
        if self.users > 1:
            return
        root = logging.getLogger()
        self._root_level = root.level
        root.addHandler(self._handler)
        root.setLevel(number)
        self._begin_structlog(number)

    def end(self) -> None:
        """Put everything back when the last one is done."""
        self.users -= 1
        if self.users:
            return
        root = logging.getLogger()
        root.removeHandler(self._handler)
        root.setLevel(self._root_level)
        self._end_structlog()

    def _begin_structlog(self, level: int) -> None:
        self._structlog = None
        if STRUCTLOG in sys.modules:
            import structlog  # noqa: PLC0415 - it is here already

            if structlog.is_configured():
                self._structlog = structlog.get_config()
            structlog.reset_defaults()
        self._setup = StructlogSetup(self._router, level)
        self._setup.install()

    def _end_structlog(self) -> None:
        with suppress(ValueError):
            sys.meta_path.remove(self._setup)  # type: ignore[arg-type]
        if STRUCTLOG not in sys.modules:
            return
        import structlog  # noqa: PLC0415 - it is here already

        structlog.reset_defaults()
        if self._structlog is not None:
            with warnings.catch_warnings():
                structlog.configure(**self._structlog)


_CAPTURE: list[_Capture] = []
"""The one that is installed, if any: what it changes is the process's."""


@contextmanager
def capturing(level: str) -> Iterator[None]:
    """Let agents log into their own streams (`OWN_STREAM`) for the time of the block.

    Args:
        level: the least severe that is taken, ``debug`` to ``error``; that of the first of several.
    """
    if not _CAPTURE:
        _CAPTURE.append(_Capture())
    capture = _CAPTURE[0]
    capture.begin(level)
    try:
        yield
    finally:
        capture.end()
        if not capture.users:
            _CAPTURE.remove(capture)


def _route(line: bytes) -> None:
    stream = OWN_STREAM.get()
    if stream is not None:
        stream.buffer.write_line(line)
    else:
        # Of the test itself: structlog has one configuration for all of the process.
        sys.stderr.write(line.decode(errors="replace"))
