"""Amounts are read as engines and Kubernetes read them; a wrong factor would hide a loosening."""

from __future__ import annotations

from typing import Any

import pytest

from kagent_sdk.deploy.lockdown.quantities import (
    engine_bytes,
    kubernetes_amount,
    number,
    seconds,
    whole,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (536870912, 536870912),
        ("512m", 512 * 2**20),
        ("512MB", 512 * 2**20),
        ("1.5GiB", 1610612736),
        ("1 k", 1024),
        ("5b", 5),
        ("5x", None),
        ("5mx", None),
        ("", None),
        (None, None),
        (True, None),
        ("${MEMORY}", None),
        ("-1", None),
    ],
)
def test_bytes_of_engines(text: Any, expected: int | None) -> None:
    """Engines count in 1024s, whatever the letters say."""
    assert engine_bytes(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500m", 0.5),
        (2, 2.0),
        ("512Mi", 512.0 * 2**20),
        ("512M", 512e6),
        ("1e3", 1000.0),
        ("1E3", 1000.0),
        ("1E", 1e18),
        ("1Ei", 2.0**60),
        ("5 Mi", None),
        ("-1", None),
        (None, None),
    ],
)
def test_amounts_of_kubernetes(text: Any, expected: float | None) -> None:
    """A small m is a thousandth there, and M is a million."""
    assert kubernetes_amount(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30", 30.0), (30, 30.0), ("1m30s", 90.0), ("1min 30s", 90.0), ("90000ms", 90.0), ("5x", None), ("s", None), ("", None)],
)  # fmt: skip
def test_durations(text: Any, expected: float | None) -> None:
    """Compose, docker and systemd each have their own letters."""
    assert seconds(text) == expected


def test_plain_numbers() -> None:
    """What is no number is none, and never 0: 0 is no limit."""
    assert (number("1.5"), number("x"), number("inf"), number(None)) == (1.5, None, None, None)
    assert (whole("-1"), whole("1.5"), whole("x")) == (-1, None, None)
