"""Server-sent events: what is encoded is what a client reads, however the bytes are cut."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.errors import ProtocolError
from kagent_sdk.protocol.sse import (
    KEEP_ALIVE,
    SseEvent,
    SseParser,
    encode_event,
)

NAMES = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]))
DATA = st.binary() | st.lists(st.sampled_from([b"\r", b"\n", b"a", b"data: "])).map(b"".join)


def parse(stream: bytes, cuts: list[int] | None = None) -> list[SseEvent]:
    """Feed a stream in the pieces that the cuts make."""
    parser = SseParser()
    events: list[SseEvent] = []
    marks = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts or [])})
    for start, stop in pairwise(marks):
        events += parser.feed(stream[start:stop])
    return events


@given(
    st.lists(st.tuples(DATA, NAMES, NAMES), max_size=5), st.lists(st.integers(0, 500), max_size=20)
)
def test_events_survive_the_wire_however_it_cuts_them(
    sent: list[tuple[bytes, str, str]], cuts: list[int]
) -> None:
    """TCP knows no borders of events; a chunk may end between carriage return and line feed."""
    stream = b"".join(
        encode_event(data, event=event, event_id=number) + KEEP_ALIVE
        for data, event, number in sent
    )

    assert parse(stream, cuts) == [
        SseEvent(number, event or "message", re.sub(rb"\r\n?", b"\n", data))
        for data, event, number in sent
    ]


@given(st.lists(st.sampled_from([b"data:", b"id", b"event: x", b":", b"\r", b"\n", b"\xff"])))
def test_parsing_does_not_depend_on_how_the_stream_is_cut(pieces: list[bytes]) -> None:
    """A parser with a bug at a chunk border fails once a week, at somebody else's."""
    stream = b"".join(pieces)

    assert parse(stream, list(range(len(stream)))) == parse(stream)


def test_an_event_is_written_as_the_standard_shows_it() -> None:
    """Others read our stream with their own parsers."""
    assert encode_event(b'{"a":1}', event="progress", event_id=7) == (
        b'id: 7\nevent: progress\ndata: {"a":1}\n\n'
    )
    assert encode_event(b"a\r\nb\rc\n") == b"data: a\ndata: b\ndata: c\ndata: \n\n"


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b"])
def test_a_field_cannot_forge_another_field(text: str) -> None:
    """An event's kind must not be able to smuggle in data."""
    with pytest.raises(ValueError, match="line break"):
        encode_event(b"", event=text)
    with pytest.raises(ValueError, match="line break"):
        encode_event(b"", event_id=text)


def test_the_standards_corner_cases() -> None:
    """HTML, 9.2.6: a BOM, a field without a colon, an unknown field, no data, retry, a NUL id."""
    parser = SseParser()
    stream = (
        b"\xef\xbb\xbfid: 1\n: comment\nunknown: x\ndata\ndata:  two\n\n"
        b"event: lonely\n\n"
        b"retry: 250\nretry: soon\nid: a\0b\ndata: x\n\n"
        b"id\ndata: y\n\n"
        b"data: never finished"
    )

    assert parser.feed(stream) == [
        SseEvent("1", "message", b"\n two"),
        SseEvent("1", "message", b"x"),
        SseEvent("", "message", b"y"),
    ]
    assert parser.retry_ms == 250
    assert parser.last_event_id == ""


def test_an_empty_chunk_changes_nothing() -> None:
    """Some clients hand on an empty chunk; it must not hide the line feed that comes next."""
    parser = SseParser()

    assert parser.feed(b"data: x\r") == []
    assert parser.feed(b"") == []
    assert parser.feed(b"\n\r") == [SseEvent("", "message", b"x")]
    assert parser.feed(b"\ndata: y\n\n") == [SseEvent("", "message", b"y")]


@pytest.mark.parametrize("stream", [b"data: " + b"x" * 200, b"data: x\n" * 40])
def test_an_event_over_the_limit_is_refused(stream: bytes) -> None:
    """A server, or whatever answers in its place, must not fill the client's memory."""
    parser = SseParser(limit_bytes=100)

    with pytest.raises(ProtocolError, match="over the limit of 100"):
        parser.feed(stream)
