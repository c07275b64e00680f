"""The body of ``POST /v1/tasks``: nothing is re-written, and nothing that is unclear is taken."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.protocol.envelope import (
    ENVELOPE_KEYS,
    MAX_CANONICAL_BYTES,
    MAX_METADATA_BYTES,
    Envelope,
    EnvelopeError,
    is_json,
    is_same_input,
    parse_envelope,
)
from kagent_sdk.protocol.problem import Problem
from tests.unit.protocol.test_json_text import PIECES, VALUES


def problem_of(body: bytes) -> Problem:
    """Return the answer to a body that is refused."""
    with pytest.raises(EnvelopeError) as caught:
        parse_envelope(body)
    return caught.value.problem


def fault_of(body: bytes) -> tuple[list[str | int], str]:
    """Return where and what the first wrong member is."""
    problem = problem_of(body)
    assert problem.status == 422
    first = problem.extra["error"]["details"][0]
    return first["loc"], first["type"]


def test_all_members_are_read() -> None:
    """The whole request in one place, as the documentation shows it."""
    body = b""" {"id": "order-1", "capability": "digest", "timeout_s": 30,
        "input": {"n": 1.50, "text" : "\\u0041"}, "metadata": { "user": 7 },
        "callback_url": "https:\\/\\/hooks.example.com/kos?k=1" } """

    assert parse_envelope(body) == Envelope(
        "order-1",
        "digest",
        b'{"n": 1.50, "text" : "\\u0041"}',
        30.0,
        b'{ "user": 7 }',
        "https://hooks.example.com/kos?k=1",
    )


@pytest.mark.parametrize(
    "rest", ["", ', "id": null, "timeout_s": null, "metadata": null, "callback_url": null']
)
def test_what_is_left_out_has_defaults_and_null_says_the_same(rest: str) -> None:
    """Many clients send null for an optional member that is not set."""
    envelope = parse_envelope(f'{{"capability": "ping"{rest}}}'.encode())

    assert envelope == Envelope(None, "ping", b"{}", None, b"{}")


def test_an_input_that_is_null_stays_null() -> None:
    """A capability may take `Document | None`; that is for its schema to say."""
    assert parse_envelope(b'{"capability":"ping","input":null}').input == b"null"


@given(VALUES, st.randoms(use_true_random=False), st.sampled_from([None, 2]))
def test_the_input_is_cut_out_byte_by_byte(
    value: Any, order: random.Random, indent: int | None
) -> None:
    """The journal and the worker must all see what the caller signed or measured."""
    raw = json.dumps(value, indent=indent)
    members = [
        '"capability": "digest"',
        f'"input":{raw}',
        '"id":"x"',
        '"metadata": {"input": 1}',
        '"timeout_s":0.5',
    ]
    order.shuffle(members)
    envelope = parse_envelope(f"{{{' , '.join(members)}}}".encode())

    assert envelope.input == raw.encode()
    assert envelope == Envelope("x", "digest", raw.encode(), 0.5, b'{"input": 1}')


@given(PIECES | st.binary(max_size=20), PIECES)
def test_no_bytes_whatever_cause_anything_but_an_answer(start: bytes, end: bytes) -> None:
    """A body comes from anywhere; an unhandled error would be a 500, and a line in the log."""
    for body in (start, b'{"capability":"a","input":' + start + b"}", b"{" + start + b":" + end):
        try:
            envelope = parse_envelope(body)
        except EnvelopeError as exc:
            assert exc.problem.status in {400, 422}  # noqa: PT017 - either outcome is right
        else:
            json.loads(envelope.input)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "the text ends where a value is expected at byte 0"),
        (b"{", "the text ends where a string is expected at byte 1"),
        (b'{"capability":"a"', "the text ends where ',' or '}' is expected at byte 17"),
        (b'{"capability":"a",}', "a string is expected at byte 18"),
        (b'{"capability":"a"} x', "something follows the value at byte 19"),
        (b'["a"] x', "something follows the value at byte 6"),
        (b'{"input":NaN}', "NaN and Infinity are not JSON at byte 9"),
        (b'{"input":[1,-Infinity]}', "NaN and Infinity are not JSON at byte 12"),
        (b'{"id":"a","i\\u0064":"b"}', "the key 'id' comes twice, again at byte 10"),
        (b'{"id":null,"id":"b"}', "the key 'id' comes twice, again at byte 11"),
        (b'{"id":"\\ud800"}', "a lone surrogate escape in a string at byte 7"),
        (b'{"id":"\xff"}', "the text is not UTF-8 at byte 7"),
        (b'\xef\xbb\xbf{"id":"a"}', "a value is expected at byte 0"),
        (b'{"input":' + b"[" * 5000, "nested deeper than 199 levels at byte 208"),
        (b'{"input":' + b"9" * 5000 + b"}", "a number of more than 4300 digits at byte 9"),
    ],
)
def test_what_is_not_strict_json_is_refused_with_400(body: bytes, detail: str) -> None:
    """Two parsers that read one body differently are how requests are smuggled."""
    problem = problem_of(body)

    assert (problem.status, problem.code) == (400, "invalid_json")
    assert problem.detail == detail


def test_an_unknown_key_is_refused_with_the_nearest_right_one() -> None:
    """`timeout` for `timeout_s` would otherwise be a task without a timeout."""
    problem = problem_of(b'{"capability":"a","timeout":5}')

    assert (problem.status, problem.code) == (400, "unknown_key")
    assert problem.extra["nearest"] == ["timeout_s"]
    assert "did you mean 'timeout_s'" in problem.detail


def test_a_very_long_key_is_refused_briefly() -> None:
    """What the caller sent must not come back as an answer of megabytes."""
    problem = problem_of(b'{"' + b"\\u0069" * 100_000 + b'":1}')

    assert problem.code == "unknown_key"
    assert len(problem.to_bytes()) < 500


@pytest.mark.parametrize(
    ("body", "loc", "kind"),
    [
        ("[]", [], "dict_type"),
        ('"text"', [], "dict_type"),
        ("{}", ["capability"], "missing"),
        ('{"capability":null}', ["capability"], "missing"),
        ('{"capability":7}', ["capability"], "string_type"),
        ('{"capability":""}', ["capability"], "string_too_short"),
        (f'{{"capability":"{"a" * 65}"}}', ["capability"], "string_too_long"),
        ('{"capability":"a","id":7}', ["id"], "string_type"),
        ('{"capability":"a","id":""}', ["id"], "string_pattern_mismatch"),
        ('{"capability":"a","id":".."}', ["id"], "string_pattern_mismatch"),
        ('{"capability":"a","id":"a/b"}', ["id"], "string_pattern_mismatch"),
        ('{"capability":"a","id":"a\\n"}', ["id"], "string_pattern_mismatch"),
        (f'{{"capability":"a","id":"{"a" * 129}"}}', ["id"], "string_pattern_mismatch"),
        ('{"capability":"a","timeout_s":"5"}', ["timeout_s"], "float_type"),
        ('{"capability":"a","timeout_s":true}', ["timeout_s"], "float_type"),
        ('{"capability":"a","timeout_s":0}', ["timeout_s"], "greater_than"),
        ('{"capability":"a","timeout_s":-1e-9}', ["timeout_s"], "greater_than"),
        ('{"capability":"a","timeout_s":1e-999}', ["timeout_s"], "greater_than"),
        ('{"capability":"a","timeout_s":1e999}', ["timeout_s"], "less_than_equal"),
        ('{"capability":"a","timeout_s":1000000001}', ["timeout_s"], "less_than_equal"),
        (f'{{"capability":"a","timeout_s":0.{"1" * 500}}}', ["timeout_s"], "less_than_equal"),
        ('{"capability":"a","metadata":[]}', ["metadata"], "dict_type"),
        ('{"capability":"a","callback_url":7}', ["callback_url"], "string_type"),
        ('{"capability":"a","callback_url":"//a"}', ["callback_url"], "url_parsing"),
        (
            f'{{"capability":"a","metadata":{{"x":{"[" * 20}{"]" * 20}}}}}',
            ["metadata"],
            "recursion_loop",
        ),
        (
            f'{{"capability":"a","metadata":{{"x":"{"y" * MAX_METADATA_BYTES}"}}}}',
            ["metadata"],
            "bytes_too_long",
        ),
    ],
)
def test_a_wrong_member_is_refused_with_422_and_its_place(
    body: str, loc: list[str], kind: str
) -> None:
    """The same words as pydantic's for an input, so that a client needs one reader."""
    assert fault_of(body.encode()) == (loc, kind)


