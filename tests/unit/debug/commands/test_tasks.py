"""tasks and task ID."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import click
import pytest

from kagent_sdk.debug.port import TaskView
from tests.unit.debug.sessions import Console, make_console

HERE = "tests/unit/debug/commands/test_tasks.py"


async def capability(gate: asyncio.Event) -> None:
    """Wait in a stream, as the author's code would."""
    async for _ in stream(gate):
        pass


async def stream(gate: asyncio.Event) -> AsyncIterator[int]:
    """Wait for a gate."""
    yield 1
    await gate.wait()


def make_view(task: str, **values: Any) -> TaskView:
    """Return a task that began a moment ago."""
    values = {"job": None, "progress": (0.5, "half\nway"), **values}
    return TaskView(task, "digest", 2, "working", time.time() - 3, **values)


@pytest.fixture
async def console() -> AsyncIterator[Console]:
    """Return a console to a worker with two tasks that wait."""
    gate = asyncio.Event()
    jobs = [asyncio.create_task(capability(gate), name=f"task {name}") for name in "ab"]
    await asyncio.sleep(0)
    yield make_console(
        running=(make_view("01ABC", job=jobs[0]), make_view("01XYZ", job=jobs[1], progress=None))
    )
    for job in jobs:
        job.cancel()
        with suppress(asyncio.CancelledError):
            await job


async def test_tasks_say_where_they_are(console: Console) -> None:
    """The author's line, not that of asyncio in which every task waits."""
    shown = (await console.run_beside("tasks")).splitlines()

    assert shown[0].split() == [
        *("TASK", "CAPABILITY", "STATE", "ATTEMPT", "AGE", "PROGRESS", "WHERE"),
    ]
    assert shown[1].startswith("01ABC  digest      working        2  3.")
    assert f"50% half\\nway  {HERE}:" in shown[1]
    assert shown[1].endswith(" in stream")
    assert "  -  " in shown[2]


async def test_a_task_is_found_by_its_beginning(console: Console) -> None:
    """Nobody types 26 characters."""
    shown = await console.run_beside("task", "01A")

    assert "task        01ABC" in shown
    assert shown.index("in capability") < shown.index("in stream") < shown.index("Event.wait")
    assert "await gate.wait()" in shown
    assert "runs in     job task a" in shown


async def test_a_beginning_that_is_not_unique_is_refused(console: Console) -> None:
    """A person must not look at the wrong one."""
    with pytest.raises(click.UsageError, match="2 tasks begin with '01': 01ABC, 01XYZ"):
        await console.run_beside("task", "01")


async def test_the_nearest_task_is_named(console: Console) -> None:
    """A slip of the finger is the likeliest cause."""
    with pytest.raises(click.ClickException, match=r"did you mean 01ABC\?"):
        await console.run_beside("task", "01ABD")
    with pytest.raises(click.ClickException, match="'tasks' lists those that run"):
        await console.run_beside("task", "zzz")


def test_a_task_in_a_thread_shows_that_threads_stack() -> None:
    """Sync capabilities have no coroutine."""
    inside, gate = threading.Event(), threading.Event()

    def work() -> None:
        inside.set()
        gate.wait()

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait()
    console = make_console(running=(make_view("t", thread=thread.ident),))
    document = console.read("task", "t")
    listed = console.read("tasks")["tasks"][0]
    shown = console.run("task", "t")
    gate.set()
    thread.join()

    author = [place for place in document["stack"] if place["is_author"]]
    assert [place["file"] for place in author] == [HERE]
    assert author[0]["function"].endswith("work")
    assert listed["where"] == author[0]
    assert {name: listed[name] for name in ("task", "capability", "state", "attempt")} == {
        "task": "t",
        "capability": "digest",
        "state": "working",
        "attempt": 2,
    }
    assert listed["progress"] == {"fraction": 0.5, "message": "half\nway"}
    assert f"runs in     thread {thread.ident}" in shown


def test_a_task_that_has_just_ended_is_no_error() -> None:
    """Between the list and the look it may be over."""
    console = make_console(running=(make_view("t", progress=(None, "hunter2")),))

    assert "between two lines" in console.run("task", "t")
    assert console.run("tasks").splitlines()[1].split()[-2:] == ["[redacted]", "-"]
    assert make_console().run("tasks") == "no tasks\n"
