"""The schedule of a shutdown: one budget, split into phases. Pure: the clock is handed in.

::

    signal                                                            signal + grace_s
    │ finish: tasks run on │ cancel │ stop: STOP, then SIGKILL │ flush │ over

A phase ends at its deadline, or earlier when there is nothing left to do in it; the caller then
simply goes on to the next, and the later deadlines stay. A second signal ends `finish` at once.
Every part of the split is a share of the budget, so even a tiny budget has all phases and the end
comes inside it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

# Enough for a task that cooperates; what is left of the budget lets tasks finish.
CANCEL_SHARE = 0.25
# on_shutdown hooks close connections; longer ones are cut off.
STOP_SHARE = 0.1
STOP_MAX_S = 5.0
# Results, state and the log's last lines go to a local disk.
FLUSH_SHARE = 0.08
FLUSH_MAX_S = 2.0


@dataclass(frozen=True, slots=True)
class ShutdownSchedule:
    """When each phase of a shutdown ends at the latest, on the caller's monotonic clock.

    Attributes:
        finish_until_s: tasks are cancelled from then on.
        interrupt_at_s: sync tasks that ignored the cancellation are interrupted from then on.
        cancel_until_s: workers are told to stop from then on.
        stop_until_s: workers are killed from then on.
        flush_until_s: the process exits, whatever is left to do.
    """

    finish_until_s: float
    interrupt_at_s: float
    cancel_until_s: float
    stop_until_s: float
    flush_until_s: float

    def hurry(self, now_s: float) -> ShutdownSchedule:
        """Return the schedule after a second signal at ``now_s``.

        Finishing ends now and the other phases keep their lengths; from the cancellation on, another
        signal changes nothing.
        """
        saved_s = self.finish_until_s - now_s
        if saved_s <= 0:
            return self
        return replace(
            self,
            finish_until_s=now_s,
            interrupt_at_s=self.interrupt_at_s - saved_s,
            cancel_until_s=self.cancel_until_s - saved_s,
            stop_until_s=self.stop_until_s - saved_s,
            flush_until_s=self.flush_until_s - saved_s,
        )


def plan_shutdown(
    started_at_s: float, *, grace_s: float, cancel_grace_s: float
) -> ShutdownSchedule:
    """Split the budget of a shutdown.

    Args:
        started_at_s: when the first signal, or the request to shut down, came.
        grace_s: ``shutdown.grace_s``: from then to the exit.
        cancel_grace_s: ``tasks.cancel_grace_s``: the most that a cancellation gets.
    """
    flush_s = min(FLUSH_MAX_S, grace_s * FLUSH_SHARE)
    stop_s = min(STOP_MAX_S, grace_s * STOP_SHARE)
    cancel_s = min(cancel_grace_s, grace_s * CANCEL_SHARE)
    flush_until_s = started_at_s + grace_s
    stop_until_s = flush_until_s - flush_s
    cancel_until_s = stop_until_s - stop_s
    finish_until_s = cancel_until_s - cancel_s
    return ShutdownSchedule(
        finish_until_s=finish_until_s,
        interrupt_at_s=finish_until_s + cancel_s / 2,
        cancel_until_s=cancel_until_s,
        stop_until_s=stop_until_s,
        flush_until_s=flush_until_s,
    )
