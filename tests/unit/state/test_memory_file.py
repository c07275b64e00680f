"""Reading a file that should hold the state: every way in which it may not."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kagent_sdk.errors import StateFileError
from kagent_sdk.protocol.state import MAX_VALUE_BYTES, is_key
from kagent_sdk.state import memory_file, text_window
from kagent_sdk.state.memory_file import FileLimits, check_memory_file, identify, open_memory_file

LIMITS = FileLimits("hello", 1 << 20)
HEAD = b'"$kagent": {"format": 1, "agent": "hello"}'


def read(path: Path, limits: FileLimits = LIMITS) -> tuple[dict[str, bytes], dict[str, float]]:
    """Return the keys of a file, and when they expire."""
    with open_memory_file(path, limits) as file:
        items = dict(file.items())
        return items, file.expires


def write(path: Path, content: bytes) -> Path:
    """Write a file with this content."""
    file = path / "memory_store.json"
    file.write_bytes(content)
    return file


def test_a_plain_object_is_a_state(tmp_path: Path) -> None:
    """A person who seeds an agent writes keys and values, and nothing else."""
    file = write(tmp_path, b'{\n  "users/1": {"name": "Ada"},\n  "count": 1.50\n}\n')

    assert read(file) == ({"users/1": b'{"name": "Ada"}', "count": b"1.50"}, {})


def test_a_head_says_whose_it_is_and_when_keys_expire(tmp_path: Path) -> None:
    """What the agent itself has written."""
    head = (
        b'{"$kagent": {"format": 1, "agent": "hello", "exported_at": "2026-11-24T17:00:00.000Z", '
        b'"expires": {"s": "2026-11-24T18:00:00Z", "gone": "2026-11-24T19:00:00+01:00"}}, "s": 1}'
    )
    items, expires = read(write(tmp_path, head))

    assert items == {"s": b"1"}
    assert expires == {"s": 1795543200.0, "gone": 1795543200.0}


@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        b" \t\r\n{ \n}\n\n",
        b"\xef\xbb\xbf{}",
        b'{"$kagent": {"format": 1}}',
        b'{"$kagent": {"format": 1, "expires": {}}}',
        b'{"$kagent" :{"expires": {} , "format": 1 } }',
    ],
)
def test_an_empty_state_is_one(tmp_path: Path, content: bytes) -> None:
    """Nothing to remember is no mistake; a mark that some editors put in front is none either."""
    assert read(write(tmp_path, content)) == ({}, {})


def test_the_head_may_stand_anywhere(tmp_path: Path) -> None:
    """Some editors sort."""
    file = write(tmp_path, b'{"a": 1, ' + HEAD + b', "b": 2}')

    assert read(file)[0] == {"a": b"1", "b": b"2"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1, column 1: the text ends where a JSON object is expected"),
        (b"[]", "line 1, column 1: a JSON object is expected"),
        (b'"text"', "line 1, column 1: a JSON object is expected"),
        (b"{", "line 1, column 2: the text ends where a string is expected"),
        (b'{"a": 1', r"line 1, column 8: the text ends where ',' or '}' is expected"),
        (b'{\n  "\xc3\xa4": 1,\n}', "line 3, column 1: a string is expected"),
        (b'{\n  "\xc3\xa4": 1, 5}', "line 2, column 11: a string is expected"),
        (b'{"a": 1 "b": 2}', r"line 1, column 9: ',' or '}' is expected"),
        (b'{"a": 1}\n\n {"b": 2}', "line 3, column 2: something follows the object"),
        (b'{"a": NaN}', "line 1, column 7: NaN and Infinity are not JSON"),
        (b'{"a": "x\ny"}', "line 1, column 9: a control character in a string must be escaped"),
        (b'{"a": "\xff"}', "line 1, column 8: the text is not UTF-8"),
        (b'{"a": 1, "b\xff": 2}', "line 1, column 12: the text is not UTF-8"),
        (b'{"a": "\\ud800"}', "line 1, column 8: a lone surrogate escape"),
        (b'{"a": ' + b"[" * 300 + b"]" * 300 + b"}", "nested deeper than 199 levels"),
        (b'{"a": 1, "a": 2}', "key 'a' stands there twice"),
        (b'{"a": 1, "\\u0061": 2}', "key 'a' stands there twice"),
        (b'{"": 1}', "'' is no key"),
        (b'{"a//b": 1}', "'a//b' is no key: a key has 1 to 512 bytes"),
        (b'{"a\\n": 1}', "is no key"),
        (b'{"$other": 1}', "is no key"),
        (b'{"\\u0024kagent": {"format": 1}}', "is no key"),
        (b"{" + HEAD + b", " + HEAD + b"}", 'a second "\\$kagent"'),
        (b'{"$kagent": 1}', "line 1, column 13: a JSON object is expected"),
        (b'{"$kagent": {}}', 'format" should be 1, not None'),
        (b'{"$kagent": {"format": 2}}', 'format" should be 1, not 2'),
        (b'{"$kagent": {"format": true}}', 'format" should be 1, not True'),
        (b'{"$kagent": {"format": [1]}}', "no short text or number"),
        (b'{"$kagent": {"format": 1, "agent": "x"}}', "belongs to another agent, 'x': this one"),
        (b'{"$kagent": {"format": 1, "expire": {}}}', "unknown member 'expire'"),
        (b'{"$kagent": {"format": 1, "exported_at": 5}}', "should be a time such as"),
        (b'{"$kagent": {"format": 1, "expires": 5}}', "column 38: a JSON object is expected"),
        (b'{"$kagent": {"format": 1, "expires": {"a": 5}}}', "the end of key 'a' should be a time"),
        (
            b'{"$kagent": {"format": 1, "expires": {"a": "2026-11-24T18:00:00"}}}',
            "should be a time such as 2026-11-24T18:00:00Z",
        ),
        (b'{"$kagent": {"format": 1} "a": 1}', r"',' or '}' is expected"),
        (b'{"$kagent": {"format": 1}, 5}', "column 28: a string is expected"),
        (b'{"$kagent": {"format": 1},}', "column 27: a string is expected"),
        (b'{"$kagent" {"format": 1}}', "':' is expected"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, content: bytes, message: str) -> None:
    """Whoever has broken the file by hand must find the spot."""
    with pytest.raises(StateFileError, match=message):
        check_memory_file(write(tmp_path, content), LIMITS)


def test_places_are_right_far_down_in_a_large_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is read in pieces, and counted through."""
    monkeypatch.setattr(text_window, "CHUNK_BYTES", 100)
    monkeypatch.setattr(text_window, "MEMBER_BYTES", 60)
    lines = [f'  "k{number}": "ää{number}"' for number in range(50)]
    text = "{\n" + ",\n".join(lines)

    with pytest.raises(StateFileError, match="line 52, column 3: something follows"):
        check_memory_file(write(tmp_path, (text + "\n} }").encode()), LIMITS)
    with pytest.raises(StateFileError, match="line 51, column 18: a string is expected"):
        check_memory_file(write(tmp_path, (text + ", }").encode()), LIMITS)
    one_line = b"{" + b" " * 5 + b", ".join(b'"%04d": 1.5' % n for n in range(200))
    with pytest.raises(StateFileError, match="line 1, column 2607: a string is expected"):
        check_memory_file(write(tmp_path, one_line + b", 5}"), LIMITS)


