"""The scanner: it accepts what a strict parser accepts, and finds the same ends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic_core import from_json

from kagent_sdk.protocol.json_text import (
    MAX_DEPTH,
    SMALL_BYTES,
    JsonTextError,
    check_json,
    is_json,
    read_member,
    skip_value,
)

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # No surrogates: they are the business of tests of their own.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda children: (
        st.lists(children, max_size=25) | st.dictionaries(st.text('ab\\"\n'), children)
    ),
    max_leaves=25,
)
BLANKS = st.text(" \t\n\r", max_size=3)

# Pieces that make texts which are nearly JSON, much more often than random bytes do.
TOKENS = (
    rb"""{ } [ ] , : " \ \u \ud83d \ude00 true null NaN -Infinity 0 1 12 - . e + "a" "a": [1,2]"""
)
PIECES = st.lists(
    st.sampled_from(
        [*TOKENS.split(), b" ", b"\n", b"\xc3\xa9", b"\xff", b"\x00", b"\x7f", b'"\\n"']
    ),
    max_size=25,
).map(b"".join)


def is_accepted_by_pydantic(text: bytes) -> bool:
    """Return what the worker's parser says."""
    try:
        from_json(text, allow_inf_nan=False)
    except ValueError:
        return False
    return True


def is_accepted(text: bytes) -> bool:
    """Return what the scanner says."""
    try:
        check_json(text)
    except JsonTextError:
        return False
    return True


@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_valid_json_is_accepted(value: Any, ascii_only: bool, indent: int | None) -> None:
    """A false alarm here would be a task that nobody can submit."""
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()

    check_json(b" " + text + b"\n")
    assert skip_value(text + b"rest", 0) == len(text)


@given(PIECES | st.binary(max_size=12))
@example(b'["a\\ud83d\\ude00"]')
@example(b'"\\ude00"')
@example(b'"\\ud83d"')
@example(b'"\\ud83dx\\ude00"')
@example(b'"\\ud83d\\n"')
@example(b'"\\\\ud83d"')
@example(b'"\\u12g4"')
@example(b'"\\u12g4\\ud83d"')
@example(b'"\\ud83d\\ud83d\\ude00"')
@example(b"1" * 4300)
@example(b"1" * 4301)
@example(b"-" + b"1" * 4301)
@example(b"[" + b"1" * 4301 + b".5]")
@example(b"[" * (MAX_DEPTH + 2) + b"]" * (MAX_DEPTH + 2))
@example(b"[" * (MAX_DEPTH + 3) + b"]" * (MAX_DEPTH + 3))
@example(b'{"a":' * 202 + b"1" + b"}" * 202)
@example(b"\xef\xbb\xbf1")
@example(b"[1,]")
@example(b'{"a":1,}')
@example(b'{"a":1,  }')
@example(b"[[[[1,2],[3]],[]],{}]")
@example(b'{"a":{"b":{"c":{"d":[1,{"e":2}]}}},"f":1}')
def test_scanner_and_pydantic_agree_on_what_is_json(text: bytes) -> None:
    """If they differed, a host could keep and forward what no worker can read, or the reverse."""
    assert is_accepted(text) == is_accepted_by_pydantic(text)


@given(VALUES, st.data())
def test_damaged_json_is_judged_as_pydantic_judges_it(value: Any, data: st.DataObject) -> None:
    """One byte lost, doubled or changed: the commonest way for real JSON to be wrong."""
    text = bytearray(json.dumps(value).encode())
    position = data.draw(st.integers(0, len(text) - 1))
    match data.draw(st.sampled_from(["drop", "double", "change"])):
        case "drop":
            del text[position]
        case "double":
            text.insert(position, text[position])
        case _:
            text[position] = data.draw(st.sampled_from(b'{}[],:"\\0a \n'))

    assert is_accepted(bytes(text)) == is_accepted_by_pydantic(bytes(text))


