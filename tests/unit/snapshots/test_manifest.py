"""The manifest; what is none stands in test_hostile.py."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kagent_sdk.errors import SnapshotError
from kagent_sdk.snapshots.manifest import Manifest, is_cache_path, parse_manifest, show
from tests.unit.snapshots.samples import CREATED_AT, EMPTY, MTIME_S, describe


def parsed(**changes: Any) -> Manifest:
    """Return a manifest of an empty snapshot."""
    return parse_manifest(json.dumps(describe(EMPTY, **changes)).encode())


def test_a_manifest_is_read_back() -> None:
    """It is a file for people too: indented JSON."""
    manifest = parsed()

    assert parse_manifest(manifest.to_bytes()) == manifest
    assert manifest.created_s == MTIME_S
    assert not manifest.has_cache
    assert json.loads(manifest.to_bytes())["created_at"] == CREATED_AT


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"agent": "a/b"}, "agent"),
        ({"agent": "a\n"}, "agent"),
        ({"agent_version": "x" * 101}, "agent_version"),
        ({"created_at": "2027-01-15T08:00:00.5Z"}, "whole second"),
        ({"created_at": "2027-01-15T08:00:00"}, "created_at"),
        ({"created_at": "1900-01-15T08:00:00Z"}, "whole second"),
        ({"created_at": "9999-01-15T08:00:00Z"}, "whole second"),
        ({"created_at": 1}, "created_at"),
        ({"state_keys": -1}, "state_keys"),
        ({"state_keys": "1"}, "state_keys"),
        ({"schema_version": 0}, "schema_version"),
        ({"members": []}, "should begin with state.jsonl and tasks.jsonl"),
        ({"format": "1"}, "format"),
        ({"format": 0}, "format"),
    ],
)
def test_a_manifest_is_read_strictly(changes: dict[str, Any], said: str) -> None:
    """Everything in it decides over what is written later."""
    with pytest.raises(SnapshotError, match=said):
        parsed(**changes)


def test_a_manifest_that_nobody_would_read_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit holds on both sides."""
    manifest = parsed()
    monkeypatch.setattr("kagent_sdk.snapshots.manifest.MAX_MANIFEST_BYTES", 10)

    with pytest.raises(SnapshotError, match="too many files"):
        manifest.to_bytes()


def test_times_of_all_zones_are_one() -> None:
    """A manifest is written in UTC."""
    assert parsed(created_at="2027-01-15T09:00:00+01:00") == parsed()


@pytest.mark.parametrize("path", ["a", "a/b.txt", "é", "..a", "a b", "x" * 255])
def test_ordinary_names_of_files_are_taken(path: str) -> None:
    """What an agent's libraries write, blanks and accents included."""
    assert is_cache_path(path)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "../a",
            "a/../b",
            "a/./b",
            "a\\b",
            "a\0b",
            "a\nb",
        ),
        *("\x7f", "\x85", "\udcff", "x" * 256, "/".join(["a"] * 33), "/".join(["x" * 200] * 6)),
    ],
)
def test_names_that_could_lead_elsewhere_are_not(path: str) -> None:
    """No program that unpacks a snapshot is led out of its folder."""
    assert not is_cache_path(path)


def test_what_a_file_says_is_shown_short_and_plain() -> None:
    """An error message goes to a terminal and a log."""
    assert show("\x1b[2J\n") == "\\u001b[2J\\n"
    assert show("x" * 1000) == "x" * 100 + "..."