def test_white_space_behind_the_object_may_be_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is walked over in pieces, and what stands behind it is found."""
    monkeypatch.setattr(text_window, "CHUNK_BYTES", 100)
    monkeypatch.setattr(text_window, "MEMBER_BYTES", 60)

    check_memory_file(write(tmp_path, b'{"a": 1}' + b"\n" * 1000), LIMITS)
    with pytest.raises(StateFileError, match="line 1001, column 1: something follows"):
        check_memory_file(write(tmp_path, b'{"a": 1}' + b"\n" * 1000 + b"{"), LIMITS)


@pytest.mark.parametrize(
    "content",
    [
        b'{"a": 1, "b": 2, "c": 3}',
        (
            b'{"$kagent": {"format": 1, "expires": {"a": "2026-11-24T18:00:00Z", '
            b'"b": "2026-11-24T18:00:00Z", "c": "2026-11-24T18:00:00Z"}}}'
        ),
    ],
)
def test_the_number_of_keys_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """Each takes memory while the file is read, expired or not."""
    file = write(tmp_path, content)
    monkeypatch.setattr(memory_file, "MAX_KEYS", 3)
    check_memory_file(file, LIMITS)
    monkeypatch.setattr(memory_file, "MAX_KEYS", 2)
    with pytest.raises(StateFileError, match="more than 2 keys"):
        check_memory_file(file, LIMITS)


@pytest.mark.parametrize("read_it", [check_memory_file, identify])
def test_a_file_that_fails_while_it_is_read_is_refused(read_it: object) -> None:
    """A bad sector; here the one regular file that every Linux has and nobody can read from."""
    assert callable(read_it)
    with pytest.raises(StateFileError, match="cannot be read: Input/output error"):
        read_it(Path("/proc/self/mem"), LIMITS)


@settings(max_examples=60, deadline=None)
@given(
    content=st.dictionaries(
        st.text(max_size=12).filter(is_key),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
            ),
            max_leaves=6,
        ),
        max_size=40,
    ),
    chunk_bytes=st.integers(1, 4000),
    indent=st.sampled_from([None, 2]),
)
def test_it_reads_what_a_json_parser_reads(
    tmp_path_factory: pytest.TempPathFactory,
    content: dict[str, object],
    chunk_bytes: int,
    indent: int | None,
) -> None:
    """However it is laid out, and wherever a piece ends that was read."""
    folder = tmp_path_factory.mktemp("file")
    file = write(folder, json.dumps(content, indent=indent).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_window, "CHUNK_BYTES", chunk_bytes)
        items = read(file)[0]

    assert {key: json.loads(value) for key, value in items.items()} == content
    assert list(items) == list(content)


def test_a_member_that_is_larger_than_any_may_be_is_refused(tmp_path: Path) -> None:
    """Before it fills the memory."""
    large = b'{"a": "' + b"x" * MAX_VALUE_BYTES + b'"}'
    with pytest.raises(StateFileError, match="the value of key 'a' is over"):
        check_memory_file(write(tmp_path, large), FileLimits("hello", 1 << 30))
    huge = b'{"a": "' + b"x" * 9 * MAX_VALUE_BYTES + b'"}'
    with pytest.raises(StateFileError, match="line 1, column 2: a member of more than 2097152"):
        check_memory_file(write(tmp_path, huge), FileLimits("hello", 1 << 30))


def test_a_state_over_the_quota_is_refused(tmp_path: Path) -> None:
    """The file obeys the rule that the agent's own writes do."""
    file = write(tmp_path, b'{"a": 12345, "b": 12345}')

    check_memory_file(file, FileLimits("hello", 12))
    with pytest.raises(StateFileError, match=r"over 11 bytes: raise state\.quota_bytes"):
        check_memory_file(file, FileLimits("hello", 11))


