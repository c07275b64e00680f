"""A profile as others read it: text, speedscope's JSON, collapsed stacks. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from kagent_sdk.debug.probes.names import short_file
from kagent_sdk.debug.probes.sampling import Profile, Stack
from kagent_sdk.debug.probes.stacks import Place

SCHEMA = "https://www.speedscope.app/file-format-schema.json"
MAX_PATH = 40
BRANCH_SHARE = 0.1
"""The hottest path goes on while one line has at least this share of the whole."""


def speedscope(profile: Profile, name: str) -> dict[str, Any]:
    """Return a document for https://www.speedscope.app: one profile for each who ran."""
    numbers: dict[Place, int] = {}
    profiles = []
    for who, stacks in sorted(profile.seconds.items(), key=lambda item: -sum(item[1].values())):
        samples = [[numbers.setdefault(place, len(numbers)) for place in stack] for stack in stacks]
        weights = [round(seconds, 6) for seconds in stacks.values()]
        profiles.append(
            {
                "type": "sampled",
                "name": who,
                "unit": "seconds",
                "startValue": 0,
                "endValue": round(sum(weights), 6),
                "samples": samples,
                "weights": weights,
            }
        )
    frames = [
        {"name": place.function, "file": short_file(place.file), "line": place.line}
        for place in numbers
    ]
    return {
        "$schema": SCHEMA,
        "name": name,
        "exporter": "kos-agent debug",
        "activeProfileIndex": 0,
        "shared": {"frames": frames},
        "profiles": profiles,
    }


def collapsed(profile: Profile) -> Iterator[str]:
    """Yield lines for flamegraph.pl: stack and milliseconds."""
    for who, stacks in profile.seconds.items():
        for stack, seconds in stacks.items():
            names = [who, *(f"{place.function} ({_where(place)})" for place in stack)]
            line = ";".join(name.replace(";", ":") for name in names)
            yield f"{line} {max(1, round(seconds * 1000))}"


def top_lines(profile: Profile, count: int) -> list[tuple[Place, float, float]]:
    """Return the lines with the most time of their own: place, own seconds, seconds in all."""
    own: defaultdict[Place, float] = defaultdict(float)
    total: defaultdict[Place, float] = defaultdict(float)
    for stacks in profile.seconds.values():
        for stack, seconds in stacks.items():
            own[stack[-1]] += seconds
            for place in set(stack):
                total[place] += seconds
    places = sorted(own, key=lambda place: (-own[place], place.file, place.line))
    return [(place, own[place], total[place]) for place in places[:count]]


def hottest_path(profile: Profile) -> list[tuple[str, float]]:
    """Return the path of the most time, from who ran down: words, and seconds below them."""
    if not profile.seconds:
        return []
    who, stacks = max(profile.seconds.items(), key=lambda item: sum(item[1].values()))
    path = [(who, sum(stacks.values()))]
    below: list[tuple[Stack, float]] = list(stacks.items())
    for depth in range(MAX_PATH):
        shares: defaultdict[Place, float] = defaultdict(float)
        for stack, seconds in below:
            if len(stack) > depth:
                shares[stack[depth]] += seconds
        if not shares:
            break
        place = max(shares, key=lambda place: (shares[place], place.file, place.line))
        if shares[place] < BRANCH_SHARE * path[0][1]:
            break
        path.append((str(place), shares[place]))
        below = [
            (stack, seconds)
            for stack, seconds in below
            if len(stack) > depth and stack[depth] == place
        ]
    return path


def _where(place: Place) -> str:
    return f"{short_file(place.file)}:{place.line}"
