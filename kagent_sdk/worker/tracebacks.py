"""Tracebacks as an author wants them: with the author's frames, without the library's."""

from __future__ import annotations

import os
import traceback
from itertools import dropwhile
from pathlib import Path

from kagent_sdk.errors import KagentError
from kagent_sdk.worker.environment import SANDBOX
from kagent_sdk.worker.record_writer import write_message

_OURS = f"{Path(__file__).resolve().parent.parent}/"


def format_exception(exc: BaseException) -> str:
    """Return the traceback as text, causes included, from the author's first frame on.

    Of an error of this library, and of what has caused it, our own frames at the end go too: the
    traceback ends at the line of the author's that asked for the wrong thing. So do those of a
    syntax error, which names its line itself. Any other that has only our frames is kept whole: it
    is a bug of ours.
    """
    report = traceback.TracebackException.from_exception(exc)
    _strip(report)
    return "".join(report.format())


def print_exception(title: str, exc: BaseException) -> None:
    """Write what failed, and the traceback, to stderr: one record, or text in one piece.

    Args:
        title: one line that ends with a colon.
        exc: what was raised.
    """
    write_message("error", title.removesuffix(":"), format_exception(exc))
    if SANDBOX in os.environ:
        from kagent_sdk.worker.denials import tell_denials  # noqa: PLC0415 - only who fails pays

        tell_denials(exc)


def format_fatal(exc: BaseException) -> str:
    """Return the traceback of what ends the process, with what the sandbox has to do with it.

    As text: the last lines of stderr are shown to people.
    """
    text = format_exception(exc)
    if SANDBOX in os.environ:
        from kagent_sdk.worker.denials import new_denials  # noqa: PLC0415

        text += "".join(f"{denial.text}\n" for denial in new_denials(exc))
    return text


def _strip(report: traceback.TracebackException, *, is_meant: bool = False) -> None:
    is_meant = is_meant or issubclass(report.exc_type, KagentError | SyntaxError)
    frames = list(dropwhile(_is_ours, report.stack))
    if is_meant:
        frames = list(dropwhile(_is_ours, reversed(frames)))[::-1]
    if frames or is_meant:
        report.stack = traceback.StackSummary.from_list(frames)
    for inner in (report.__cause__, report.__context__, *(report.exceptions or ())):
        if inner is not None:
            _strip(inner, is_meant=is_meant)


def _is_ours(frame: traceback.FrameSummary) -> bool:
    return frame.filename.startswith(_OURS)
