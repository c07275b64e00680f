"""Waiting for what another process does: there is no event to wait on, so look until it is so."""

from __future__ import annotations

import time
from collections.abc import Callable

POLL_S = 0.02


def wait_until(condition: Callable[[], bool], deadline_s: float = 60.0) -> None:
    """Return as soon as the condition holds; fail when it does not in time."""
    give_up_at = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < give_up_at, "what the test waits for did not happen in time"
        time.sleep(POLL_S)
