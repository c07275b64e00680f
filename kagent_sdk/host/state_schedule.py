"""When the state is written to its file: soon when the agent rests, in good time when it does not."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

QUIET_S = 1.0
"""Without a change and without a task: then is a good moment."""

REST_RATIO = 20.0
"""Between two exports in quiet moments passes so many times what one takes: a large state that
changes now and then costs 5 % of a core at the most. The deadline, ``state.export_s``, holds all the same."""

RETRY_FIRST_S = 1.0
RETRY_MAX_S = 60.0


@dataclass(frozen=True, slots=True)
class ExportSchedule:
    """What decides about the next export; all times are on the loop's clock.

    Attributes:
        export_s: the longest that a change may wait.
        dirty_since_s: when the first change came that is not in the file; None: all are.
        changed_at_s: when the last one came.
        exported_at_s: when the last export ended.
        took_s: how long it took.
        failures: how many have failed since then.
        failed_at_s: when the last of them did.
    """

    export_s: float
    dirty_since_s: float | None = None
    changed_at_s: float = -math.inf
    exported_at_s: float = -math.inf
    took_s: float = 0.0
    failures: int = 0
    failed_at_s: float = -math.inf

    def change(self, now_s: float) -> ExportSchedule:
        """Return the schedule after a change of the state."""
        since_s = now_s if self.dirty_since_s is None else self.dirty_since_s
        return replace(self, dirty_since_s=since_s, changed_at_s=now_s)

    def succeed(self, began_s: float, now_s: float) -> ExportSchedule:
        """Return the schedule after an export; what changed while it ran is not in it."""
        since_s = self.changed_at_s if self.changed_at_s > began_s else None
        return replace(
            self,
            dirty_since_s=since_s,
            exported_at_s=now_s,
            took_s=now_s - began_s,
            failures=0,
        )

    def fail(self, now_s: float) -> ExportSchedule:
        """Return the schedule after an export that did not succeed."""
        since_s = now_s if self.dirty_since_s is None else self.dirty_since_s
        return replace(self, dirty_since_s=since_s, failures=self.failures + 1, failed_at_s=now_s)

    def due_at_s(self, now_s: float, *, is_idle: bool) -> float:
        """Return when to export, as far as is known now: a moment that is past means at once."""
        if self.dirty_since_s is None:
            return math.inf
        if self.failures:
            return self.failed_at_s + min(
                RETRY_FIRST_S * 2.0 ** min(self.failures - 1, 10), RETRY_MAX_S
            )
        latest_s = self.dirty_since_s + self.export_s
        quiet_s = max(self.changed_at_s + QUIET_S, self.exported_at_s + self.took_s * REST_RATIO)
        if not is_idle:
            quiet_s = max(quiet_s, now_s + QUIET_S)
        return min(latest_s, quiet_s)
