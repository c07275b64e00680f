"""memory: what the process's memory is used for, and what grows."""

from __future__ import annotations

import tracemalloc
from typing import Any

import click

from kagent_sdk.debug.commands.output import (
    Group,
    change,
    json_option,
    say,
    say_json,
    say_table,
    size,
)
from kagent_sdk.debug.commands.tracing import diff, start, stop
from kagent_sdk.debug.commands.watching import watch
from kagent_sdk.debug.port import Session
from kagent_sdk.debug.probes.budget import Budget
from kagent_sdk.debug.probes.heap import HeapView, TypeUse, measure_heap
from kagent_sdk.debug.probes.native import read_memory
from kagent_sdk.debug.probes.usage import Usage, explain

LAST = "memory.last"
MAX_KEPT_TYPES = 5000
"""Of the last call: enough for every program, and a bound for one that makes classes."""

Kept = dict[str, tuple[int, int]]
"""Count and bytes by type."""


@click.group("memory", cls=Group, invoke_without_command=True)
@click.option("--top", type=click.IntRange(1, 1000), default=15, show_default=True)
@click.option(
    "--objects",
    type=click.IntRange(1000, 10_000_000),
    default=500_000,
    show_default=True,
    help="Measure at most so many; each costs 70 bytes meanwhile.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 60),
    default=10,
    show_default=True,
    help="Look for at most so long, half of the time resting.",
)
@json_option
@click.pass_context
def memory(
    context: click.Context, *, top: int, objects: int, seconds: float, as_json: bool
) -> None:
    """Show what memory is used for: by type, outside of Python, and what has grown since the last call.

    SIZE is deep: an instance with the builtin containers, strings and numbers that are reached from
    it without passing an instance of another class. What several hold counts once, for the first. A
    container that no instance holds (a dict in a module, say) counts for its own type.

    "outside of Python" is what C code has taken from malloc beside Python's objects: when it grows
    from one call to the next and the types do not, C code leaks.

    'memory start', 'memory diff' and 'memory stop' show files and lines of what Python allocates,
    'memory watch' those that run while C code takes more.

    Example: kos-agent debug . memory --top 20
    """
    if context.invoked_subcommand is not None:
        return
    session: Session = context.obj
    last: tuple[Usage, Kept] | None = session.memory.get(LAST)
    process = read_memory()
    heap = measure_heap(Budget(seconds, objects, session.is_over))
    usage = explain(process, heap, _tracer_bytes())
    old_usage, old_types = last if last is not None else (None, None)
    session.memory[LAST] = (usage, _most(heap.types))
    if as_json:
        say_json(session, _as_json(heap, usage, old_usage, old_types, top))
    else:
        _show_usage(session, usage, old_usage)
        _show_types(session, heap, old_types, top)


memory.add_command(start)
memory.add_command(diff)
memory.add_command(stop)
memory.add_command(watch)


def _tracer_bytes() -> int:
    return tracemalloc.get_tracemalloc_memory() if tracemalloc.is_tracing() else 0


def _most(types: dict[str, TypeUse]) -> Kept:
    return {name: (use.count, use.bytes) for name, use in _largest(types, MAX_KEPT_TYPES)}


def _growth(types: dict[str, TypeUse], old: Kept | None, top: int) -> list[tuple[str, int, int]]:
    """Return name, more instances and more bytes, the largest growth first."""
    if old is None:
        return []
    # A type that was not among the largest then is taken for new: it has grown in any case.
    changes = []
    for name, use in types.items():
        count, bytes_before = old.get(name, (0, 0))
        changes.append((name, use.count - count, use.bytes - bytes_before))
    grown = [part for part in changes if part[1] > 0 or part[2] > 0]
    return sorted(grown, key=lambda part: (-part[2], -part[1], part[0]))[:top]


def _largest(types: dict[str, TypeUse], top: int) -> list[tuple[str, TypeUse]]:
    return sorted(types.items(), key=lambda item: (-item[1].bytes, item[0]))[:top]


def _show_usage(session: Session, usage: Usage, old: Usage | None) -> None:
    heads = ("MEMORY", "SIZE", "CHANGE", "")
    rows = []
    for name, label, note in Usage.ROWS:
        value = getattr(usage, name)
        before = getattr(old, name) if old is not None else None
        changed = change(value - before) if value is not None and before is not None else ""
        if name == "tracer_bytes" and not value and not before:
            continue
        rows.append((label, size(value), changed, note))
    say_table(session, heads, rows, right="SIZE CHANGE")
    say(session)


def _show_types(session: Session, heap: HeapView, old: Kept | None, top: int) -> None:
    rows = [(name, str(use.count), size(use.bytes)) for name, use in _largest(heap.types, top)]
    say_table(session, ("TYPE", "COUNT", "SIZE"), rows, right="COUNT SIZE")
    if heap.cut:
        say(session, f"cut: {heap.cut}; counts are whole, sizes are not (--objects, --seconds)")
    if heap.frozen:
        say(session, f"{heap.frozen} objects are frozen (gc.freeze), and not seen")
    say(session)
    if old is None:
        say(session, "call it again to see what grows")
        return
    grown = [
        (name, f"{count:+d}", change(more) or "0 B")
        for name, count, more in _growth(heap.types, old, top)
    ]
    if grown:
        say_table(session, ("GROWN SINCE", "COUNT", "SIZE"), grown, right="COUNT SIZE")
    else:
        say(session, "no type has grown since the last call")


def _as_json(
    heap: HeapView,
    usage: Usage,
    old_usage: Usage | None,
    old_types: Kept | None,
    top: int,
) -> dict[str, Any]:
    return {
        "process": usage.as_json(),
        "process_before": None if old_usage is None else old_usage.as_json(),
        "types": [
            {"type": name, "count": use.count, "bytes": use.bytes}
            for name, use in _largest(heap.types, top)
        ],
        "growth": None
        if old_types is None
        else [
            {"type": name, "count": count, "bytes": more}
            for name, count, more in _growth(heap.types, old_types, top)
        ],
        "objects": heap.objects,
        "frozen": heap.frozen,
        "cut": heap.cut,
    }
