"""Whether new workers may take over."""

from __future__ import annotations

import pytest

from kagent_sdk.errors import ReloadError
from kagent_sdk.host.trial import Contender, may_take_over


def test_all_of_them_must_be_ready() -> None:
    """Half a generation would take half of the load."""
    ready, starting = Contender(0, is_ready=True), Contender(1, is_ready=False)

    assert may_take_over([ready, ready], start_timeout_s=1)
    assert not may_take_over([ready, starting], start_timeout_s=1)
    assert not may_take_over([starting, ready], start_timeout_s=1)


@pytest.mark.parametrize(
    ("contender", "reason"),
    [
        (
            Contender(1, is_ready=False, end="SIGSEGV"),
            (
                "worker 1 of the new generation ended before it was ready (SIGSEGV); its last lines "
                "are in the log"
            ),
        ),
        (
            Contender(0, is_ready=True, end="exit code 1"),
            (
                "worker 0 of the new generation ended after it was ready (exit code 1); its last "
                "lines are in the log"
            ),
        ),
        (
            Contender(0, is_ready=False, end="start_timed_out"),
            "worker 0 of the new generation was not ready within worker.start_timeout_s (2.5 s)",
        ),
    ],
)
def test_one_that_ended_fails_them_all_and_says_how(contender: Contender, reason: str) -> None:
    """Who reloads must learn what to repair."""
    ready = Contender(2, is_ready=True)
    with pytest.raises(ReloadError) as caught:
        may_take_over([ready, contender], start_timeout_s=2.5)

    assert str(caught.value) == reason


def test_the_last_lines_come_along() -> None:
    """They are for the author, not for callers: they are no part of the message."""
    ended = Contender(0, is_ready=False, end="exit code 1", traceback_text="NameError: x")
    with pytest.raises(ReloadError) as caught:
        may_take_over([ended], start_timeout_s=1)

    assert caught.value.traceback_text == "NameError: x"
    assert "NameError" not in str(caught.value)
