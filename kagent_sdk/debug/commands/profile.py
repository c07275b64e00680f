"""profile SECONDS: what the agent spends its time on."""

from __future__ import annotations

import json

import click

from kagent_sdk.debug.commands.output import Command, age, say, say_table
from kagent_sdk.debug.port import Session
from kagent_sdk.debug.probes.profiles import collapsed, hottest_path, speedscope, top_lines
from kagent_sdk.debug.probes.sampling import Profile, Sampler

FORMATS = ("text", "speedscope", "collapsed")


@click.command("profile", cls=Command)
@click.argument("seconds", type=click.FloatRange(0.05, 300))
@click.option(
    "--speedscope", "form", flag_value="speedscope", help="Print JSON for speedscope.app."
)
@click.option("--collapsed", "form", flag_value="collapsed", help="Print lines for flamegraph.pl.")
@click.option("--hz", type=click.FloatRange(1, 1000), default=100, show_default=True)
@click.option("--top", type=click.IntRange(1, 200), default=15, show_default=True)
@click.option("--idle", "with_idle", is_flag=True, help="Count the time spent waiting, too.")
@click.pass_obj
def profile(
    session: Session, seconds: float, *, form: str | None, hz: float, top: int, with_idle: bool
) -> None:
    """Look at all threads for SECONDS, and say which lines take the time.

    It measures the time that passes, not that of the processor: a thread that waits for a file or a
    lock counts, one that waits for work does not (--idle). Ctrl-C ends it early, and shows what was
    seen. It costs the agent about 2 % of a core at 100 Hz with a dozen threads.

    Example: kos-agent debug . profile 5 --speedscope > profile.json
    """
    sampler = Sampler(session.inspected, hz, with_idle=with_idle)
    found = sampler.run(seconds, session.is_over)
    if form == "speedscope":
        name = f"{found.took_s:.1f} s at {hz:g} Hz, {found.looks} looks, {found.missed} missed"
        say(session, json.dumps(speedscope(found, name), separators=(",", ":")))
    elif form == "collapsed":
        for line in collapsed(found):
            say(session, line)
    else:
        _show(session, found, top)


def _show(session: Session, found: Profile, top: int) -> None:
    say(
        session,
        f"looked {found.looks} times in {age(found.took_s)} ({found.hz:g} Hz wanted), came too late "
        f"{found.missed} times; the longest gap was {found.longest_gap_s * 1000:.0f} ms",
    )
    for who, seconds in sorted(found.idle_s.items(), key=lambda item: -item[1]):
        say(session, f"waiting {age(seconds):>8}  {who}")
    busy_s = found.busy_s
    if not busy_s:
        say(session, "nothing ran")
        return
    say(session, f"busy    {age(busy_s):>8}\n")
    rows = [
        (f"{own_s / busy_s:.1%}", f"{total_s / busy_s:.1%}", age(own_s), str(place))
        for place, own_s, total_s in top_lines(found, top)
    ]
    say_table(session, ("SELF", "TOTAL", "TIME", "LINE"), rows, right="SELF TOTAL TIME")
    say(session, "\nthe hottest path:")
    for depth, (words, seconds) in enumerate(hottest_path(found)):
        say(session, f"{seconds / busy_s:>6.1%} {'  ' * min(depth, 20)}{words}")