def test_a_file_that_is_far_too_large_is_not_read_to_the_end(tmp_path: Path) -> None:
    """A hole of a terabyte is made in a moment; reading it takes an hour."""
    file = write(tmp_path, b"{")
    with file.open("r+b") as opened:
        opened.seek(1 << 40)
        opened.write(b"}")

    with pytest.raises(StateFileError, match="a string is expected"):
        check_memory_file(file, LIMITS)
    with pytest.raises(StateFileError, match=r"too large for state\.quota_bytes"):
        identify(file, LIMITS)


def test_white_space_without_an_end_is_not_read_to_the_end(tmp_path: Path) -> None:
    """Nor is any other padding."""
    file = write(tmp_path, b"{}" + b" " * (3 << 20))

    with pytest.raises(StateFileError, match="over 1048608 bytes"):
        check_memory_file(file, FileLimits("hello", 1))


@pytest.mark.parametrize("kind", ["link", "dangling", "folder", "fifo", "socket", "missing"])
@pytest.mark.parametrize("read_it", [check_memory_file, identify])
def test_only_a_regular_file_is_read(tmp_path: Path, kind: str, read_it: object) -> None:
    """A link would read another's file, a pipe would wait for ever."""
    assert callable(read_it)
    file, other = tmp_path / "memory_store.json", tmp_path / "other.json"
    with socket.socket(socket.AF_UNIX) as listener:
        match kind:
            case "link":
                other.write_bytes(b"{}")
                file.symlink_to(other)
            case "dangling":
                file.symlink_to(other)
            case "folder":
                file.mkdir()
            case "fifo":
                os.mkfifo(file)
            case "socket":
                listener.bind(str(file))
            case _:
                assert not file.exists()

        with pytest.raises(StateFileError, match=r"not a regular file|cannot be read: No such"):
            read_it(file, LIMITS)
