"""Tracebacks as an author wants them: with the author's frames, without the library's."""

from __future__ import annotations

import sys
import traceback
from itertools import dropwhile
from pathlib import Path

from kagent_sdk.errors import KagentError

_OURS = f"{Path(__file__).resolve().parent.parent}/"


def format_exception(exc: BaseException) -> str:
    """Return the traceback as text, causes included, from the author's first frame on.

    Of an error of this library our own frames at the end go too: the traceback ends at the line
    of the author's that asked for the wrong thing. One that has only our frames is kept whole: it
    is a bug of ours.
    """
    report = traceback.TracebackException.from_exception(exc)
    _strip(report)
    return "".join(report.format())


def print_exception(title: str, exc: BaseException) -> None:
    """Write a line that says what failed, then the traceback, to stderr in one piece."""
    sys.stderr.write(f"{title}\n{format_exception(exc)}")
    sys.stderr.flush()


def _strip(report: traceback.TracebackException) -> None:
    frames = list(dropwhile(_is_ours, report.stack))
    if isinstance(report.exc_type, type) and issubclass(report.exc_type, KagentError):
        frames = list(dropwhile(_is_ours, reversed(frames)))[::-1]
    if frames:
        report.stack = traceback.StackSummary.from_list(frames)
    for inner in (report.__cause__, report.__context__, *(report.exceptions or ())):
        if inner is not None:
            _strip(inner)


def _is_ours(frame: traceback.FrameSummary) -> bool:
    return frame.filename.startswith(_OURS)
