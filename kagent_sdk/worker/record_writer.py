"""Where the worker's JSON records go: to its stderr, past the lines that wait for their end."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Final

from kagent_sdk.worker.output import LineStream

OWN_STREAM: Final[ContextVar[LineStream | None]] = ContextVar("own_stream", default=None)
"""Where the messages of a worker go that shares its process with others, in tests; else stderr."""


def write_record(
    stream: LineStream,
    level: str,
    event: str,
    values: Mapping[str, object],
    *,
    exception: str | None = None,
    at_s: float | None = None,
) -> None:
    """Write one record with the keys of the running task or loop.

    Args:
        stream: where to.
        level: see `kagent_sdk.worker.log_records.encode_record`, for the others too.
        event: what happened.
        values: the author's keys.
        exception: the traceback.
        at_s: when, as `time.time` gives it; now if None.
    """
    # json and datetime: only who logs pays.
    from kagent_sdk.worker.log_records import encode_record  # noqa: PLC0415

    owner = stream.output.whose()
    stream.buffer.write_line(
        encode_record(
            time.time() if at_s is None else at_s,
            level,
            event,
            {} if owner is None else owner.log_keys,
            values,
            exception,
        )
    )


def write_message(level: str, event: str, exception: str | None = None) -> None:
    """Write a message of the worker's own: a record, or text where logging is the author's.

    Args:
        level: of the record.
        event: what happened, on one line.
        exception: the traceback.
    """
    stream = OWN_STREAM.get() or sys.stderr
    if isinstance(stream, LineStream) and stream.takes_records:
        write_record(stream, level, event, {}, exception=exception)
        return
    stream.write(f"{event}\n" if exception is None else f"{event}:\n{exception}")
    stream.flush()