@pytest.mark.parametrize(
    ("text", "reason", "position"),
    [
        (b"", "the text ends where a value is expected", 0),
        (b"  ", "the text ends where a value is expected", 2),
        (b"[1", "the text ends where ',' or ']' is expected", 2),
        (b"[1 2]", "',' or ']' is expected", 3),
        (b"[1,]", "a value is expected", 3),
        (b'{"a" 1}', "':' is expected", 5),
        (b'{"a":1 "b":2}', "',' or '}' is expected", 7),
        (b"{a:1}", "a string is expected", 1),
        (b"[NaN]", "NaN and Infinity are not JSON", 1),
        (b"-Infinity", "NaN and Infinity are not JSON", 0),
        (b"01", "something follows the value", 1),
        (b"1 x", "something follows the value", 2),
        (b'"abc', "the text ends within a string", 4),
        (b'"a\nb"', "a control character in a string must be escaped", 2),
        (b'"a\\x"', "an unknown escape in a string", 2),
        (b'"a\\u12"', "an unknown escape in a string", 2),
        (b'"a\\ud800"', "a lone surrogate escape in a string", 2),
        (b'"a\\udc00"', "a lone surrogate escape in a string", 2),
        (b'"a\\ud800bcd\\n"', "a lone surrogate escape in a string", 2),
        (b"[" + b"1" * 4301 + b"]", "a number of more than 4300 digits", 1),
        (b"[" * 300, f"nested deeper than {MAX_DEPTH} levels", MAX_DEPTH),
        (b'"\xff"', "the text is not UTF-8", 1),
    ],
)
def test_the_error_says_what_is_wrong_and_where(text: bytes, reason: str, position: int) -> None:
    """The words "invalid JSON" alone send people searching through a megabyte."""
    with pytest.raises(JsonTextError) as caught:
        check_json(text)

    assert (caught.value.reason, caught.value.position) == (reason, position)
    assert str(caught.value) == f"{reason} at byte {position}"


LARGE = {
    "array of numbers": b"[" + b",".join([b"1"] * 60_000) + b"]",
    "array of empty arrays": b"[" + b",".join([b"[]"] * 30_000) + b"]",
    "array of deep arrays": b"[" + b",".join([b"[[[[1]]]]"] * 10_000) + b"]",
    "array of objects": json.dumps(
        [{"id": n, "tags": ["a", {"b": n}]} for n in range(5000)]
    ).encode(),
    "object of objects": json.dumps(
        {f"k{n}": {"a": {"b": {"c": n}}} for n in range(5000)}
    ).encode(),
    "one long text": json.dumps("line of text\n" * 20_000).encode(),
    "many escapes in keys": json.dumps({f"{n}" + "\n" * 9: "\t" * 9 for n in range(5000)}).encode(),
    "escaped text": json.dumps("\N{GRINNING FACE}é" * 10_000).encode(),
    "raw text": json.dumps("\N{GRINNING FACE}é" * 20_000, ensure_ascii=False).encode(),
}


@pytest.mark.parametrize("text", LARGE.values(), ids=LARGE)
def test_large_texts_are_judged_like_small_ones(text: bytes) -> None:
    """Over the size that is parsed at once another way is taken; it must give the same verdict."""
    assert len(text) > SMALL_BYTES
    assert is_json(text)
    assert not is_json(text[:-1])
    damaged = bytearray(text)
    damaged[len(text) * 2 // 3] = 0
    assert not is_json(bytes(damaged))


@pytest.mark.parametrize("cut", range(-3, 4))
def test_a_character_that_spans_two_parts_is_no_error(cut: int) -> None:
    """UTF-8 is checked in parts; a border inside a character is not a fault, a torn one is."""
    face = "\N{GRINNING FACE}".encode()
    text = b'"' + b"x" * (SMALL_BYTES - 3 + cut) + face + b'"'

    assert is_json(text)
    with pytest.raises(JsonTextError) as caught:
        check_json(text.replace(face, face[:2]))
    assert caught.value.reason == "the text is not UTF-8"
    assert caught.value.position == SMALL_BYTES - 2 + cut


def test_small_texts_are_judged_by_pydantic_itself() -> None:
    """The quick way for most outputs and events."""
    assert is_json(b'{"a": [1, 2.5, null]}')
    assert not is_json(b"NaN")
    assert not is_json(b"[" * 10_000)


@given(VALUES, BLANKS, BLANKS)
def test_a_member_is_cut_out_exactly(value: Any, before: str, behind: str) -> None:
    """The input's bytes go to the worker as they are: not one may be missing or too many."""
    raw = json.dumps(value).encode()
    text = b'{"key"%b:%b%b%b}' % (before.encode(), behind.encode(), raw, before.encode())

    assert read_member(text, 1) == (b'"key"', raw, len(text) - 1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'"a":1', "the text ends where ',' or '}' is expected"),
        (b'"a":1]', "',' or '}' is expected"),
        (b'"a":1,}', "a string is expected"),
        (b'"a":1, 2}', "a string is expected"),
        (b'"a"', "the text ends where ':' is expected"),
    ],
)
def test_what_follows_a_member_is_checked(text: bytes, reason: str) -> None:
    """A comma that nothing follows is the commonest slip of a hand-written body."""
    with pytest.raises(JsonTextError, match=reason):
        read_member(text, 0)


def test_a_member_that_no_pattern_covers_is_read_too() -> None:
    """Long keys, deep values: the slow way must end at the same places."""
    key = json.dumps("\n" * 50).encode()
    value = json.dumps([[[[["deep"]]]], "\t" * 50]).encode()
    text = key + b" : " + value + b' , "next":1}'

    assert read_member(text, 0) == (key, value, text.index(b'"next"'))
