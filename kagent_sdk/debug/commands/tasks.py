"""tasks, task ID: what the worker is doing, and where."""

from __future__ import annotations

import time
from difflib import get_close_matches
from typing import Any

import click

from kagent_sdk.debug.commands.output import Command, age, json_option, say, say_json, say_table
from kagent_sdk.debug.commands.stacks import say_places
from kagent_sdk.debug.port import Session, TaskView
from kagent_sdk.debug.probes.names import clean
from kagent_sdk.debug.probes.stacks import (
    Place,
    author_place,
    find_loop_thread,
    stack_of_job,
    thread_views,
)

MAX_NAMED = 10


@click.command("tasks", cls=Command)
@json_option
@click.pass_obj
def tasks(session: Session, *, as_json: bool) -> None:
    """Show the tasks that run in this worker, and the author's line where each one is.

    Example: kos-agent debug . tasks
    """
    views = session.inspected.tasks()
    described = [(view, author_place(_stack_of(session, view))) for view in views]
    if as_json:
        documents = [
            {**_as_json(session, view), "where": place and place.as_json()}
            for view, place in described
        ]
        say_json(session, {"tasks": documents})
    elif described:
        rows = [
            (
                clean(view.task),
                clean(view.capability),
                view.state,
                str(view.attempt),
                age(_age_s(view)),
                _say_progress(session, view),
                str(place or "-"),
            )
            for view, place in described
        ]
        heads = ("TASK", "CAPABILITY", "STATE", "ATTEMPT", "AGE", "PROGRESS", "WHERE")
        say_table(session, heads, rows, right="ATTEMPT AGE")
    else:
        say(session, "no tasks")


@click.command("task", cls=Command)
@click.argument("task_id", metavar="ID")
@json_option
@click.pass_obj
def task(session: Session, task_id: str, *, as_json: bool) -> None:
    """Show all of one task, with the stack of its coroutine or thread, the innermost line last.

    The beginning of the ID is enough when no other task begins like it.

    Example: kos-agent debug . task 01J8
    """
    view = _find(session, task_id)
    places = _stack_of(session, view)
    if as_json:
        say_json(
            session, {**_as_json(session, view), "stack": [place.as_json() for place in places]}
        )
        return
    for name, word in (
        ("task", clean(view.task)),
        ("capability", clean(view.capability)),
        ("state", view.state),
        ("attempt", str(view.attempt)),
        ("age", age(_age_s(view))),
        ("progress", _say_progress(session, view)),
        ("runs in", _say_runner(view)),
    ):
        say(session, f"{name:<11} {word}")
    say(session)
    say_places(session, places)
    if not places:
        say(session, "it is between two lines: it has just ended, or not yet begun")


def _find(session: Session, task_id: str) -> TaskView:
    views = session.inspected.tasks()
    found = [view for view in views if view.task == task_id]
    found = found or [view for view in views if view.task.startswith(task_id)]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(clean(view.task) for view in found[:MAX_NAMED])
        raise click.UsageError(f"{len(found)} tasks begin with {clean(task_id)!r}: {ids}")
    near = get_close_matches(task_id, [view.task for view in views], n=1, cutoff=0.4)
    hint = f"; did you mean {clean(near[0])}?" if near else "; 'tasks' lists those that run"
    raise click.ClickException(f"no task {clean(task_id)!r} runs in this worker{hint}")


def _stack_of(session: Session, view: TaskView) -> list[Place]:
    if view.thread is not None:
        places = {thread.ident: thread.places for thread in thread_views()}
        return list(places.get(view.thread, ()))
    if view.job is None or view.job.done():
        return []
    return stack_of_job(view.job, find_loop_thread(session.inspected.loop))


def _as_json(session: Session, view: TaskView) -> dict[str, Any]:
    fraction, message = view.progress or (None, "")
    message = session.inspected.redact(message)
    return {
        "task": view.task,
        "capability": view.capability,
        "state": view.state,
        "attempt": view.attempt,
        "age_s": round(_age_s(view), 3),
        "progress": None if view.progress is None else {"fraction": fraction, "message": message},
        "thread": view.thread,
    }


def _age_s(view: TaskView) -> float:
    return max(0.0, time.time() - view.started_at)


def _say_progress(session: Session, view: TaskView) -> str:
    if view.progress is None:
        return "-"
    fraction, message = view.progress
    message = session.inspected.redact(message)
    share = "" if fraction is None else f"{fraction:.0%}"
    return f"{share} {clean(message, 60)}".strip() or "-"


def _say_runner(view: TaskView) -> str:
    if view.thread is not None:
        return f"thread {view.thread}"
    return "-" if view.job is None else f"job {clean(view.job.get_name())}"
