"""What clients and agents say on the debug socket: nothing that comes from the other side is believed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.errors import ProtocolError
from kagent_sdk.protocol.debug import (
    HEAD_BYTES,
    MAX_LINE_BYTES,
    MAX_PAYLOAD_BYTES,
    MAX_WORDS,
    FrameReader,
    Hello,
    Kind,
    Welcome,
    encode_frame,
    encode_hello,
    encode_resize,
    encode_welcome,
    parse_hello,
    parse_resize,
    parse_welcome,
)

PLAIN: dict[str, Any] = {
    "version": 1,
    "command": None,
    "columns": 80,
    "rows": 24,
    "term": "xterm",
    "is_terminal": True,
}


@pytest.mark.parametrize(
    "hello",
    [Hello(None), Hello(("memory", "--json"), 1, 1000, "xterm-256color", is_terminal=True)],
)
def test_a_hello_is_understood_as_it_was_meant(hello: Hello) -> None:
    """A command with its arguments, or a terminal with its size."""
    line = encode_hello(hello)

    assert line.endswith(b"\n")
    assert parse_hello(line) == hello
    assert parse_hello(line[:-1]) == hello


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": 2}, "is not spoken here"),
        ({"version": "1" * 100}, "is not spoken here"),
        ({"command": []}, "1 to 64 words"),
        ({"command": "memory"}, "1 to 64 words"),
        ({"command": ["x"] * (MAX_WORDS + 1)}, "1 to 64 words"),
        ({"command": ["memory", 1]}, "are strings"),
        ({"columns": 0}, "1 to 1000 columns"),
        ({"columns": True}, "1 to 1000 columns"),
        ({"rows": 1001}, "1 to 1000 columns"),
        ({"rows": "24"}, "1 to 1000 columns"),
        ({"term": "x; reset"}, "kind of terminal"),
        ({"term": None}, "kind of terminal"),
    ],
)
def test_a_hello_that_cannot_be_meant_is_refused_with_the_reason(
    changes: dict[str, Any], reason: str
) -> None:
    """Whoever writes a client of their own learns what is wrong."""
    with pytest.raises(ProtocolError, match=reason) as raised:
        parse_hello(json.dumps(PLAIN | changes).encode())

    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    "line", [b"", b"x", b"[]\n", b"\xff\n", b"[" * 5000, b" " * MAX_LINE_BYTES + b"{}"]
)
def test_what_is_no_hello_at_all_is_refused(line: bytes) -> None:
    """Garbage, too much of it, and what would exhaust the stack."""
    with pytest.raises(ProtocolError, match="first line"):
        parse_hello(line)


def test_only_true_is_a_terminal() -> None:
    """What is not said is not there."""
    assert parse_hello(json.dumps(PLAIN | {"is_terminal": 1}).encode()).is_terminal is False


@pytest.mark.parametrize("words", [("x" * MAX_LINE_BYTES,), ("x",) * (MAX_WORDS + 1)])
def test_a_command_that_no_agent_takes_is_not_sent(words: tuple[str, ...]) -> None:
    """The client says so itself, before it connects."""
    with pytest.raises(ProtocolError, match="too long"):
        encode_hello(Hello(words))


@pytest.mark.parametrize("welcome", [Welcome(7), Welcome(0, "four sessions are open")])
def test_a_welcome_is_understood_as_it_was_meant(welcome: Welcome) -> None:
    """The number of the session, or why there is none."""
    assert parse_welcome(encode_welcome(welcome)) == welcome


def test_a_reason_that_is_too_long_is_cut() -> None:
    """It stays within what a client reads."""
    line = encode_welcome(Welcome(0, "\u4e16" * 5000))

    assert len(line) < MAX_LINE_BYTES
    assert parse_welcome(line).refused == "\u4e16" * 1000


@pytest.mark.parametrize("line", [b"{}", b'{"session": true}', b'{"session": 1, "refused": 2}'])
def test_what_is_no_welcome_is_refused(line: bytes) -> None:
    """Something else listens there."""
    with pytest.raises(ProtocolError, match="no welcome"):
        parse_welcome(line)


def test_a_size_is_understood_and_bounded() -> None:
    """A terminal of no size, or of a hundred thousand columns, is none."""
    ((kind, payload),) = FrameReader().feed(encode_resize(0, 100_000))

    assert kind is Kind.RESIZE
    assert parse_resize(payload) == (1, 1000)


@pytest.mark.parametrize("payload", [b"", b"\0\0\0\0", b"\0\1\0\1\0"])
def test_what_is_no_size_is_refused(payload: bytes) -> None:
    """It comes from the other side."""
    with pytest.raises(ProtocolError):
        parse_resize(payload)


@given(
    frames=st.lists(st.tuples(st.sampled_from(list(Kind)), st.binary(max_size=50)), max_size=10),
    sizes=st.lists(st.integers(1, 20), min_size=1),
)
def test_frames_come_out_however_they_are_cut(
    frames: list[tuple[Kind, bytes]], sizes: list[int]
) -> None:
    """A socket keeps no boundaries."""
    data = b"".join(encode_frame(kind, payload) for kind, payload in frames)
    reader, found = FrameReader(), []
    step = 0
    while data:
        size = sizes[step % len(sizes)]
        found += reader.feed(data[:size])
        data, step = data[size:], step + 1

    assert found == frames


def test_a_frame_is_bounded_on_both_sides() -> None:
    """Nobody can make the other side keep more than one frame."""
    with pytest.raises(ProtocolError, match="too large"):
        encode_frame(Kind.INPUT, b"x" * (MAX_PAYLOAD_BYTES + 1))
    reader = FrameReader()
    whole = encode_frame(Kind.OUTPUT, b"x" * MAX_PAYLOAD_BYTES)
    assert reader.feed(whole[:-1]) == []
    assert len(reader.feed(whole[-1:])[0][1]) == MAX_PAYLOAD_BYTES
    with pytest.raises(ProtocolError, match="no frame"):
        reader.feed(b"\x01" + (MAX_PAYLOAD_BYTES + 1).to_bytes(HEAD_BYTES - 1, "big"))


def test_an_unknown_kind_is_refused() -> None:
    """What follows it could not be read."""
    with pytest.raises(ProtocolError, match="no frame"):
        FrameReader().feed(b"\x09\0\0\0\0")
