"""Tests of `kagent_sdk.cli.item_sink`."""

from __future__ import annotations

import pytest

from kagent_sdk.cli import item_sink
from kagent_sdk.cli.boundary import CommandError, UnreachableError
from kagent_sdk.cli.item_sink import ItemSink
from kagent_sdk.cli.progress import ProgressBar
from kagent_sdk.cli.task_stream import TaskUpdate

DONE = TaskUpdate("task", {"state": "completed", "output": None})


def item(value: object) -> TaskUpdate:
    """Return one item of a stream."""
    return TaskUpdate("event", value, 10)


def test_items_are_printed_as_they_come(capsys: pytest.CaptureFixture[str]) -> None:
    """--stream is for looking at, and for pipes: one JSON value to a line."""
    sink = ItemSink(ProgressBar(), prints=True)

    task = sink.drain([TaskUpdate("state", {}), item({"n": 1}), item("\x1b[2J"), DONE])

    assert capsys.readouterr().out == '{"n":1}\n"\\u001b[2J"\n'
    assert sink.has_printed
    assert task["state"] == "completed"


def test_without_stream_the_output_is_the_task_s() -> None:
    """The agent has put the items together already."""
    sink = ItemSink(ProgressBar(), prints=False)

    task = sink.drain([item(1), TaskUpdate("task", {"output": [1]})])

    assert sink.output_of(task) == [1]
    assert not sink.has_printed


def test_a_stream_that_the_agent_did_not_keep_is_put_together_here() -> None:
    """Its window is bounded; ours is larger."""
    sink = ItemSink(ProgressBar(), prints=False)

    task = sink.drain([item(1), item(2), DONE])

    assert sink.output_of(task) == [1, 2]


def test_a_task_without_output_has_none() -> None:
    """A function may return nothing."""
    sink = ItemSink(ProgressBar(), prints=False)

    assert sink.output_of(sink.drain([DONE])) is None


def test_a_stream_that_is_too_long_for_one_value_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An endless stream must not fill the memory of whoever forgot --stream."""
    monkeypatch.setattr(item_sink, "MAX_KEPT_BYTES", 25)
    sink = ItemSink(ProgressBar(), prints=False)

    task = sink.drain([item(1), item(2), item(3), item(4), DONE])

    with pytest.raises(CommandError, match="add --stream"):
        sink.output_of(task)


def test_missed_items_are_never_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    """A list with a hole in it would be taken for the whole."""
    gap = TaskUpdate("gap", {"missed": 3})
    printing, keeping = (ItemSink(ProgressBar(), prints=prints) for prints in (True, False))

    printing.drain([gap, DONE])
    task = keeping.drain([gap, item(1), DONE])

    assert "3 items were missed" in capsys.readouterr().err
    with pytest.raises(CommandError):
        keeping.output_of(task)


@pytest.mark.parametrize("updates", [[], [TaskUpdate("task", [1])], [TaskUpdate("state", {})]])
def test_an_answer_without_a_task_is_no_agent_s(updates: list[TaskUpdate]) -> None:
    """Something else listens there."""
    with pytest.raises(UnreachableError, match="not a task"):
        ItemSink(ProgressBar(), prints=True).drain(updates)
