"""A script is understood as a shell would: what a comment hides, or a variable brings, decides."""

from __future__ import annotations

import pytest

from kagent_sdk.deploy.lockdown.shell import MAX_WORD, Script
from kagent_sdk.errors import DeployError


def words(text: str) -> list[list[str]]:
    """Return the commands of a script as plain text."""
    return [[word.text for word in command] for command in Script(text).commands()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b\tc\r\nd", [["a", "b", "c"], ["d"]]),
        ("a 'b c' \"d e\" f\\ g", [["a", "b c", "d e", "f g"]]),
        ("a \\\n  b \\\n c", [["a", "b", "c"]]),
        ("a # b\nc", [["a"], ["c"]]),
        ("# a \\\nb", [["b"]]),
        ("a#b '#c'", [["a#b", "#c"]]),
        ("a \\\n# b\nc", [["a"], ["c"]]),
        ("a; b && c || d | e & (f)", [["a"], ["b"], ["c"], ["d"], ["e"], ["f"]]),
        ("a >/dev/null 2>&1", [["a"], ["/dev/null", "2"], ["1"]]),
        ("x=1 y='2 3'\na $x ${x} \"$y\" $y", [["a", "1", "1", "2 3", "$y"]]),
        ("a $z \"$z\" ${z:-1} '$z'", [["a", "$z", "$z", "${z:-1}", "$z"]]),
        ("a $(b $(c) d) `e f` g", [["a", "$(b $(c) d)", "`e f`", "g"]]),
        ("a $(b", [["a", "$(b"]]),
        ("a `b", [["a", "`b"]]),
        ("a $ $", [["a", "$", "$"]]),
        ('set -- a b\nset -- "$@" c\nd "$@" $* e', [["d", "a", "b", "c", "a", "b", "c", "e"]]),
        ('a "b\\"c\\$d\\e\\\nf"', [["a", 'b"c$d\\ef']]),
        ("X=1 a b", [["X=1", "a", "b"]]),
        ("", []),
        ("\\", [[""]]),
    ],
)
def test_scripts_are_cut_as_a_shell_cuts_them(text: str, expected: list[list[str]]) -> None:
    """A word that is read otherwise is a flag that nobody judges."""
    assert words(text) == expected


def test_words_know_their_line() -> None:
    """A finding names the line that is to be changed."""
    (command,) = Script("\n\na \\\n 'b\nc' d").commands()

    assert [(word.text, word.line) for word in command] == [("a", 3), ("b\nc", 4), ("d", 5)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 'b", "line 1: this quote is never closed"),
        ('\na "b', "line 2: this quote is never closed"),
        ("a " * 6000, "more than 5000 words"),
        ("a b\n" * 12_000, "words"),
        ("x" * (MAX_WORD + 1), "a word of more than 10000 characters"),
        ('"' + "x" * (MAX_WORD + 9) + '"', "never closed"),
        ("set -- a b c\n" + 'set -- "$@" "$@"\n' * 30, "more than 5000 words"),
        ("a=xxxxxxxxx\n" + 'a="$a$a"\n' * 30, "line"),
    ],
)
def test_a_script_that_is_too_much_is_one_clear_error(text: str, message: str) -> None:
    """A script that doubles itself thirty times must not be followed to the end."""
    with pytest.raises(DeployError, match=message):
        words(text)
