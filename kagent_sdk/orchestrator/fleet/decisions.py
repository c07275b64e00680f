"""What the fleet decides: when to start again, when to replace, how many. Pure; clocks are handed in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

STABLE_S = 10.0
"""A replica that was ready for so long has shown that it works."""

CRASH_LIMIT = 5
"""So many unstable ends in a row are a crash loop: it is shown as failed, and tried less and less."""

BACKOFF_INITIAL_S = 0.5
BACKOFF_MAX_S = 60.0
LOOP_BACKOFF_MAX_S = 600.0


class State(StrEnum):
    """How a replica is."""

    STARTING = "starting"
    READY = "ready"
    NOT_READY = "not_ready"
    WAITING = "waiting"
    FAILED = "failed"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Probe:
    """What a replica said when it was asked.

    Attributes:
        is_alive: ``/healthz`` is well; a ready one is.
        is_ready: ``/readyz`` is well.
        reason: why it is not ready, in a word.
    """

    is_alive: bool
    is_ready: bool
    reason: str = ""


UNREACHABLE = Probe(is_alive=False, is_ready=False, reason="no_answer")


@dataclass(frozen=True, slots=True)
class HealthLimits:
    """How long a replica may fail its probe.

    Attributes:
        start_s: from its start on, until it has been well once.
        unhealthy_s: from then on.
    """

    start_s: float
    unhealthy_s: float


def assume_alive(started_s: float, *, is_adopted: bool) -> float | None:
    """Return when a replica was well before anybody asked it; None: never.

    One that was adopted has started long ago, and gets no time for a start again: else one that stands
    still would be left alone for as long at each restart of the orchestrator.

    Args:
        started_s: when it was started, or adopted.
        is_adopted: an orchestrator before this one has started it.
    """
    return started_s if is_adopted else None


def must_replace(
    now_s: float, *, started_s: float, alive_s: float | None, limits: HealthLimits
) -> bool:
    """Say whether a replica has been unwell for too long.

    Args:
        now_s: the present.
        started_s: when it was started.
        alive_s: when it last was well; None: never.
        limits: how long it may be unwell.
    """
    if alive_s is None:
        return now_s - started_s >= max(limits.start_s, limits.unhealthy_s)
    return now_s - alive_s >= limits.unhealthy_s


def longest_wait_s(unstable: int) -> float:
    """Return the bound of the wait before the next start, after so many unstable ends in a row."""
    return BACKOFF_MAX_S if unstable < CRASH_LIMIT else LOOP_BACKOFF_MAX_S


def resting_state(unstable: int) -> State:
    """Return how a replica is shown that waits for its next start."""
    return State.WAITING if unstable < CRASH_LIMIT else State.FAILED


def pick_replicas(asked: int, recorded: tuple[int, int] | None) -> int:
    """Return how many replicas to run.

    Args:
        asked: what mesh.yaml says.
        recorded: what mesh.yaml said, and how many there were, when this was last written down.
    """
    if recorded is None or recorded[0] != asked:
        return asked
    return recorded[1]  # somebody has scaled it since: that holds until mesh.yaml says otherwise


def pick_release(made: str, recorded: str | None, *, any_running: bool) -> str:
    """Return the release to run after a start of the orchestrator.

    Replicas that an orchestrator left running keep theirs: an update is asked for, and never the side
    effect of a crash.
    """
    return recorded if any_running and recorded is not None else made


def describe_end(code: int | None, tail: str) -> str:
    """Say how a host ended, in one line.

    Args:
        code: its return code; None: not known.
        tail: the last line that it wrote.
    """
    if code is None:
        how = "ended"
    elif code < 0:
        how = f"was killed by signal {-code}"
    else:
        how = f"ended with exit code {code}"
    return f"{how}: {tail}" if tail else how
