"""stacks: where every thread is."""

from __future__ import annotations

import asyncio

import click

from kagent_sdk.debug.commands.output import Command, json_option, say, say_json
from kagent_sdk.debug.port import Session
from kagent_sdk.debug.probes.names import clean
from kagent_sdk.debug.probes.sources import read_line
from kagent_sdk.debug.probes.stacks import Place, find_loop_thread, thread_views


@click.command("stacks", cls=Command)
@json_option
@click.pass_obj
def stacks(session: Session, *, as_json: bool) -> None:
    """Show the stack of every thread, the innermost line last.

    Works while the agent's loop is blocked; while C code holds the interpreter the host answers in
    its stead.

    Example: kos-agent debug . stacks
    """
    loop_thread = find_loop_thread(session.inspected.loop)
    jobs = _count_jobs(session)
    threads = thread_views()
    if as_json:
        document = [
            {
                "ident": thread.ident,
                "name": thread.name,
                "is_loop": thread.ident == loop_thread,
                "stack": [place.as_json() for place in thread.places],
            }
            for thread in threads
        ]
        say_json(session, {"jobs": jobs, "threads": document})
        return
    for thread in threads:
        is_loop = thread.ident == loop_thread
        mark = f"  (runs the agent's loop, {_say_jobs(jobs)})" if is_loop else ""
        say(session, f"thread {thread.name}{mark}")
        say_places(session, thread.places)
        say(session)


def say_places(session: Session, places: tuple[Place, ...] | list[Place]) -> None:
    """Print a stack; the author's lines stand out and come with their source."""
    for place in places:
        say(session, f"{'>' if place.is_author else ' '} {place}")
        if place.is_author and (source := read_line(place.file, place.line)):
            say(session, f"      {clean(session.inspected.redact(source))}")


def _count_jobs(session: Session) -> int | None:
    try:
        return len(asyncio.all_tasks(session.inspected.loop))
    except RuntimeError:
        return None  # they change faster than they can be counted


def _say_jobs(count: int | None) -> str:
    return "many jobs" if count is None else f"{count} job{'' if count == 1 else 's'}"
