"""memory watch: which lines run while memory grows."""

from __future__ import annotations

import click

from kagent_sdk.debug.commands.output import Command, change, json_option, say, say_json, say_table
from kagent_sdk.debug.port import Session
from kagent_sdk.debug.probes.sources import read_line
from kagent_sdk.debug.probes.stacks import Place
from kagent_sdk.debug.probes.watching import NOWHERE, Growth, GrowthWatch


@click.command("watch", cls=Command)
@click.argument("seconds", type=click.FloatRange(0.05, 300))
@click.option("--hz", type=click.FloatRange(1, 1000), default=200, show_default=True)
@click.option("--top", type=click.IntRange(1, 200), default=10, show_default=True)
@json_option
@click.pass_obj
def watch(session: Session, seconds: float, *, hz: float, top: int, as_json: bool) -> None:
    """Look for SECONDS at what malloc hands out, and say which of the author's lines ran when it grew.

    For memory that C code takes and 'memory diff' cannot see. It is a hint, no proof: growth is noticed
    a moment later, when its line may have ended, and may be Python's own. A line that comes up again and
    again is worth a look.

    Example: kos-agent debug . memory watch 30
    """
    growth = GrowthWatch(hz).run(seconds, session.is_over)
    ranked = sorted(growth.places.items(), key=lambda item: (item[0] == NOWHERE, -item[1]))
    grown = [(place, taken) for place, taken in ranked if taken >= 1][:top]
    if as_json:
        lines = [{**place.as_json(), "bytes": round(taken)} for place, taken in grown]
        say_json(session, {"looks": growth.looks, "bytes": growth.bytes, "lines": lines})
    else:
        _show(session, growth, grown)


def _show(session: Session, growth: Growth, grown: list[tuple[Place, float]]) -> None:
    changed = change(growth.bytes) or "no change"
    say(session, f"looked {growth.looks} times; malloc has handed out: {changed}")
    rows = [
        (
            change(taken),
            str(place),
            session.inspected.redact(read_line(place.file, place.line)),
        )
        for place, taken in grown
    ]
    if rows:
        say_table(session, ("GROWN", "LINE THAT RAN", ""), rows, right="GROWN")
