"""Redaction: no secret is left in what leaves, in whatever encoding it comes."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.redaction.redactor import CUT, Redactor
from tests.unit.redaction.test_secret_forms import ENCODERS, secrets

KEYS = {"key": "hunter2-hunter2", "db.password": "correct horse", "pin": "12345"}


@pytest.fixture(params=["re2", "pure"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run every test with google-re2 and without it."""
    if request.param == "pure":
        monkeypatch.setitem(sys.modules, "re2", None)
    return str(request.param)


def test_a_secret_is_replaced_by_its_name() -> None:
    """The reader of a log must see which secret it was."""
    redactor = Redactor(KEYS)

    assert redactor.redact(b"a hunter2-hunter2 b") == b"a ***key*** b"
    assert redactor.redact_text("correct+horse") == "***db.password***"
    assert redactor.finds_in(b"--hunter2-hunter2--")


def test_a_short_value_is_left_alone() -> None:
    """12345 stands in every second log; under six characters is no secret."""
    redactor = Redactor(KEYS)

    assert redactor.redact(b"pin 12345") == b"pin 12345"
    assert not redactor.finds_in(b"12345")


def test_a_text_without_secrets_is_the_same_object() -> None:
    """Nearly every line is one: it costs no copy."""
    text = b"nothing here"

    assert Redactor(KEYS).redact(text) is text
    assert Redactor({}).redact(text) is text
    assert not Redactor({}).finds_in(text)
    assert Redactor({}).longest_bytes == 0


def test_one_that_contains_another_gives_its_own_name() -> None:
    """Naming the part would leave the rest in clear."""
    redactor = Redactor({"part": "secret", "whole": "my-secret-word"})

    assert redactor.redact(b"<my-secret-word> <secret>") == b"<***whole***> <***part***>"


def test_all_that_overlapping_secrets_cover_goes() -> None:
    """Replacing the first alone would leave the second half of the other."""
    redactor = Redactor({"first": "abcdefgh", "second": "efghijkl"})

    assert redactor.redact(b"[abcdefghijkl]") == b"[***first******second***]"
    assert redactor.redact(b"[abcdefghabcdefgh]") == b"[***first******first***]"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain_name-1.x", "plain_name-1.x"),
        ('a"b\nc', "a_b_c"),
        ("hunter2-hunter2", "secret"),
        ("x" * 300, "x" * 100),
    ],
)
def test_a_name_neither_breaks_the_line_nor_holds_a_secret(name: str, shown: str) -> None:
    """Keys of a vault may be anything, a value in the wrong place included."""
    redactor = Redactor({name: "hunter2-hunter2"})

    assert redactor.redact(b'{"k":"hunter2-hunter2"}') == f'{{"k":"***{shown}***"}}'.encode()


def test_bytes_that_are_no_text_do_not_matter() -> None:
    """A worker may print anything around a secret."""
    assert Redactor(KEYS).redact(b"\xff\x00hunter2-hunter2\xfe") == b"\xff\x00***key***\xfe"
    assert Redactor(KEYS).redact_text("\ud800 hunter2-hunter2") == "\ud800 ***key***"


def test_retired_values_are_taken_out_too() -> None:
    """A value that was rotated because it leaked is still in use somewhere."""
    old = Redactor({"key": "the-old-value"})
    new = Redactor({"key": "the-new-value"}, [("key", "the-old-value")], like=old)

    assert new.redact(b"the-old-value the-new-value") == b"***key*** ***key***"


def test_the_beginning_of_a_secret_at_a_cut_goes() -> None:
    """A message that is cut at its limit may end in the middle of a secret."""
    redactor = Redactor(KEYS)

    assert redactor.redact_cut("it said hunter2-hun", 19) == f"it said {CUT}"
    assert redactor.redact_cut("it said hunter2-hunter2", 23) == "it said ***key***"
    assert redactor.redact_cut("it said hunter2-hun", 20) == "it said hunter2-hun"
    assert redactor.redact_cut("it said nothing", 15) == "it said nothing"


def test_it_shows_no_value() -> None:
    """Objects end up in logs."""
    assert "hunter2" not in repr(Redactor(KEYS))
    assert not hasattr(Redactor(KEYS), "__dict__")


@given(
    chosen=st.lists(secrets.filter(lambda text: "*" not in text), min_size=1, max_size=4),
    pieces=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(sorted(ENCODERS)), st.binary(max_size=6)),
        max_size=5,
    ),
)
def test_no_encoding_or_neighbourhood_leaves_a_secret_in_clear(
    chosen: list[str], pieces: list[tuple[int, str, bytes]]
) -> None:
    """The promise: whatever the worker prints of it, no line that is written holds a secret."""
    redactor = Redactor({f"key{number}": value for number, value in enumerate(chosen)})
    encoded = [
        (ENCODERS[encoder](chosen[number % len(chosen)]).encode(), noise)
        for number, encoder, noise in pieces
    ]
    text = b"".join(part + noise for part, noise in encoded)

    clean = redactor.redact(text)

    assert not redactor.finds_in(clean.replace(b"***", b"\0\0\0"))
    for value in chosen:
        assert value.encode() not in clean
        assert json.dumps(value)[1:-1].encode() not in clean
    assert redactor.longest_bytes >= max(len(value.encode()) for value in chosen)
