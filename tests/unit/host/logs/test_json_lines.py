"""Every record is one line of JSON, whatever it was made of."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.host.logs.json_lines import Source, complete, encode, escape, quote

SOURCE = Source("stdout", "hello", 7)
STAMP = b"2026-01-01T00:00:00.000000Z"
REQUIRED = {"timestamp", "level", "event", "stream", "agent", "pid"}
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.text(max_size=8) | st.sampled_from([*REQUIRED, "worker_pid", "message", "msg"])


def completed(line: bytes, tag: bytes = b"") -> dict[str, Any]:
    """Return a completed line as an object."""
    found = complete(line, SOURCE, stamp=STAMP, tag=tag)
    assert found is not None
    assert b"\n" not in found
    document = json.loads(found)
    assert isinstance(document, dict)
    return document


@given(st.binary())
def test_bytes_survive_as_text(data: bytes) -> None:
    """What is not UTF-8 is escaped; nothing is dropped or replaced."""
    quoted = quote(data)

    assert b"\n" not in quoted
    assert json.loads(quoted) == data.decode(errors="backslashreplace")


@given(st.binary())
def test_newlines_are_left_to_whoever_joins_lines(data: bytes) -> None:
    """Ten thousand lines are escaped in one go."""
    parts = data.split(b"\n")

    assert escape(data).split(b"\n") == [escape(part) for part in parts]


@given(st.dictionaries(KEYS, VALUES))
def test_an_object_keeps_what_it_says_and_gets_what_it_lacks(document: dict[str, Any]) -> None:
    """The author's structured logs arrive as they are."""
    found = completed(json.dumps(document).encode())

    assert found.keys() >= REQUIRED
    assert (found["stream"], found["agent"], found["pid"]) == ("stdout", "hello", 7)
    for key, value in document.items():
        if key not in {"stream", "agent", "pid", "worker_pid"}:
            assert found[key] == value


def test_a_line_is_kept_letter_by_letter() -> None:
    """Numbers that Python cannot hold, the order of keys, the author's spaces."""
    line = b'{ "b" : 1.00000000000000000001,"a":"\xc3\xa4" }'
    found = complete(line + b" \r", SOURCE, stamp=STAMP)

    assert found is not None
    assert found.startswith(line[:-1])


def test_an_empty_object_gets_all() -> None:
    """No comma without a member before it."""
    assert completed(b"{}").keys() == REQUIRED


def test_a_whole_object_stays_as_it_is() -> None:
    """A worker that already says all of it."""
    line = encode({"timestamp": "t", "level": "debug", "event": "e", **SOURCE.members})

    assert complete(line, SOURCE, stamp=STAMP) == line


@pytest.mark.parametrize("key", ["stream", "agent", "pid"])
def test_a_worker_cannot_speak_for_the_host(key: str) -> None:
    """Or its lines would be taken for the host's own."""
    line = b'{"event":"worker_ready","%b":"host","\\u%04x%b":"host"}'
    name = key.encode()
    found = completed(line % (name, name[0], name[1:]))

    assert found[key] == SOURCE.members[key]
    assert found[f"worker_{key}"] == "host"


def test_a_worker_may_say_what_is_true() -> None:
    """Its own process id is no forgery."""
    assert "worker_pid" not in completed(b'{"pid":7}')
    assert completed(b'{"pid":7,"stream":"mine"}')["pid"] == 7


@pytest.mark.parametrize("key", ["message", "msg"])
def test_other_loggers_messages_are_events(key: str) -> None:
    """The command line shows events."""
    assert completed(json.dumps({key: "hi"}).encode())["event"] == "hi"
    assert completed(json.dumps({key: 1}).encode())["event"] == ""


def test_a_task_is_known_by_the_tag() -> None:
    """A line says which task it belongs to, unless it already did."""
    tag = b'{"task_id":"t","attempt":2}'

    assert completed(b'{"task_id":"own"}', tag)["task_id"] == "own"
    assert completed(b'{"task_id":"own"}', tag)["attempt"] == 2


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"{}{}",
        b"[1]",
        b'{"a":NaN}',
        b'{"a":Infinity,"pid":1}',
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\x01"}',
        b'{"a":1}\x00',
        b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"pid":1,"a":1e999}',
    ],
)
def test_what_is_no_object_is_no_record(line: bytes) -> None:
    """One wrong line, and a reader of the file stumbles."""
    assert complete(line, SOURCE, stamp=STAMP) is None


def test_what_json_does_not_know_is_told_as_text() -> None:
    """Events of the host hold paths and errors."""
    assert encode({"error": OSError("gone")}) == b'{"error":"gone"}'
    assert json.loads(encode({"path": "\udcff"})) == {"path": "\udcff"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode({"ratio": float("nan")})
