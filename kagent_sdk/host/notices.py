"""What the notifications of a program mean for its pulse. Pure: the clock is handed in."""

from __future__ import annotations

from dataclasses import replace

from kagent_sdk.host.health import Pulse, StallLimits
from kagent_sdk.protocol.notify import Notification


def apply_notification(
    pulse: Pulse, said: Notification, now_s: float, limits: StallLimits
) -> Pulse:
    """Return the pulse after a notification."""
    if said.is_ready and pulse.ready_at_s is None:
        pulse = replace(pulse, ready_at_s=now_s)
    if said.has_pulse:
        pulse = replace(pulse, beat_at_s=now_s)
    if said.is_stopping and pulse.leaving_at_s is None:
        pulse = replace(pulse, leaving_at_s=now_s)
    return pulse if said.extend_s is None else _extend(pulse, now_s + said.extend_s, limits)


def _extend(pulse: Pulse, until_s: float, limits: StallLimits) -> Pulse:
    """Let a start or a stop that is under way last until then, never shorter than it may anyway."""
    if pulse.leaving_at_s is not None:
        begun_s = max(pulse.leaving_at_s, until_s - limits.leave_timeout_s)
        return replace(pulse, leaving_at_s=begun_s)
    if pulse.ready_at_s is None:
        begun_s = max(pulse.started_at_s, until_s - limits.start_timeout_s)
        return replace(pulse, started_at_s=begun_s)
    return pulse
