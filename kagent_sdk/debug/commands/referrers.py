"""referrers TYPE|ID: why objects are alive."""

from __future__ import annotations

from dataclasses import asdict

import click

from kagent_sdk.debug.commands.output import Command, json_option, say, say_json, seconds_option
from kagent_sdk.debug.port import Session
from kagent_sdk.debug.probes.budget import Budget
from kagent_sdk.debug.probes.chains import ChainFinder, Chains, default_roots
from kagent_sdk.debug.probes.edges import EdgeNamer
from kagent_sdk.debug.probes.names import clean, is_author_file, short_file, type_name
from kagent_sdk.debug.probes.sources import class_place
from kagent_sdk.debug.probes.targets import find_types, instances_of, object_of, parse_id

MAX_OBJECTS = 2_000_000


@click.command("referrers", cls=Command)
@click.argument("target", metavar="TYPE|ID")
@click.option(
    "--paths",
    "limit",
    type=click.IntRange(1, 50),
    default=5,
    show_default=True,
    help="Show at most so many chains.",
)
@seconds_option
@json_option
@click.pass_obj
def referrers(session: Session, target: str, *, limit: int, seconds: float, as_json: bool) -> None:
    """Show why the objects of a TYPE (or the one with an ID, as id() tells it) are alive.

    TYPE is the full name of a class or its last part. Each chain leads from what Python itself holds
    (a module, a thread's or a job's local variable) to the objects, and says how many of them its
    last step holds. Looking at a million objects takes some seconds, and 100 MB for that time.

    Example: kos-agent debug . referrers Digest
    """
    budget = Budget(seconds, MAX_OBJECTS, session.is_over)
    finder, wanted, words = _find_target(session, target, budget)
    try:
        found = finder.find(default_roots(session.inspected.loop), wanted, limit)
    finally:
        wanted.clear()
    if as_json:
        say_json(session, {"target": words, **asdict(found)})
    else:
        _show(session, words, found)


def _find_target(
    session: Session, target: str, budget: Budget
) -> tuple[ChainFinder, list[object], str]:
    namer = EdgeNamer(session.inspected.redact)
    ident = parse_id(target)
    if ident is not None:
        thing = object_of(ident, budget)
        if thing is None:
            raise click.ClickException(f"no object has the id {ident}, or the collector knows none")
        words = f"{type_name(type(thing))} {ident}"
        return ChainFinder(lambda other: id(other) == ident, namer, budget), [thing], words
    types, near = find_types(target)
    if not types:
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise click.ClickException(f"no class is called {clean(target)!r}{hint}")
    wanted_types = set(map(id, types))
    words = ", ".join(dict.fromkeys(_say_type(cls) for cls in types))
    wanted = instances_of(types, budget)
    return ChainFinder(lambda other: id(type(other)) in wanted_types, namer, budget), wanted, words


def _say_type(cls: type) -> str:
    place = class_place(cls)
    if place is None or not is_author_file(place[0]):
        return type_name(cls)
    return f"{type_name(cls)} ({short_file(place[0])}:{place[1]})"


def _show(session: Session, words: str, found: Chains) -> None:
    say(session, f"{words}: {'at least ' if found.cut else ''}{found.found} alive")
    for chain in found.chains:
        say(session, f"\n{chain.count} by")
        for depth, step in enumerate(chain.steps):
            say(session, f"  {'  ' * min(depth, 20)}{'→ ' if depth else ''}{step}")
    if found.unreached:
        why = (
            "not reached in the time (see below)"
            if found.cut
            else "reached from nowhere: cycles that wait for the collector, or held by C code"
        )
        say(session, f"\n{found.unreached} {why}")
        for name, count in found.holders:
            say(session, f"  held by {name}" + (f" ({count} times)" if count > 1 else ""))
    if found.cut:
        say(session, f"\ncut: {found.cut}; --seconds gives it more time")
