"""kos-agent sandbox: a table of commands, each imported when it is asked for."""

from __future__ import annotations

from importlib import import_module

import click
from typing_extensions import override

COMMANDS = {"egress": "sandbox_egress", "exec": "sandbox_exec", "export": "sandbox_export"}
"""The module in this folder of each."""


class SandboxTable(click.Group):
    """A click group whose commands are imported on first use."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = import_module(f"kagent_sdk.cli.commands.{module}").command
        return command


@click.group("sandbox", cls=SandboxTable, invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Run any program confined, as the workers of agents are, or print their policy for others."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
