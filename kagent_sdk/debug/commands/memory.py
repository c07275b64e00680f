"""memory: what the process's memory is used for, and what grows."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass
from typing import Any

import click

from kagent_sdk.debug.commands.output import (
    Group,
    change,
    json_option,
    say,
    say_json,
    say_table,
    seconds_option,
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

ALWAYS_WHOLE = frozenset({"rss_bytes", "uss_bytes", "tracer_bytes"})
"""Numbers that do not depend on how many objects were measured."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is kept of one call for the next.

    Attributes:
        types: count and bytes by type.
        is_whole: whether all objects were measured; else sizes cannot be compared.
    """

    usage: Usage
    types: dict[str, tuple[int, int]]
    is_whole: bool


@click.group("memory", cls=Group, invoke_without_command=True)
@click.option("--top", type=click.IntRange(1, 1000), default=15, show_default=True)
@click.option(
    "--objects",
    type=click.IntRange(1000, 10_000_000),
    default=500_000,
    show_default=True,
    help="Measure at most so many; each costs 70 bytes meanwhile.",
)
@seconds_option
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
    last: Look | None = session.memory.get(LAST)
    process = read_memory()
    heap = measure_heap(Budget(seconds, objects, session.is_over))
    usage = explain(process, heap, _tracer_bytes())
    session.memory[LAST] = Look(usage, _most(heap.types), heap.cut is None)
    if as_json:
        say_json(session, _as_json(heap, usage, last, top))
    else:
        _show_usage(session, heap, usage, last)
        _show_types(session, heap, last, top)


memory.add_command(start)
memory.add_command(diff)
memory.add_command(stop)
memory.add_command(watch)


def _tracer_bytes() -> int:
    return tracemalloc.get_tracemalloc_memory() if tracemalloc.is_tracing() else 0


def _most(types: dict[str, TypeUse]) -> dict[str, tuple[int, int]]:
    return {name: (use.count, use.bytes) for name, use in _largest(types, MAX_KEPT_TYPES)}


def _growth(heap: HeapView, last: Look, top: int) -> list[tuple[str, int, int | None]]:
    """Return name, more instances and more bytes, the largest growth first.

    Bytes are None where they cannot be compared. A type that was not among the largest then is
    taken for new: it has grown in any case.
    """
    changes: list[tuple[str, int, int | None]] = []
    for name, use in heap.types.items():
        count, old_bytes = last.types.get(name, (0, 0))
        more = use.bytes - old_bytes if _is_comparable(heap, last) else None
        if use.count > count or (more or 0) > 0:
            changes.append((name, use.count - count, more))
    return sorted(changes, key=lambda part: (-(part[2] or 0), -part[1], part[0]))[:top]


def _is_comparable(heap: HeapView, last: Look) -> bool:
    return heap.cut is None and last.is_whole


def _largest(types: dict[str, TypeUse], top: int) -> list[tuple[str, TypeUse]]:
    return sorted(types.items(), key=lambda item: (-item[1].bytes, item[0]))[:top]


def _show_usage(session: Session, heap: HeapView, usage: Usage, last: Look | None) -> None:
    heads = ("MEMORY", "SIZE", "CHANGE", "")
    rows = []
    for name, label, note in Usage.ROWS:
        value = getattr(usage, name)
        before = getattr(last.usage, name) if last is not None else None
        changed = change(value - before) if value is not None and before is not None else ""
        if last is not None and name not in ALWAYS_WHOLE and not _is_comparable(heap, last):
            changed = "?"
        if name == "tracer_bytes" and not value and not before:
            continue
        rows.append((label, size(value), changed, note))
    say_table(session, heads, rows, right="SIZE CHANGE")
    say(session)


def _show_types(session: Session, heap: HeapView, last: Look | None, top: int) -> None:
    rows = [(name, str(use.count), size(use.bytes)) for name, use in _largest(heap.types, top)]
    say_table(session, ("TYPE", "COUNT", "SIZE"), rows, right="COUNT SIZE")
    if heap.cut:
        say(session, f"cut: {heap.cut}; counts are whole, sizes are not, and too much counts as")
        say(session, "outside of Python; for more: --objects, --seconds")
    if heap.frozen:
        say(session, f"{heap.frozen} objects are frozen (gc.freeze), and not seen")
    say(session)
    if last is None:
        say(session, "call it again to see what grows")
        return
    grown = [
        (name, f"{count:+d}", "?" if more is None else change(more) or "0 B")
        for name, count, more in _growth(heap, last, top)
    ]
    if grown:
        say_table(session, ("GROWN SINCE", "COUNT", "SIZE"), grown, right="COUNT SIZE")
    else:
        say(session, "no type has grown since the last call")


def _as_json(heap: HeapView, usage: Usage, last: Look | None, top: int) -> dict[str, Any]:
    return {
        "process": usage.as_json(),
        "process_before": None if last is None else last.usage.as_json(),
        "types": [
            {"type": name, "count": use.count, "bytes": use.bytes}
            for name, use in _largest(heap.types, top)
        ],
        "growth": None
        if last is None
        else [
            {"type": name, "count": count, "bytes": more}
            for name, count, more in _growth(heap, last, top)
        ],
        "objects": heap.objects,
        "frozen": heap.frozen,
        "cut": heap.cut,
    }
