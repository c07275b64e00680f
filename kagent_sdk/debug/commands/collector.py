"""gc, gc collect, gc cycles: what the cycle collector does and finds."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from kagent_sdk.debug.commands.output import Group, json_option, say, say_json, say_table
from kagent_sdk.debug.port import Session
from kagent_sdk.debug.probes.budget import Budget
from kagent_sdk.debug.probes.collector import (
    CyclicType,
    collect,
    find_cycles,
    view_collector,
)
from kagent_sdk.debug.probes.names import short_file

CYCLES_S = 10.0
MAX_CYCLE_OBJECTS = 2_000_000


@click.group("gc", cls=Group, invoke_without_command=True)
@json_option
@click.pass_context
def gc(context: click.Context, *, as_json: bool) -> None:
    """Show how the cycle collector stands; 'gc collect' runs it, 'gc cycles' says what it finds.

    Example: kos-agent debug . gc
    """
    if context.invoked_subcommand is not None:
        return
    session: Session = context.obj
    view = view_collector()
    if as_json:
        say_json(session, asdict(view))
        return
    say(
        session,
        f"automatic      {'on' if view.is_enabled else 'OFF: only gc.collect() frees cycles'}",
    )
    say(session, f"frozen         {view.frozen} objects")
    say(session)
    rows = [
        (
            str(number),
            str(view.counts[number]),
            str(view.thresholds[number]),
            str(stats["collections"]),
            str(stats["collected"]),
            str(stats["uncollectable"]),
        )
        for number, stats in enumerate(view.stats)
    ]
    heads = ("GENERATION", "COUNT", "THRESHOLD", "RUNS", "FREED", "UNCOLLECTABLE")
    say_table(session, heads, rows, right=" ".join(heads))
    if view.uncollectable:
        say(session, "\nin gc.garbage:")
        for name, count in view.uncollectable.items():
            say(session, f"  {count}  {name}")


@gc.command("collect")
@json_option
@click.pass_obj
def run(session: Session, *, as_json: bool) -> None:
    """Run a full collection; the agent stands still for it.

    Example: kos-agent debug . gc collect
    """
    freed, took_s = collect()
    if as_json:
        say_json(session, {"freed": freed, "took_s": round(took_s, 6)})
    else:
        say(session, f"{freed} unreachable objects found and freed in {took_s * 1000:.1f} ms")


@gc.command("cycles")
@click.option("--top", type=click.IntRange(1, 200), default=20, show_default=True)
@json_option
@click.pass_obj
def cycles(session: Session, *, top: int, as_json: bool) -> None:
    """Run a full collection, and say of which types is what only the collector could free.

    Such objects lie in reference cycles or hang from one. Their finalizers run, as in any collection,
    and then they are freed. The agent stands still for the collection.

    Example: kos-agent debug . gc cycles
    """
    found = find_cycles(Budget(CYCLES_S, MAX_CYCLE_OBJECTS, session.is_over))
    shown = found.types[:top]
    if as_json:
        document: dict[str, Any] = {
            "objects": found.objects,
            "took_s": round(found.took_s, 6),
            "cut": found.cut,
            "types": [_as_json(view) for view in shown],
        }
        say_json(session, document)
        return
    took = f"{found.took_s * 1000:.1f} ms"
    say(session, f"{found.objects} objects were unreachable, in {took}; now they are freed")
    if shown:
        rows = [(str(view.count), view.name, _say_note(view), _say_place(view)) for view in shown]
        say_table(session, ("COUNT", "TYPE", "", "WHERE"), rows, right="COUNT")
    if found.cut:
        say(session, f"cut: {found.cut}")


def _as_json(view: CyclicType) -> dict[str, Any]:
    file, line = view.place or (None, None)
    return {
        "type": view.name,
        "count": view.count,
        "is_linked": view.is_linked,
        "has_finalizer": view.has_finalizer,
        "file": file and short_file(file),
        "line": line,
    }


def _say_note(view: CyclicType) -> str:
    return "has __del__" if view.has_finalizer else ""


def _say_place(view: CyclicType) -> str:
    return "-" if view.place is None else f"{short_file(view.place[0])}:{view.place[1]}"
