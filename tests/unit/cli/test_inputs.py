"""Tests of `kagent_sdk.cli.inputs`."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from kagent_sdk.cli import inputs
from kagent_sdk.cli.boundary import UsageError
from kagent_sdk.cli.inputs import read_input


def test_no_words_are_an_empty_object() -> None:
    """A capability without parameters is called by its name alone."""
    assert read_input([]) == {}


@pytest.mark.parametrize(
    ("word", "value"),
    [('{"name": "Ada"}', {"name": "Ada"}), ("[1, 2]", [1, 2]), ('"text"', "text"), ("7", 7)],
)
def test_one_word_of_json_is_the_input(word: str, value: object) -> None:
    """Whatever type the capability takes."""
    assert read_input([word]) == value


def test_pairs_make_an_object_of_text_and_json() -> None:
    """Most inputs are a few plain values: no quoting of quotes."""
    words = ["name=Ada", "count:=3", "tags:=[1]", "text=a=b:=c", "empty=", "to.whom=x"]

    assert read_input(words) == {
        "name": "Ada",
        "count": 3,
        "tags": [1],
        "text": "a=b:=c",
        "empty": "",
        "to.whom": "x",
    }


def test_a_text_value_keeps_its_line_breaks() -> None:
    """A shell hands over whole documents."""
    assert read_input(["text=a\nb"]) == {"text": "a\nb"}


def test_json_with_an_equals_sign_in_it_is_json() -> None:
    """Only a word that begins like a name is a pair."""
    assert read_input(['{"a": "b=c"}']) == {"a": "b=c"}


def test_a_file_is_read(tmp_path: Path) -> None:
    """Long inputs live in files."""
    path = tmp_path / "in.json"
    path.write_bytes('{"name": "Zoë"}'.encode())

    assert read_input([f"@{path}"]) == {"name": "Zoë"}


def test_stdin_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The output of another program is an input."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"a": 1}')))

    assert read_input(["-"]) == {"a": 1}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{name: 1}"], "the input is not JSON: expecting property name"),
        (["hello"], "write JSON, @FILE, - for stdin, or plain words such as name=Ada"),
        (["{\n\n  1}"], "at line 3, column 3"),
        (["a=1", "b"], "'b' is neither key=text nor key:=JSON"),
        (["a=1", "a=2"], "'a' is given twice"),
        (["a:=x"], "the value of 'a' is not JSON"),
        (["[NaN]"], "there is no NaN in JSON"),
        (["a:=-Infinity"], "there is no -Infinity in JSON"),
        (["[" * 100_000], "nested too deeply"),
        (["@/no/such/file"], "cannot read /no/such/file: No such file"),
        (["1=2"], "is not JSON"),
        (["x\x1b[31m"], "is not JSON"),
    ],
)
def test_what_is_no_input_is_told_with_a_way_out(words: list[str], message: str) -> None:
    """The shell's quoting goes wrong for everybody."""
    with pytest.raises(UsageError) as caught:
        read_input(words)

    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_file_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    """JSON is UTF-8 (RFC 8259, 8.1)."""
    path = tmp_path / "latin1.json"
    path.write_bytes(b'{"name": "Zo\xeb"}')

    with pytest.raises(UsageError, match=r"latin1\.json is not JSON: it is not UTF-8"):
        read_input([f"@{path}"])


def test_a_file_beyond_reason_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`@/dev/zero` must not fill the memory."""
    monkeypatch.setattr(inputs, "MAX_INPUT_BYTES", 10)
    path = tmp_path / "big.json"
    path.write_bytes(b"1" * 11)

    with pytest.raises(UsageError, match="over 10 bytes"):
        read_input([f"@{path}"])
