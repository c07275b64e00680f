"""The names of snapshots: ``AGENT-20260131T235959Z-0a1b2c3d.tar.zst``. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

SUFFIX = ".tar.zst"
RANDOM_BYTES = 4
"""Two snapshots of one second must not have one name."""

_parse = re.compile(
    r"(?P<agent>[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)"
    r"-(?P<stamp>[0-9]{8}T[0-9]{6}Z)-(?P<random>[0-9a-f]{8})\.tar\.zst"
).fullmatch
_STAMP = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class SnapshotName:
    """A name taken apart.

    Attributes:
        created_at: in UTC, to the second.
    """

    agent: str
    created_at: datetime
    random: str

    def __str__(self) -> str:
        return f"{self.agent}-{self.created_at.strftime(_STAMP)}-{self.random}{SUFFIX}"


def make_name(agent: str, created_at: datetime, randomness: bytes) -> SnapshotName:
    """Return the name of a new snapshot; ``randomness`` has `RANDOM_BYTES`."""
    return SnapshotName(agent, created_at.astimezone(UTC).replace(microsecond=0), randomness.hex())


def parse_name(name: str) -> SnapshotName | None:
    """Take the name of a snapshot apart; None when it is none."""
    match = _parse(name)
    if match is None:
        return None
    try:
        created_at = datetime.strptime(match["stamp"], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None
    return SnapshotName(match["agent"], created_at, match["random"])


def pick_outdated(names: list[str], agent: str, keep: int, spare: str) -> list[str]:
    """Return which snapshots of an agent are beyond the newest ``keep``; never ``spare``.

    Args:
        names: of all files there.
        agent: whose.
        keep: how many stay, ``spare`` included.
        spare: the one that was just made, which stays even when the clock went backwards.
    """
    parsed = [(parse_name(name), name) for name in names if name != spare]
    own = sorted(
        ((found.created_at, name) for found, name in parsed if found and found.agent == agent),
        reverse=True,
    )
    return [name for _, name in own[max(0, keep - 1) :]]
