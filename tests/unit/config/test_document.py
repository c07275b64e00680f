"""YAML is read with its lines, and nothing in it can hurt."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.config.document import MAX_DEPTH, Document, Fault, parse_document


@pytest.fixture(params=["libyaml", "pure"], autouse=True)
def _loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test with both of PyYAML's parsers: not every machine has LibYAML."""
    if request.param == "pure":
        monkeypatch.delattr(yaml, "CSafeLoader")


def fault_of(text: str) -> Fault:
    """Return the one fault of a text that cannot be read."""
    document = parse_document(text)
    assert document.value is None
    assert len(document.faults) == 1
    return document.faults[0]


def test_values_come_with_their_lines() -> None:
    """Every message about a key can name its line."""
    document = parse_document("name: a\nhttp:\n  port: 80\n  list: [1,\n    2]\n")

    assert document.value == {"name": "a", "http": {"port": 80, "list": [1, 2]}}
    assert document.lines == {
        (): 1,
        ("name",): 1,
        ("http",): 2,
        ("http", "port"): 3,
        ("http", "list"): 4,
        ("http", "list", 0): 4,
        ("http", "list", 1): 5,
    }
    assert not document.faults


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("0x1F", 31),
        ("1_000", 1000),
        ("-1.5", -1.5),
        (".inf", float("inf")),
        ("true", True),
        ("off", False),
        ("null", None),
        ("~", None),
        ("text", "text"),
        ("'1'", "1"),
        ("! 1", 1),
        ("!!str 1", "1"),
        ("!!int '1'", 1),
        ("2024-01-01", "2024-01-01"),
        ("2024-99-99", "2024-99-99"),
        ("=", "="),
        ("<<", "<<"),
        ("[]", []),
        ("{1: a, true: b, ~: c}", {"1": "a", "true": "b", "~": "c"}),
        ("&anchor a", "a"),
    ],
)
def test_scalars_mean_what_yaml_says_but_dates_and_keys_stay_text(text: str, value: Any) -> None:
    """`version: 2024-01-01` is a version, and `on:` a key."""
    assert parse_document(text) == Document(value, parse_document(text).lines, [])


@pytest.mark.parametrize("text", ["", "# a comment\n", "\n\n", "---\n"])
def test_a_text_without_content_is_null(text: str) -> None:
    """A file in which everything is commented out is a file of defaults."""
    document = parse_document(text)

    assert document.value is None
    assert not document.faults


def test_a_duplicate_key_is_a_fault_with_both_lines() -> None:
    """PyYAML would silently take the last."""
    document = parse_document("a: 1\nb:\n  c: 1\n  c: 2\n")

    assert document.faults == [Fault(4, 0, ("b", "c"), "is there twice, first on line 3")]


@pytest.mark.parametrize(
    "text",
    [
        "!!int x",
        "!!int ''",
        "!!float x",
        "!!bool x",
        "!!binary x",
        "!secret x",
        "!!python/name:os.system ''",
        "0x_",
        "9" * 5000,
        "1" + ":1" * 300 + ".5",
    ],
)
def test_a_value_with_a_tag_that_does_not_fit_is_a_fault(text: str) -> None:
    """No tag makes an object, and no odd number an exception."""
    document = parse_document(f"a:\n  b: {text}")

    expected = Fault(2, 0, ("a", "b"), "cannot be read: put it in quotes, without a tag")
    assert document.faults == [expected]


def test_an_alias_is_refused() -> None:
    """Ten lines of aliases make a billion values."""
    assert fault_of("a: &x [1]\nb: [*x, *x]").text == "an alias (`*name`): repeat the value instead"


def test_the_depth_is_bounded() -> None:
    """The message says where, so that the bracket too many can be found."""
    allowed = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_document(allowed).faults == []

    fault = fault_of("[" * (MAX_DEPTH + 1))

    assert (fault.line, fault.column) == (1, MAX_DEPTH + 1)
    assert fault.text == "nested deeper than 20 levels"


def test_a_million_brackets_are_one_fault() -> None:
    """They end neither in a crash nor in a long wait; LibYAML may see them before we do."""
    document = parse_document("[" * 1_000_000)

    assert document.value is None
    assert len(document.faults) == 1


def test_a_key_must_be_a_word() -> None:
    """JSON has no other."""
    assert fault_of("? [a]\n: b").text == "a key must be a plain word"


def test_a_second_document_is_refused() -> None:
    """Nobody would know which one counts."""
    fault = fault_of("a: 1\n---\nb: 1")

    assert (fault.line, fault.text) == (2, "a second document: there must be one only")


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [("a: b: c", 1, 5), ("a: 1\n\tb: 2", 2, 1), ("- a\nb: 1", 2, 1), ("a: @x", 1, 4)],
)
def test_a_syntax_error_has_line_and_column(text: str, line: int, column: int) -> None:
    """As an editor shows them: both begin at 1."""
    fault = fault_of(text)

    assert (fault.line, fault.column, fault.path) == (line, column, ())


def test_a_syntax_error_says_what_it_belongs_to() -> None:
    """A bracket that is never closed is found at the end only."""
    assert fault_of("a: 1\nb: [1").text.endswith("while parsing a flow sequence from line 2 on")


def test_a_syntax_error_does_not_repeat_the_text() -> None:
    """The text may be a secret."""
    assert "hunter" not in fault_of("a: !hunter!2 x").text
    assert "hunter" not in fault_of("a: *hunter2").text
    assert "hunter" not in fault_of("a: 'hunter2").text


@pytest.mark.parametrize(
    ("text", "line", "column"), [("a: 1\nb: \x00", 2, 4), ("\x07", 1, 1), ("a\n\n\x1b", 3, 1)]
)
def test_a_control_character_is_found(text: str, line: int, column: int) -> None:
    """PyYAML says nothing of the line."""
    assert fault_of(text) == Fault(
        line, column, (), "a control character, which YAML does not allow"
    )


@given(st.text(alphabet=st.characters(codec="utf-8")) | st.text("ab:-[]{}&*!|>'\"%@#?, \n\t01.~"))
def test_any_text_is_read_or_at_fault(text: str) -> None:
    """No text that an editor can save comes through as an exception."""
    document = parse_document(text)

    assert document.value is None or () in document.lines


def test_a_reader_error_without_a_known_character_is_at_fault_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """LibYAML may know of more characters than the pure parser's table."""

    def refuse(_: str) -> None:
        raise yaml.reader.ReaderError("", 0, ord("a"), "", "not allowed")

    monkeypatch.setattr(yaml, "CSafeLoader", refuse, raising=False)

    assert fault_of("ab").line == 1
