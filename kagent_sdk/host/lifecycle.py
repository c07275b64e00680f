"""The life of an agent as a state machine. Pure: the clock is handed in.

::

    starting ──▶ ready ◀──▶ busy          any state but the last two ──▶ failed
        │          │         │
        └──────────┴────┬────┘
                        ▼
                    draining ──▶ stopping ──▶ stopped

`stopping` can also be entered straight from the states above it: when nothing has to be drained.
"""

from __future__ import annotations

from enum import StrEnum

from kagent_sdk.errors import InvalidTransitionError


class LifecycleState(StrEnum):
    """Where the agent is in its life."""

    STARTING = "starting"
    READY = "ready"
    BUSY = "busy"
    DRAINING = "draining"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


_ENDS = frozenset({LifecycleState.DRAINING, LifecycleState.STOPPING, LifecycleState.FAILED})

TRANSITIONS: dict[LifecycleState, frozenset[LifecycleState]] = {
    LifecycleState.STARTING: _ENDS | {LifecycleState.READY},
    LifecycleState.READY: _ENDS | {LifecycleState.BUSY},
    LifecycleState.BUSY: _ENDS | {LifecycleState.READY},
    LifecycleState.DRAINING: frozenset({LifecycleState.STOPPING, LifecycleState.FAILED}),
    LifecycleState.STOPPING: frozenset({LifecycleState.STOPPED, LifecycleState.FAILED}),
    LifecycleState.STOPPED: frozenset(),
    LifecycleState.FAILED: frozenset(),
}
"""Which states may follow each state."""

SERVING = frozenset({LifecycleState.READY, LifecycleState.BUSY})
"""States in which the agent takes tasks."""

ENDING = frozenset({LifecycleState.DRAINING, LifecycleState.STOPPING, LifecycleState.STOPPED})
"""States of an agent that was asked to stop."""


class Lifecycle:
    """The agent's state, and when it entered each.

    Args:
        now_s: the present time, on whichever clock the caller uses throughout.
    """

    __slots__ = ("_entered_s", "_state")

    def __init__(self, now_s: float) -> None:
        self._state = LifecycleState.STARTING
        self._entered_s = {LifecycleState.STARTING: now_s}

    @property
    def state(self) -> LifecycleState:
        """The present state."""
        return self._state

    @property
    def since_s(self) -> float:
        """When the present state was entered."""
        return self._entered_s[self._state]

    @property
    def is_serving(self) -> bool:
        """Whether the agent takes tasks."""
        return self._state in SERVING

    @property
    def is_ending(self) -> bool:
        """Whether the agent was asked to stop."""
        return self._state in ENDING

    def entered_s(self, state: LifecycleState) -> float | None:
        """Return when ``state`` was last entered, or None if it never was."""
        return self._entered_s.get(state)

    def enter(self, state: LifecycleState, now_s: float) -> bool:
        """Go to ``state``; return False, and change nothing, when that is the present one.

        Raises:
            InvalidTransitionError: ``state`` may not follow the present one.
        """
        if state is self._state:
            return False
        if state not in TRANSITIONS[self._state]:
            raise InvalidTransitionError(self._state, state)
        self._state = state
        self._entered_s[state] = now_s
        return True

    def mark_busy(self, now_s: float, *, busy: bool) -> None:
        """Go between `ready` and `busy`; outside of these two, change nothing."""
        if self._state in SERVING:
            self.enter(LifecycleState.BUSY if busy else LifecycleState.READY, now_s)
