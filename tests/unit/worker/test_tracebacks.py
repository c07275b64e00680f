"""Tracebacks with the author's frames and without ours."""

from __future__ import annotations

import asyncio

import pytest

from kagent_sdk import Agent
from kagent_sdk.errors import TaskError
from kagent_sdk.worker.hooks import run_startup
from kagent_sdk.worker.tracebacks import format_exception, print_exception


def author() -> None:
    """Raise something with a cause."""
    try:
        _ = dict[str, int]()["inner"]
    except KeyError as exc:
        raise ValueError("outer") from exc


async def through_ours(function: object) -> BaseException:
    """Return what a function raises, called by our code."""
    error = await run_startup([function])  # type: ignore[list-item]
    assert error is not None
    return error


async def test_the_frames_that_lead_to_the_author_are_left_out() -> None:
    """The first line is the author's own."""
    text = format_exception(await through_ours(author))

    assert "kagent_sdk" not in text
    assert text.count("in author") == 2
    assert "KeyError: 'inner'" in text
    assert text.endswith("ValueError: outer\n")


async def test_an_error_of_ours_ends_at_the_authors_line() -> None:
    """Where in the library a declaration is checked is nobody's business."""

    def declare() -> None:
        Agent().capability(lambda x: x)

    text = format_exception(await through_ours(declare))

    assert "kagent_sdk/" not in text
    assert "Agent().capability(lambda x: x)" in text
    assert "DeclarationError" in text


async def test_a_bug_of_ours_keeps_its_frames() -> None:
    """Without them nobody could find it."""
    text = format_exception(await through_ours(None))

    assert "kagent_sdk/worker/hooks.py" in text


async def test_an_error_that_was_meant_needs_no_frames() -> None:
    """It says in words what is wrong."""
    assert format_exception(TaskError("a", "b")) == "kagent_sdk.errors.TaskError: a: b\n"


async def test_groups_show_the_authors_frames_of_each_member() -> None:
    """A `TaskGroup` fails with many."""

    async def group() -> None:
        async with asyncio.TaskGroup() as jobs:
            jobs.create_task(asyncio.to_thread(author))

    text = format_exception(await through_ours(group))

    assert "in author" in text
    assert "kagent_sdk" not in text


def test_it_is_printed_below_a_line_that_says_what_failed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One piece, so that threads do not mix theirs."""
    print_exception("loop 'sweep' crashed:", TaskError("a", "b"))

    assert capsys.readouterr().err == "loop 'sweep' crashed:\nkagent_sdk.errors.TaskError: a: b\n"
