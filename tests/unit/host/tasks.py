"""Tasks and a clock for the unit tests of the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kagent_sdk.host.task import Submission, Task
from kagent_sdk.protocol.manifest import CapabilityManifest


def make_task(
    name: str = "digest", *, sequence: int = 1, input: bytes = b"{}", streams: bool = False
) -> Task:
    """Return a task of a capability called ``name``."""
    manifest = CapabilityManifest(name=name, input_schema={}, output_schema={}, streams=streams)
    submission = Submission(f"t{sequence}", name, input, kept=True)
    return Task(submission, manifest, created_at=1.0, sequence=sequence)


class FakeTimer:
    """A timer of `FakeLoop`."""

    def __init__(self, at: float, callback: Callable[[], None]) -> None:
        self.at = at
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        """Let it never run."""
        self.is_cancelled = True


class FakeLoop:
    """A clock that moves when told, and the timers set on it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[FakeTimer] = []

    def time(self) -> float:
        """Return the time that the test has set."""
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Any:
        """Set a timer."""
        timer = FakeTimer(when, callback)
        self.timers.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        """Move the clock and run what is due, in order."""
        self.now += seconds
        while True:
            due = [t for t in self.timers if t.at <= self.now and not t.is_cancelled]
            if not due:
                return
            timer = min(due, key=lambda t: t.at)
            self.timers.remove(timer)
            timer.callback()

    @property
    def armed(self) -> list[FakeTimer]:
        """Timers that will still run."""
        return [timer for timer in self.timers if not timer.is_cancelled]
