"""Any bytes, cut anywhere, are frames or an error, and never more memory than allowed."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.errors import FrameTooLargeError, ProtocolError
from kagent_sdk.protocol.frames import (
    HEADER_BYTES,
    TO_HOST,
    TO_WORKER,
    Frame,
    FrameDecoder,
    Kind,
    encode,
)

LIMIT_BYTES = 1000
MAX_NUMBER = 2**64 - 1

FRAMES = st.lists(
    st.tuples(
        st.sampled_from(sorted(TO_HOST)),
        st.integers(0, MAX_NUMBER),
        st.binary(max_size=LIMIT_BYTES),
    )
)


def make_decoder(limit_bytes: int = LIMIT_BYTES) -> FrameDecoder:
    """Return the host's side of a connection."""
    return FrameDecoder(limit_bytes=limit_bytes, kinds=TO_HOST)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut bytes at some places, which wrap around; chunks may be empty."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges)]


def test_each_kind_travels_in_one_direction() -> None:
    """What a worker may send, a host may not, and the other way round."""
    assert {int(kind) for kind in Kind} == TO_WORKER | TO_HOST
    assert not TO_WORKER & TO_HOST
    assert Kind.WELCOME in TO_WORKER
    assert Kind.CALL in TO_HOST


def test_the_layout_is_fixed() -> None:
    """Host and worker may be of different versions while one replaces the other."""
    expected = b"\x00\x00\x00\x02\x24\x00\x00\x00\x00\x00\x00\x01\x02{}"
    assert encode(Kind.RESULT, 258, b"{}") == expected
    assert encode(Kind.READY, 0) == b"\x00\x00\x00\x00\x22" + b"\x00" * 8
    assert HEADER_BYTES == 13


@given(FRAMES, st.lists(st.integers(0, 10**6)))
def test_frames_come_out_as_they_went_in_however_they_are_cut(
    frames: list[Frame], places: list[int]
) -> None:
    """A socket cuts a stream wherever it likes."""
    stream = b"".join(encode(*frame) for frame in frames)
    decoder = make_decoder()

    found = [frame for chunk in cut(stream, places) for frame in decoder.feed(chunk)]

    assert found == frames
    assert decoder.buffered_bytes == 0


@given(
    FRAMES, st.tuples(st.sampled_from(sorted(TO_HOST)), st.binary(max_size=LIMIT_BYTES)), st.data()
)
def test_a_truncated_frame_is_held_and_completed_later(
    frames: list[Frame], last: tuple[int, bytes], data: st.DataObject
) -> None:
    """A peer that dies in the middle of a frame has sent everything before it."""
    stream = b"".join(encode(*frame) for frame in frames)
    tail = encode(last[0], 7, last[1])
    length = data.draw(st.integers(0, len(tail) - 1))
    decoder = make_decoder()

    assert decoder.feed(stream + tail[:length]) == frames
    assert decoder.buffered_bytes == length
    assert decoder.feed(tail[length:]) == [(last[0], 7, last[1])]
    assert decoder.buffered_bytes == 0


@given(st.lists(st.binary(max_size=64)))
def test_any_bytes_are_frames_or_a_protocol_error(chunks: list[bytes]) -> None:
    """A worker is the author's code: it may write anything to the descriptor."""
    decoder = make_decoder()
    for chunk in chunks:
        try:
            frames = decoder.feed(chunk)
        except ProtocolError:
            return
        assert all(kind in TO_HOST and len(payload) <= LIMIT_BYTES for kind, _, payload in frames)
        assert decoder.buffered_bytes <= LIMIT_BYTES + HEADER_BYTES


@given(st.integers(LIMIT_BYTES + 1, 2**32 - 1), st.sampled_from(sorted(TO_HOST)))
def test_a_huge_length_is_refused_at_the_header(size: int, kind: int) -> None:
    """Four gigabytes that were only announced must not be waited for."""
    with pytest.raises(FrameTooLargeError) as caught:
        make_decoder().feed(struct.pack("!IBQ", size, kind, 1))

    assert (caught.value.size_bytes, caught.value.limit_bytes) == (size, LIMIT_BYTES)
    assert str(caught.value) == f"frame of {size} bytes is over the limit of {LIMIT_BYTES}"


def test_the_largest_frame_is_taken() -> None:
    """The limit is a limit, not the first size that is refused."""
    payload = b"x" * LIMIT_BYTES

    assert make_decoder().feed(encode(Kind.EVENT, 1, payload)) == [(Kind.EVENT, 1, payload)]


@pytest.mark.parametrize("kind", [0, 8, 32, 99, 255, int(Kind.RUN)])
def test_a_kind_that_the_peer_may_not_send_is_refused(kind: int) -> None:
    """A worker cannot give orders to the host, let alone send what nobody knows."""
    with pytest.raises(ProtocolError, match=f"unexpected frame kind {kind}"):
        make_decoder().feed(struct.pack("!IBQ", 0, kind, 1))


def test_a_header_in_two_chunks_waits_for_its_second_half() -> None:
    """Twelve of thirteen bytes say nothing yet."""
    decoder = make_decoder()
    frame = encode(Kind.READY, 0)

    assert decoder.feed(frame[:12]) == []
    assert decoder.feed(frame[12:] + frame) == [(Kind.READY, 0, b""), (Kind.READY, 0, b"")]
