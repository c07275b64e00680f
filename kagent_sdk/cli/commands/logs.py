"""kos-agent logs."""

from __future__ import annotations

import sys
import time
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from kagent_sdk.cli.boundary import CommandError, UsageError, color_choice
from kagent_sdk.cli.location import show_path
from kagent_sdk.cli.log_files import LOG_FILE, LogFiles
from kagent_sdk.cli.log_records import LEVELS, LogFilter, parse_record, parse_since, show_json
from kagent_sdk.cli.options import AgentOptions, agent_options
from kagent_sdk.cli.output import say
from kagent_sdk.cli.screens.logs import LogScreen
from kagent_sdk.cli.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from kagent_sdk.cli.mesh_logs import RemoteLog

POLL_S = 0.2
"""How often a file that is followed is looked at: a stat, and a read where it has grown."""

REMOTE_POLL_S = 1.0
"""How often an orchestrator is asked for what is new: a request, and the end of a file."""

MAX_LAST_LINES = 1_000_000


@click.command("logs")
@click.argument("name", metavar="[NAME[/N]]", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on.")
@click.option("--task", "task_id", metavar="ID", help="Only lines of that task.")
@click.option("--level", type=click.Choice(LEVELS), help="Only lines of that level, or worse.")
@click.option(
    "--since", metavar="T", help="Only lines from then on: 90s, 10m, 2h, 1d, or an ISO time (UTC)."
)
@click.option(
    "-n",
    "--lines",
    "last",
    type=click.IntRange(0, MAX_LAST_LINES),
    metavar="N",
    help="At most so many, the last.",
)
@agent_options
def command(  # noqa: PLR0913 - click hands over one argument per option
    options: AgentOptions,
    *,
    name: str | None,
    follow: bool,
    task_id: str | None,
    level: str | None,
    since: str | None,
    last: int | None,
) -> None:
    """Show the log of an agent on this machine, rotated files included.

    With NAME that of an agent which an orchestrator has started, NAME/N that of one replica of it.

    In a pipe, and with --json, each line is the JSON object that stands in the file.
    """
    wanted = LogFilter(task_id, level, _read_since(since))
    is_json = options.as_json or not sys.stdout.isatty()
    printer = LinePrinter(wanted, is_json=is_json)
    if name is not None:
        from kagent_sdk.cli.mesh_logs import RemoteLog, find_orchestrator  # noqa: PLC0415 - http

        log = RemoteLog(find_orchestrator(options), name)
        _show_remote(log, printer, last, follow=follow)
        return
    _refuse_remote(options.url)
    directory = options.directory
    with closing(LogFiles(directory)) as files, _explaining(directory):
        _open(files, directory, wanted, follow=follow)
        _show(files, printer, last, follow=follow)


class LinePrinter:
    """Writes the lines that are wanted to stdout.

    Attributes:
        wants_all: whether nothing is left out.

    Args:
        wanted: which these are.
        is_json: write them for a program.
    """

    def __init__(self, wanted: LogFilter, *, is_json: bool) -> None:
        self._wanted = wanted
        self._is_json = is_json
        self._screen = LogScreen()
        self.wants_all = wanted.wants_all

    def is_wanted(self, line: bytes) -> bool:
        """Tell whether a line is to be shown."""
        if self.wants_all:
            return True
        return self._wanted.may_want(line) and self._wanted.wants(parse_record(line))

    def write(self, lines: Iterable[bytes]) -> None:
        """Write lines, all of them."""
        for line in lines:
            if self._is_json:
                sys.stdout.write(show_json(line) + "\n")
            else:
                click.echo(self._screen.show(parse_record(line), line), color=color_choice())
        sys.stdout.flush()


def _show(files: LogFiles, printer: LinePrinter, last: int | None, *, follow: bool) -> None:
    if last is None:
        printer.write(filter(printer.is_wanted, files.read()))
    else:
        lines = files.read_last(last, printer.is_wanted, is_chosen=not printer.wants_all)
        printer.write(lines)
    if not follow:
        printer.write(filter(printer.is_wanted, files.take_rest()))
        return
    with suppress(KeyboardInterrupt):  # as every command that watches
        for lines in files.follow(lambda: time.sleep(POLL_S)):
            printer.write(filter(printer.is_wanted, lines))


def _show_remote(log: RemoteLog, printer: LinePrinter, last: int | None, *, follow: bool) -> None:
    lines = [line for line in log.read() if printer.is_wanted(line)]
    printer.write(lines if last is None else lines[len(lines) - min(last, len(lines)) :])
    if not follow:
        return
    with suppress(KeyboardInterrupt):  # as every command that watches
        while True:
            time.sleep(REMOTE_POLL_S)
            printer.write(filter(printer.is_wanted, log.read_new()))


def _open(files: LogFiles, directory: Path, wanted: LogFilter, *, follow: bool) -> None:
    since_s = 0.0 if wanted.since is None else wanted.since.timestamp()
    if files.open(since_s):
        return
    shown = show_path(directory)
    if not directory.is_dir():
        raise CommandError(f"there is no folder {shown}", code="no_log")
    if not follow:
        raise CommandError(
            f"there is no {LOG_FILE} in {shown}; start the agent with: kos-agent run {shown}, "
            "or name its folder with -C DIR",
            code="no_log",
        )
    say(f"waiting for {shown}/{LOG_FILE}")


def _read_since(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return parse_since(text, datetime.now(UTC))
    except ValueError:
        raise UsageError(
            f"--since {clean_line(text)}: write a duration such as 90s, 10m, 2h or 1d, "
            "or a time such as 2026-01-31T14:00:00Z"
        ) from None


def _refuse_remote(url: str | None) -> None:
    if url is not None:
        raise UsageError(
            "the log is read from the agent's folder, so only where it runs: kos-agent logs -C DIR "
            "there; in a container it is also on the container's output; an orchestrator has those of "
            "the agents that it started: kos-agent logs NAME --url URL"
        )


@contextmanager
def _explaining(directory: Path) -> Iterator[None]:
    """Turn a file that cannot be read into an error with a way out."""
    try:
        yield
    except BrokenPipeError:
        raise  # of stdout
    except OSError as exc:
        raise CommandError(
            f"cannot read the log in {show_path(directory)}: {exc.strerror}; "
            "become the user that runs the agent",
            code="no_log",
        ) from None
