"""Whether the workers that a reload started may take over. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from kagent_sdk.errors import ReloadError

START_TIMED_OUT = "start_timed_out"
"""`kagent_sdk.host.health.Verdict.START_TIMED_OUT`, as the watchdog kills for it."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One worker on trial.

    Attributes:
        index: of its place.
        is_ready: whether it said READY.
        end: how it ended; None while it runs.
        traceback_text: the last lines that it wrote to stderr, or where it hung.
    """

    index: int
    is_ready: bool
    end: str | None = None
    traceback_text: str = ""


def may_take_over(contenders: Iterable[Contender], *, start_timeout_s: float) -> bool:
    """Say whether all of them are ready.

    Args:
        contenders: all the workers of the new generation.
        start_timeout_s: ``worker.start_timeout_s``, for the message.

    Raises:
        ReloadError: one of them has ended; says how.
    """
    all_ready = True
    for contender in contenders:
        if contender.end is not None:
            raise ReloadError(_describe(contender, start_timeout_s), contender.traceback_text)
        all_ready = all_ready and contender.is_ready
    return all_ready


def _describe(contender: Contender, start_timeout_s: float) -> str:
    who = f"worker {contender.index} of the new generation"
    if contender.end == START_TIMED_OUT:
        return f"{who} was not ready within worker.start_timeout_s ({start_timeout_s:g} s)"
    when = "after it was ready" if contender.is_ready else "before it was ready"
    return f"{who} ended {when} ({contender.end}); its last lines are in the log"


class Stage(StrEnum):
    """What a reload is at."""

    IDLE = "idle"
    RELOADING = "reloading"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a reload.

    Attributes:
        is_completed: the new workers took over; else the old ones go on.
        at: when it was over, in seconds since the epoch.
        took_s: from the moment that it began.
        reason: why it failed, as one sentence.
        traceback_text: the last lines of the worker that failed.
        changed: keys of the configuration that changed with it.
        needs_restart: keys that were changed, and keep their value until the host starts anew.
        is_refused: the agent is stopping, and tried nothing.
    """

    is_completed: bool
    at: float
    took_s: float = 0.0
    reason: str = ""
    traceback_text: str = ""
    changed: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    is_refused: bool = False
