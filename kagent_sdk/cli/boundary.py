"""The one place where an error becomes a line on stderr and an exit code."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from kagent_sdk.cli.text import clean, clean_line, safe_json
from kagent_sdk.errors import CrashLoopError, KagentError

if TYPE_CHECKING:
    from collections.abc import Callable

EXIT_FAILED = 1
"""The answer is no: a task did not complete, an agent takes none now or is not healthy, there is no log."""

EXIT_USAGE = 2
"""Wrong usage: an unknown command, option, capability or task, or an input that does not fit."""

EXIT_UNREACHABLE = 3
"""No agent is there, or it does not let the caller in."""

EXIT_INTERNAL = 70  # EX_SOFTWARE, sysexits.h
"""A bug of ours; ``AGENT_TRACEBACK=1`` shows where."""

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
"""Ctrl-C."""

TRACEBACK_VARIABLE = "AGENT_TRACEBACK"
TRACEBACK_TAIL_CHARS = 8000
ERROR_HEAD = "error: "


class CommandError(KagentError):
    """A command cannot do what it was asked for.

    Args:
        message: one line: what, where, and the way out.
        exit_code: what the process ends with.
        code: a stable name for programs.
        details: more for programs, in ``--json``.
        notes: lines for people, shown below the message.
    """

    def __init__(
        self,
        message: str,
        *,
        exit_code: int = EXIT_FAILED,
        code: str = "failed",
        details: object = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.code = code
        self.details = details
        self.notes = notes

    def document(self) -> dict[str, Any]:
        """Return the error as a program reads it."""
        return {"error": {"code": self.code, "message": str(self), "details": self.details}}


class UsageError(CommandError):
    """The command line asks for something that cannot be (exit code 2)."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "usage",
        details: object = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, exit_code=EXIT_USAGE, code=code, details=details, notes=notes)


class UnreachableError(CommandError):
    """No agent answers where one was looked for (exit code 3)."""

    def __init__(self, message: str, *, code: str = "unreachable") -> None:
        super().__init__(message, exit_code=EXIT_UNREACHABLE, code=code)


def guard(action: Callable[[], object]) -> NoReturn:
    """Run a command to its end and exit the process with what that means."""
    if os.environ.get(TRACEBACK_VARIABLE):
        sys.exit(exit_code_of(action()))
    try:
        code = exit_code_of(action())
        sys.stdout.flush()
    except BrokenPipeError:
        code = _leave_broken_pipe()
    except (KeyboardInterrupt, click.Abort):
        code = EXIT_INTERRUPTED
    except (click.ClickException, KagentError) as exc:
        code = report(exc)
    except Exception as exc:  # noqa: BLE001 - the process boundary: nothing may show a traceback
        code = report_internal(exc)
    sys.exit(code)


def exit_code_of(result: object) -> int:
    """Return the exit code that a command returned; everything else is success."""
    return result if isinstance(result, int) else 0


def report(error: click.ClickException | KagentError, *, as_json: bool = False) -> int:
    """Say what went wrong on stderr and return the exit code."""
    if isinstance(error, click.ClickException):
        return _report_click(error)
    if as_json:
        click.echo(safe_json(error_document(error), ascii_only=True), err=True)
        return exit_code_for(error)
    if isinstance(error, CrashLoopError) and error.traceback_text:
        click.echo(clean(error.traceback_text[-TRACEBACK_TAIL_CHARS:]).rstrip(), err=True)
    # An error may have a line for each thing that is wrong: they stand below each other.
    say_error(clean(error).replace("\n", f"\n{' ' * len(ERROR_HEAD)}"))
    for note in getattr(error, "notes", ()):
        click.echo(clean(note), err=True)
    return exit_code_for(error)


def report_internal(error: Exception) -> int:
    """Say that the command itself is broken, and how to learn more."""
    say_error(
        f"internal error: {type(error).__name__}: {clean_line(error)}; "
        f"set {TRACEBACK_VARIABLE}=1 to see where, and please report it"
    )
    return EXIT_INTERNAL


def error_document(error: KagentError) -> dict[str, Any]:
    """Return any error of ours as a program reads it."""
    if isinstance(error, CommandError):
        return error.document()
    name = type(error).__name__.removesuffix("Error")
    code = "".join(f"_{char.lower()}" if char.isupper() else char for char in name).lstrip("_")
    return {"error": {"code": code, "message": str(error), "details": None}}


def exit_code_for(error: KagentError) -> int:
    """Return the exit code that an error carries; without one it is an internal error."""
    code = getattr(error, "exit_code", EXIT_INTERNAL)
    return code if isinstance(code, int) else EXIT_INTERNAL


def say_error(message: str) -> None:
    """Write an error line."""
    click.secho(ERROR_HEAD, err=True, nl=False, fg="red", bold=True, color=color_choice())
    click.echo(message, err=True)


def color_choice() -> bool | None:
    """Return False where colours are unwanted (https://no-color.org), None to let click decide."""
    return False if os.environ.get("NO_COLOR") else None


def _report_click(error: click.ClickException) -> int:
    message = error.format_message()
    message = message[:1].lower() + message[1:].rstrip(".")
    context = getattr(error, "ctx", None)
    if isinstance(context, click.Context):
        separator = " " if message.endswith("?") else "; "
        message += f"{separator}see: {context.command_path} --help"
    say_error(clean_line(message))
    return error.exit_code


def _leave_broken_pipe() -> int:
    # The reader is gone; Python would complain again when it flushes stdout at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_FAILED  # as click does it
