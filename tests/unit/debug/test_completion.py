"""Completion of command lines and of names in the console."""

from __future__ import annotations

import io

import click
import pytest
from prompt_toolkit.completion import CompleteEvent, Completer
from prompt_toolkit.document import Document

from kagent_sdk.debug.completion import CommandCompleter, NameCompleter
from kagent_sdk.debug.port import Session


def complete(completer: Completer, text: str) -> list[str]:
    """Return what is offered behind a text."""
    return [found.text for found in completer.get_completions(Document(text), CompleteEvent())]


def make_group() -> click.Group:
    """Return two commands; one completes by what it is run with, one fails to."""

    def ids(ctx: click.Context, _param: click.Parameter, begun: str) -> list[str]:
        return [word for word in ctx.obj.memory if word.startswith(begun)]

    def fail(*_: object) -> list[str]:
        raise LookupError

    return click.Group(
        commands=[
            click.Command("task", params=[click.Argument(["id"], shell_complete=ids)]),
            click.Command("tail", params=[click.Argument(["id"], shell_complete=fail)]),
        ]
    )


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("", ["tail", "task"]),
        ("tas", ["task"]),
        ("task ", ["alpha", "beta"]),
        ("task be", ["beta"]),
        ("task --h", ["--help"]),
        ("tail ", []),
        ("task 'un", []),
    ],
)
def test_a_command_line_is_completed(text: str, offered: list[str]) -> None:
    """A fault in one command's completion must not end the session."""
    session = Session(None, io.StringIO(), {"alpha": 1, "beta": 2})  # type: ignore[arg-type]

    assert complete(CommandCompleter(make_group(), session), text) == offered


class Inner:
    """What an attribute holds."""

    deep = 1


class Trap:
    """Has a property that must not be run by looking for its name."""

    def __init__(self) -> None:
        self.inner = Inner()

    @property
    def costly(self) -> int:
        """Fail when run."""
        raise AssertionError


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("tra", ["trap"]),
        ("x = trap.", ["costly", "inner"]),
        ("trap.inner.", ["deep"]),
        ("trap.inner.d", ["deep"]),
        ("trap.costly.dele", ["deleter"]),
        ("nothing.x", []),
        ("3 + ", []),
        ("awai", ["await"]),
    ],
)
def test_names_are_completed(text: str, offered: list[str]) -> None:
    """Without a call into the author's code."""
    assert complete(NameCompleter({"trap": Trap()}), text) == offered
