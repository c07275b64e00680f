"""memory start, diff, stop: where memory is allocated, by file and line."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import click

from kagent_sdk.debug.commands.output import (
    Command,
    change,
    json_option,
    say,
    say_json,
    say_table,
    size,
)
from kagent_sdk.debug.port import Session
from kagent_sdk.debug.probes.budget import Budget
from kagent_sdk.debug.probes.names import short_file
from kagent_sdk.debug.probes.sources import read_line
from kagent_sdk.debug.probes.tracing import LineGrowth, Totals, compare, take_totals

BASELINE = "memory.baseline"
IS_OURS = "memory.is_ours"
DEFAULT_FRAMES = 3
"""Enough to come from a library's line back to the author's in most cases; each one costs."""

MAX_TRACES = 20_000_000
SNAPSHOT_S = 60.0


@click.command("start", cls=Command)
@click.option(
    "--frames",
    type=click.IntRange(1, 50),
    default=DEFAULT_FRAMES,
    show_default=True,
    help="Keep so many lines of each allocation's stack.",
)
@json_option
@click.pass_obj
def start(session: Session, *, frames: int, as_json: bool) -> None:
    """Begin to note where memory is allocated (tracemalloc).

    Until 'memory stop' the agent runs slower. Code that does nothing but allocate takes 8 to 16 times
    as long with --frames 1, 13 to 27 times with 3, 80 to 190 times with 10 (CPython 3.11); code that
    waits is not slowed. Each block that is held costs some 60 bytes more. What was allocated before
    the start is not seen.

    Example: kos-agent debug . memory start
    """
    was_tracing = tracemalloc.is_tracing()
    if not was_tracing:
        tracemalloc.start(frames)
        session.memory[IS_OURS] = True
    session.memory[BASELINE] = _take(session) if was_tracing else {}
    if as_json:
        kept = tracemalloc.get_traceback_limit()
        say_json(session, {"was_tracing": was_tracing, "frames": kept})
        return
    if was_tracing:
        say(session, "memory is traced already; 'memory diff' now compares with this moment")
    else:
        say(session, f"memory is traced from now on, with {frames} lines of each stack;")
        say(session, "until 'memory stop' code that only allocates runs 10 to 30 times as long")
        say(session, "see what grows: memory diff")


@click.command("diff", cls=Command)
@click.option("--top", type=click.IntRange(1, 1000), default=15, show_default=True)
@json_option
@click.pass_obj
def diff(session: Session, *, top: int, as_json: bool) -> None:
    """Show what was allocated since the start, or the last diff, and is still held.

    Lines of the author's come first. A line stands for what it allocated itself and in the libraries
    that it called, as far as the frames that are kept reach. It takes a moment, in which the agent
    stands still, and for that time about as much memory as the tracer holds.

    Example: kos-agent debug . memory diff --top 5
    """
    if not tracemalloc.is_tracing():
        raise click.ClickException("memory is not traced; begin with: memory start")
    before: Totals = session.memory.get(BASELINE, {})
    after = _take(session)
    session.memory[BASELINE] = after
    changes = compare(before, after)
    if as_json:
        tracer = tracemalloc.get_tracemalloc_memory()
        lines = [_as_json(session, growth) for growth in changes[:top]]
        say_json(session, {"lines": lines, "tracer_bytes": tracer})
    else:
        _show(session, changes, top)


@click.command("stop", cls=Command)
@click.pass_obj
def stop(session: Session) -> None:
    """Stop noting where memory is allocated, and free what was noted.

    Example: kos-agent debug . memory stop
    """
    session.memory.pop(BASELINE, None)
    if not tracemalloc.is_tracing():
        raise click.ClickException("memory is not traced")
    if not session.memory.pop(IS_OURS, False):
        raise click.ClickException("the agent itself traces its memory; that goes on")
    held = tracemalloc.get_tracemalloc_memory()
    tracemalloc.stop()
    say(session, f"memory is traced no more; {size(held)} of notes are freed")


def _take(session: Session) -> Totals:
    budget = Budget(SNAPSHOT_S, MAX_TRACES, session.is_over)
    try:
        totals = take_totals(budget)
    except MemoryError:
        held = size(tracemalloc.get_tracemalloc_memory())
        raise click.ClickException(
            f"the tracer holds {held}: to look at it would take as much again, for a moment; "
            "'memory stop', then 'memory start --frames 1'"
        ) from None
    if budget.cut:
        raise click.ClickException(f"nothing to compare: {budget.cut}")
    return totals


def _show(session: Session, changes: Sequence[LineGrowth], top: int) -> None:
    tracer = size(tracemalloc.get_tracemalloc_memory())
    if not changes:
        say(session, f"nothing has changed (the tracer holds {tracer})")
        return
    rows = [
        (
            change(growth.bytes) or "0 B",
            f"{growth.blocks:+d}",
            size(growth.total_bytes),
            f"{short_file(growth.line[0])}:{growth.line[1]}",
            _source(session, growth),
        )
        for growth in changes[:top]
    ]
    say_table(session, ("GROWN", "BLOCKS", "HELD", "LINE", ""), rows, right="GROWN BLOCKS HELD")
    say(session, f"\n{len(changes)} lines have changed; the tracer holds {tracer}")


def _source(session: Session, growth: LineGrowth) -> str:
    return session.inspected.redact(read_line(*growth.line)) if growth.is_author else ""


def _as_json(session: Session, growth: LineGrowth) -> dict[str, object]:
    return {
        "file": short_file(growth.line[0]),
        "line": growth.line[1],
        "is_author": growth.is_author,
        "bytes": growth.bytes,
        "blocks": growth.blocks,
        "held_bytes": growth.total_bytes,
        "source": _source(session, growth),
    }
