"""What a replica says of itself is not believed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kagent_sdk.orchestrator.fleet.client import find_address
from kagent_sdk.orchestrator.fleet.layout import Layout, Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Give a replica with a token."""
    found = Layout(tmp_path).place("steady", "0")
    found.host_file.parent.mkdir(parents=True)
    found.keys.mkdir(parents=True)
    found.token.write_text("t" * 32)
    return found


def test_a_running_host_is_found_by_its_file(place: Place) -> None:
    """Nobody types ports."""
    place.host_file.write_text(json.dumps({"pid": 4711, "url": "http://127.0.0.1:9999/"}))
    found = find_address(place)

    assert found is not None
    assert (found.pid, found.url, found.token) == (4711, "http://127.0.0.1:9999", "t" * 32)
    assert "t" * 32 not in repr(found)


@pytest.mark.parametrize(
    "document",
    [
        {"pid": 4711, "url": "http://10.0.0.1:80"},
        {"pid": 4711, "url": "http://127.0.0.1.example.com:80"},
        {"pid": 4711, "url": "https://127.0.0.1:80"},
        {"pid": 4711, "url": "http://127.0.0.1"},
        {"pid": 4711, "url": "http://[::1"},
        {"pid": 4711, "url": "http://127.0.0.1:2375/containers/create?name="},
        {"pid": 4711, "url": "http://127.0.0.1:80/#"},
        {"pid": 4711, "url": "http://me@127.0.0.1:80"},
        {"pid": 1, "url": "http://127.0.0.1:80"},
        {"pid": True, "url": "http://127.0.0.1:80"},
        {"pid": "4711", "url": "http://127.0.0.1:80"},
        ["http://127.0.0.1:80"],
    ],
)
def test_an_address_elsewhere_gets_no_token(place: Place, document: object) -> None:
    """Whoever writes the file would have the orchestrator send a token anywhere."""
    place.host_file.write_text(json.dumps(document))

    assert find_address(place) is None


def test_a_file_that_is_a_link_is_not_followed(place: Place, tmp_path: Path) -> None:
    """Started by root, the orchestrator can read more than the agent."""
    (tmp_path / "elsewhere").write_text(json.dumps({"pid": 4711, "url": "http://127.0.0.1:80"}))
    place.host_file.symlink_to(tmp_path / "elsewhere")

    assert find_address(place) is None
