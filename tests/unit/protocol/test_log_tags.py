"""How a line says which task it belongs to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.protocol.log_tags import MAX_TAG_BYTES, decode_tag, encode_tag, split_tag

MEMBERS = st.dictionaries(
    st.sampled_from(["task_id", "capability", "trace_id", "loop"]),
    st.text(max_size=80),
    min_size=1,
) | st.fixed_dictionaries({"attempt": st.integers(0, 2**53 - 1)})


@given(MEMBERS, st.binary(max_size=200).filter(lambda text: b"\n" not in text))
def test_what_goes_in_comes_out(members: dict[str, str | int], text: bytes) -> None:
    """Whatever a task is called and whatever it prints."""
    tag, rest = split_tag(encode_tag(members) + text)

    assert rest == text
    assert decode_tag(tag) == members


@pytest.mark.parametrize(
    "line", [b"", b"plain", b"\x1e", b"\x1eno end", b"\x1e" + b"x" * 3000 + b"\x1f"]
)
def test_a_line_without_a_whole_tag_stays_as_it_is(line: bytes) -> None:
    """A program may print such characters itself, and must find them in its log."""
    assert split_tag(line) == (b"", line)


def test_a_tag_is_bounded() -> None:
    """The host keeps the tags that it has read."""
    assert split_tag(b"\x1e" + b"x" * MAX_TAG_BYTES + b"\x1fa") == (b"x" * MAX_TAG_BYTES, b"a")
    assert split_tag(b"\x1e" + b"x" * (MAX_TAG_BYTES + 1) + b"\x1fa")[0] == b""


@pytest.mark.parametrize(
    "tag",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b"[]",
        b"{}",
        b'{"stream":"host"}',
        b'{"task_id":1}',
        b'{"task_id":"%b"}' % (b"a" * 301),
        b'{"attempt":true}',
        b'{"attempt":-1}',
        b'{"attempt":1e3}',
    ],
)
def test_a_tag_that_is_not_ours_is_refused(tag: bytes) -> None:
    """A worker must not be able to write as the host."""
    assert decode_tag(tag) is None
