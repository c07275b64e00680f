"""The reference of the command shows what its help shows."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from kagent_sdk.cli.main import COMMANDS, cli
from tests.docs.cli_pages import PROGRAM, cli_reference
from tests.docs.reference import DOCS


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield a command and all below it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from commands(child, f"{path} {name}")


ALL = dict(commands(cli, PROGRAM))
PAGE = (DOCS / "cli-reference.md").read_text()


def part_of(path: str) -> str:
    """Return what the page says of one command."""
    return PAGE.partition(f"# `{path}`\n")[2].partition("\n#")[0]


@pytest.mark.parametrize("path", [path for path in ALL if path != PROGRAM])
def test_every_option_of_every_command_is_on_the_page(path: str) -> None:
    """Whoever looks an option up finds what it does, and with which command."""
    options = [
        name
        for each in ALL[path].params
        if isinstance(each, click.Option) and not each.hidden
        for name in [*each.opts, *each.secondary_opts]
        if name.startswith("--")
    ]
    shown = part_of(path)

    assert shown.startswith(f"\n```text\n{path}")
    assert [name for name in options if f"`{name}" not in shown and f">{name}" not in shown] == []


@pytest.mark.parametrize("path", list(ALL))
def test_no_help_shows_the_mark_of_lines_that_stay_as_they_are(path: str) -> None:
    r"""In a raw docstring ``\b`` is two characters, which click shows, and joins the lines below."""
    assert "\\b" not in (ALL[path].help or "")


def test_every_command_is_in_the_overview() -> None:
    """It is where readers begin."""
    overview = cli_reference().partition("\n## ")[0]

    assert [name for name in COMMANDS if f"(#{PROGRAM}-{name})" not in overview] == []
