"""`logging`, `warnings` and structlog in the worker: one JSON object a line, with the task's keys.

Set up before the author's first import, so that whatever is logged there arrives like the rest.
Nothing that the author sets up is lost: ``logging.basicConfig(format=…)`` and handlers on the root
logger that print take our handler's place, and structlog counts as not configured until the author
configures it.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, TextIO

from kagent_sdk.worker.output import LineStream
from kagent_sdk.worker.record_writer import write_record
from kagent_sdk.worker.structlog_setup import StructlogSetup
from kagent_sdk.worker.tracebacks import format_exception, print_exception

RECORD_ATTRIBUTES = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})
"""What every record of `logging` has; the rest is what the author gave as ``extra``."""

WARNINGS_LOGGER = "py.warnings"
"""As `logging.captureWarnings` has it."""


def set_up_logging(stream: LineStream, level: str) -> None:
    """Let `logging`, `warnings`, structlog and the worker's own messages write records.

    Args:
        stream: the worker's stderr.
        level: the least severe that is written, ``debug`` to ``error``.
    """
    stream.takes_records = True
    root = logging.getLogger()
    handler = RecordHandler(stream)
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.basicConfig = _give_way(logging.basicConfig, handler)
    warnings.showwarning = _log_warning
    threading.excepthook = _report_thread
    StructlogSetup(stream, root.level).install()


class RecordHandler(logging.Handler):
    """Writes records of `logging` as JSON; silent while the author's own handler prints them."""

    def __init__(self, stream: LineStream) -> None:
        super().__init__()
        self._stream = stream

    def createLock(self) -> None:  # noqa: N802 - the name of the standard library
        """Have no lock: the stream has one, which an interrupt cannot leave held."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Write a record unless a filter is against it."""
        found: Any = self.filter(record)  # from Python 3.12 on possibly another record
        if found:
            self.emit(found if isinstance(found, logging.LogRecord) else record)
        return bool(found)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; what the author's message or objects raise is reported as always."""
        if any(_prints(other) for other in logging.getLogger().handlers):
            return
        try:
            self._write(record)
        except Exception:  # noqa: BLE001 - as every handler of `logging`
            self.handleError(record)

    def _write(self, record: logging.LogRecord) -> None:
        from kagent_sdk.worker.log_records import level_name  # noqa: PLC0415 - see `write_record`

        attributes = vars(record).items()
        values = {key: value for key, value in attributes if key not in RECORD_ATTRIBUTES}
        event = record.getMessage()
        if isinstance(record.msg, dict) and not record.args:  # structlog's way through `logging`
            values |= record.msg
            event = str(values.pop("event", ""))
        if record.stack_info:
            values["stack"] = record.stack_info
        error = record.exc_info[1] if record.exc_info else None
        write_record(
            self._stream,
            level_name(record.levelno),
            event,
            {"logger": record.name, **values},
            exception=record.exc_text if error is None else format_exception(error),
            at_s=record.created,
        )


def _prints(handler: logging.Handler) -> bool:
    """Tell whether this is a handler of the author's that writes to the worker's streams."""
    return isinstance(handler, logging.StreamHandler) and isinstance(handler.stream, LineStream)


def _give_way(basic_config: Callable[..., None], ours: RecordHandler) -> Callable[..., None]:
    """Return a ``logging.basicConfig`` that works as if our handler were not there.

    The standard one does nothing where the root logger has a handler. A call that only sets the
    level keeps ours; so does the one that ``logging.info`` makes by itself.
    """

    @wraps(basic_config)
    def give_way(**options: Any) -> None:
        root = logging.getLogger()
        if root.handlers != [ours]:
            basic_config(**options)
        elif options.keys() - {"level"}:
            root.removeHandler(ours)
            basic_config(**options)
        elif options.get("level") is not None:
            root.setLevel(options["level"])

    return give_way


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if file is not None:
        file.write(warnings.formatwarning(message, category, filename, lineno, line))
        return
    where = {"category": category.__name__, "location": f"{filename}:{lineno}"}
    logging.getLogger(WARNINGS_LOGGER).warning("%s", message, extra=where)


def _report_thread(failed: threading.ExceptHookArgs) -> None:
    """Report what a thread of the author's raised, as one record; an exit is none."""
    if failed.exc_value is None or isinstance(failed.exc_value, SystemExit):
        return
    name = "?" if failed.thread is None else failed.thread.name
    print_exception(f"thread {name!r} failed:", failed.exc_value)
