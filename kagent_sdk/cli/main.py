"""The command kos-agent: a table of commands, each imported when it is asked for.

This module costs click and nothing else, and no command pays for another one. A plain
``kos-agent run``, which is on the start-up budget of every agent, does not come here: see
`kagent_sdk.cli.entry`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

import click
from typing_extensions import override

from kagent_sdk import __version__
from kagent_sdk.cli.boundary import UsageError, guard
from kagent_sdk.cli.streams import prepare_streams
from kagent_sdk.cli.text import clean_line, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Entry:
    """A command before it is imported: where it lives and what the help says of it."""

    module: str
    summary: str


SECTIONS: dict[str, dict[str, Entry]] = {
    "Make and run": {
        "init": Entry("init", "Make a working agent in a new folder."),
        "run": Entry("run", "Run the agent in a folder."),
        "dev": Entry("dev", "Run it, and reload it when a file changes."),
        "up": Entry("up", "Run agents and their orchestrator."),
        "orchestrator": Entry("orchestrator", "Run an orchestrator alone."),
        "config": Entry("config", "Check config.yaml, or print its JSON Schema."),
        "sandbox": Entry("sandbox", "Run any program confined, or print a policy."),
    },
    "Use": {
        "call": Entry("call", "Call a capability and print its output."),
        "tasks": Entry("tasks", "List tasks, look at one, follow it or cancel it."),
        "capabilities": Entry("capabilities", "List what the agent can do, or describe one."),
    },
    "Watch": {
        "status": Entry("status", "Show how the agent is doing."),
        "logs": Entry("logs", "Show what the agent has written to its log."),
        "health": Entry("health", "Say by the exit code whether the agent is healthy."),
        "debug": Entry("debug", "Look into a living worker: stacks, memory, tasks, a console."),
        "doctor": Entry("doctor", "Show what of the sandbox is in force, and what to do."),
    },
    "Deploy": {
        "build": Entry("build", "Build the agent's image."),
        "export": Entry("export", "Print manifests: compose, Kubernetes, Quadlet and more."),
    },
    "Keep": {
        "snapshot": Entry("snapshot", "Keep state and open tasks in a file, and restore them."),
    },
    "About": {
        "version": Entry("version", "Print the versions of kagent-sdk and Python."),
    },
}
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class CommandTable(click.Group):
    """A click group whose commands are imported on first use."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module = import_module(f"kagent_sdk.cli.commands.{entry.module}")
        command: click.Command = module.command
        return command

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            raise unknown_command(name)
        return super().resolve_command(ctx, args)

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for title, section in SECTIONS.items():
            with formatter.section(title):
                rows = [(name.ljust(width), entry.summary) for name, entry in section.items()]
                formatter.write_dl(rows)


def unknown_command(name: str) -> UsageError:
    """Return the error for a command that does not exist, with the nearest that does."""
    near = nearest(name, COMMANDS)
    way_out = f"did you mean 'kos-agent {near}'?" if near else "see: kos-agent --help"
    return UsageError(
        f"there is no command '{clean_line(name)}'; {way_out}", code="unknown_command"
    )


@click.group(
    cls=CommandTable,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Each command explains itself: kos-agent COMMAND --help",
)
@click.version_option(__version__, prog_name="kos-agent", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Make, run and look after kOS agents."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit the process.

    Args:
        arguments: without the program's name; those of the process if None.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    prepare_streams()
    guard(lambda: cli.main(words, prog_name="kos-agent", standalone_mode=False))