def test_all_wrong_members_are_named_at_once() -> None:
    """Nobody likes to fix a request one error at a time."""
    problem = problem_of(b'{"id":1,"timeout_s":"x","metadata":[]}')

    assert [each["loc"] for each in problem.extra["error"]["details"]] == [
        ["id"],
        ["capability"],
        ["timeout_s"],
        ["metadata"],
    ]


def test_every_key_can_be_written_with_escapes() -> None:
    """It is the same JSON; odd serialisers exist."""
    for key in ENVELOPE_KEYS:
        escaped = "".join(f"\\u{ord(each):04x}" for each in key)
        problem = problem_of(f'{{"{escaped}":[],"nonsense":1}}'.encode())

        assert "nonsense" in problem.detail


def test_a_large_body_is_read_like_a_small_one() -> None:
    """Megabytes of input take the same way, in a thread."""
    raw = json.dumps([{"line": n, "text": "x\n" * 5} for n in range(5000)]).encode()

    assert parse_envelope(b'{"input":' + raw + b',"capability":"a"}').input == raw


@given(VALUES, st.sampled_from([None, 1]), st.randoms(use_true_random=False))
def test_the_same_json_is_the_same_input(
    value: Any, indent: int | None, order: random.Random
) -> None:
    """A retry by another serialiser is still a retry, not a conflict."""

    def shuffled(node: Any) -> Any:
        if isinstance(node, dict):
            keys = list(node)
            order.shuffle(keys)
            return {key: shuffled(node[key]) for key in keys}
        return [shuffled(item) for item in node] if isinstance(node, list) else node

    again = json.dumps(shuffled(value), indent=indent, ensure_ascii=False)

    assert is_same_input(json.dumps(value).encode(), again.encode())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"1", b"1.0"),
        (b"0.1", b"0.10000000000000000001"),
        (b"1", b'"1"'),
        (b"1", b'{"number": "1"}'),
        (b'{"a": 1}', b'{"object": [["a", {"number": "1"}]]}'),
        (b'{"a":1,"a":2}', b'{"a":2,"a":1}'),
        (b'{"a":1,"a":2}', b'{"a":2}'),
        (b"[1,2]", b"[2,1]"),
        (b"null", b""),
        (b"{}", b"[]"),
        (b"NaN", b"nan"),
        (b"[NaN]", b"[ NaN]"),
        (b'"\xff"', b'"\xfe"'),
        (b"[" * 5000, b"[" * 5001),
    ],
)
def test_different_inputs_are_not_the_same(one: bytes, other: bytes) -> None:
    """Otherwise a caller would get the result of a task that it did not ask for."""
    assert not is_same_input(one, other)
    assert not is_same_input(other, one)


def test_a_large_input_counts_byte_by_byte() -> None:
    """Comparing what megabytes say would stall the host for longer than the task takes."""
    body = json.dumps(["x" * MAX_CANONICAL_BYTES]).encode()

    assert is_same_input(body, bytes(bytearray(body)))
    assert not is_same_input(body, b" " + body)


def test_is_json_can_be_had_from_here() -> None:
    """The engine checks what workers send with it."""
    assert is_json(b"[1]")
