"""The commands of a debug session, and what all sessions of a worker share."""

from __future__ import annotations

import difflib
import threading
import traceback
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

import click
from aiomonitor.context import current_stdout

from kagent_sdk.debug import monitor
from kagent_sdk.debug.console import console_command
from kagent_sdk.debug.console_jobs import JobTracker
from kagent_sdk.debug.history import SharedHistory
from kagent_sdk.debug.port import Inspected, Session

USAGE = 2

MAX_THREADS = 16
"""Commands that run at a time, those that were given up included."""

LEAVE_WORDS = frozenset({"exit", "quit"})


class CommandGroup(click.Group):
    """Knows the nearest command to one that is not there."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command by its name.

        Raises:
            click.UsageError: there is none.
        """
        name = args[0]
        if self.get_command(ctx, name) is None and not ctx.resilient_parsing and name[:1] != "-":
            near = difflib.get_close_matches(name, self.list_commands(ctx), 1)
            hint = f"did you mean `{near[0]}`?" if near else "`help` lists the commands"
            raise click.UsageError(f"there is no command {name[:60]!r}: {hint}")
        return super().resolve_command(ctx, args)


class Shell:
    """What sessions share: the commands, their memory, histories, and how many may run."""

    def __init__(self, inspected: Inspected, commands: Iterable[click.Command]) -> None:
        self.inspected = inspected
        name = str(getattr(inspected.agent, "name", None) or "agent")
        self.agent_name = "".join(filter(str.isprintable, name))[:60]
        self.memory: dict[str, Any] = {}
        self.history = SharedHistory(inspected.redact)
        self.console_history = SharedHistory(inspected.redact)
        self.jobs = JobTracker(inspected.loop)
        self._slots = threading.Semaphore(MAX_THREADS)
        self.group = CommandGroup(
            name="debug", help="See inside this agent. COMMAND --help tells more of each."
        )
        theirs = monitor.make_commands(monitor.make_monitor(inspected.loop))
        for command in (*theirs, console_command, _help_command, _exit_command, *commands):
            self.group.add_command(command)

    def take_slot(self) -> bool:
        """Count a command that is about to run; return whether it may."""
        return self._slots.acquire(blocking=False)

    def give_slot(self) -> None:
        """Take it that a command has ended."""
        self._slots.release()

    def run(self, words: Sequence[str], session: Session, errors: TextIO) -> int:
        """Run one command in this thread; return its exit code. What goes wrong is told to `errors`."""
        current_stdout.set(session.out)  # click.echo() without a file writes there, by aiomonitor
        try:
            return self._run(list(words), session)
        except click.UsageError as error:
            errors.write(_usage_of(error) + f"error: {error.format_message()}\n")
            return USAGE
        except click.ClickException as error:
            errors.write(f"error: {error.format_message()}\n")
        except (click.Abort, EOFError, BrokenPipeError):
            pass
        except Exception as error:  # noqa: BLE001 - a command's own fault, told with its traceback
            errors.write("".join(traceback.format_exception(error)))
        return 1

    def _run(self, words: list[str], session: Session) -> int:
        try:
            result = self.group.main(
                words,
                prog_name="debug",
                obj=session,
                standalone_mode=False,
                terminal_width=session.width,
            )
        except SystemExit as error:
            return error.code if isinstance(error.code, int) else 1
        return result if type(result) is int else 0


def _usage_of(error: click.UsageError) -> str:
    if error.ctx is None or error.ctx.parent is None:
        return ""
    return error.ctx.get_usage() + "\n"


@click.command("help")
@click.argument("command", required=False)
@click.pass_context
def _help_command(ctx: click.Context, command: str | None) -> None:
    """List the commands, or explain one."""
    assert ctx.parent is not None
    group = ctx.parent.command
    assert isinstance(group, click.Group)
    if command is None:
        click.echo(group.get_help(ctx.parent), file=ctx.obj.out)
        return
    _, found, _ = group.resolve_command(ctx.parent, [command])
    assert found is not None
    with click.Context(found, info_name=command, parent=ctx.parent) as shown:
        click.echo(found.get_help(shown), file=ctx.obj.out)


@click.command("exit")
def _exit_command() -> None:
    """Leave the session; Ctrl-D does too."""
