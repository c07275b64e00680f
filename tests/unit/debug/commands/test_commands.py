"""What all commands share."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress

import click
import pytest

from kagent_sdk.debug.commands import make_commands
from kagent_sdk.debug.commands.output import age, change, cut, size
from tests.unit.debug.sessions import Console, make_console

NAMES = [
    *("tasks", "task", "stacks", "memory", "referrers", "gc"),
    *("profile", "loops", "secrets", "state", "log"),
]


def test_the_commands_are_those_of_the_documentation() -> None:
    """They keep clear of the names that aiomonitor has taken."""
    assert [command.name for command in make_commands()] == NAMES


@pytest.mark.parametrize(
    "words",
    [
        *([name] for name in NAMES),
        *(["memory", name] for name in ("start", "diff", "stop", "watch")),
        *(["gc", name] for name in ("collect", "cycles")),
    ],
    ids=" ".join,
)
def test_help_is_printed_to_the_session_with_an_example(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The worker's stdout is its log: help must not end there."""
    shown = make_console().run(*words, "--help")

    assert f"Usage: {' '.join(words)}" in shown
    assert f"Example: kos-agent debug . {' '.join(words)}" in " ".join(shown.split())
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "words",
    [
        *(
            ["tasks"],
            ["stacks"],
            ["memory", "--seconds", "0.2"],
            ["memory", "watch", "0.05"],
            ["gc"],
            ["profile", "0.05"],
            ["loops"],
        ),
        *(
            ["referrers", "object", "--seconds", "0.2"],
            ["referrers", "Nobody"],
            ["state", "nothing"],
        ),
    ],
    ids=" ".join,
)
async def test_a_command_leaves_no_cycles_of_its_own(words: list[str]) -> None:
    """In an agent that has turned the collector off they would stay for good."""
    console = make_console()
    await asyncio.to_thread(_run_whatever_comes, console, words)  # what is loaded at first use
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    gc.freeze()
    try:
        await asyncio.to_thread(_run_whatever_comes, console, words)
        found = console.read("gc", "cycles", "--top", "200")
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()

    names = [part["type"] for part in found["types"]]
    assert [name for name in names if name.startswith(("kagent_sdk.debug", "click"))] == []
    assert "frame" not in names


def _run_whatever_comes(console: Console, words: list[str]) -> None:
    with suppress(click.ClickException):
        console.run(*words)


def test_a_table_fits_the_terminal() -> None:
    """Lines that wrap cannot be read."""
    assert cut("a" * 80, 100) == "a" * 80
    assert cut("a" * 120, 100) == "a" * 99 + "…"
    assert cut("a" * 120, 10) == "a" * 79 + "…"


def test_numbers_have_units() -> None:
    """A bare number is a riddle."""
    assert [size(value) for value in (None, 0, 1023, 1536, 3 << 30)] == [
        *("-", "0 B", "1023 B", "1.5 KiB", "3.0 GiB"),
    ]
    assert [change(value) for value in (None, 0, 2048, -2048)] == ["", "", "+2.0 KiB", "-2.0 KiB"]
    assert [age(value) for value in (-1, 59.94, 62, 7384)] == [
        *("0.0 s", "59.9 s", "1 min 02 s", "2 h 03 min"),
    ]
