"""The names of snapshots."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.snapshots.naming import make_name, parse_name, pick_outdated

AT = datetime(2026, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC)


def test_a_name_says_whose_and_when() -> None:
    """A person finds the right file in a list of hundreds."""
    name = str(make_name("log-triage", AT, b"\x0a\x1b\x2c\x3d"))

    assert name == "log-triage-20260131T235959Z-0a1b2c3d.tar.zst"


@given(
    st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", fullmatch=True),
    st.datetimes(datetime(1970, 1, 1), datetime(2199, 1, 1)),  # noqa: DTZ001 - hypothesis wants these
    st.binary(min_size=4, max_size=4),
)
def test_every_name_is_read_back(agent: str, at: datetime, randomness: bytes) -> None:
    """What was kept is found again, whatever the agent is called."""
    name = make_name(agent, at.replace(tzinfo=UTC), randomness)

    assert parse_name(str(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a.tar.zst",
        "a-20260131T235959Z-0a1b2c3d.tar",
        "a-20261331T235959Z-0a1b2c3d.tar.zst",
        "../a-20260131T235959Z-0a1b2c3d.tar.zst",
        "a-20260131T235959Z-0a1b2c3d.tar.zst\n",
        "-20260131T235959Z-0a1b2c3d.tar.zst",
    ],
)
def test_other_files_are_none_of_ours(name: str) -> None:
    """Nothing else in the folder is listed, and nothing else is ever deleted."""
    assert parse_name(name) is None


def test_the_oldest_of_the_same_agent_go() -> None:
    """Agents may share a folder; one must not clean up after the other."""
    own = [str(make_name("a", AT + timedelta(days=day), bytes(4))) for day in range(5)]
    others = [str(make_name("b", AT, bytes(4))), "notes.txt"]

    assert pick_outdated([*own, *others], "a", 2, own[4]) == [own[2], own[1], own[0]]
    assert pick_outdated([*own, *others], "a", 5, own[4]) == []
    assert pick_outdated(own, "a", 1, own[0]) == own[:0:-1]
