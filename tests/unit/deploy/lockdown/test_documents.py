"""Manifests are written by anybody: what is read of them is bounded, and has its line."""

from __future__ import annotations

import pytest

from kagent_sdk.deploy.lockdown.documents import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_DOCUMENTS,
    MAX_VALUES,
    read_documents,
)
from kagent_sdk.errors import DeployError


def test_documents_keep_their_values_and_lines() -> None:
    """A finding without its line costs a search in a hundred lines."""
    first, second = read_documents("a:\n  b: [1, x]\n---\n# nothing\n---\nc: ~\nd: 8080:22\n")

    assert first.value == {"a": {"b": [1, "x"]}}
    assert first.where("a", "b", 1) == "a.b[1] (line 2)"
    assert first.where("a", "z", "y") == "a.z.y (line 1)"
    assert first.where("a", label="there") == "there (line 1)"
    assert second.value == {"c": None, "d": "8080:22"}
    assert second.where("d") == "d (line 7)"


def test_anchors_and_merge_keys_mean_what_compose_means() -> None:
    """Whoever shares a block between services must be compared with what it comes to."""
    (document,) = read_documents(
        "x-a: &a {user: root, cpus: 1.5}\nx-b: &b {user: me, tty: on}\n"
        "one: {<<: *a, user: you}\ntwo: {<<: [*a, *b, text]}\nthree: {<<: *a, image: x}\n"
    )

    assert document.value["one"] == {"user": "you", "cpus": 1.5}
    assert document.value["two"] == {"user": "root", "cpus": 1.5, "tty": True}
    assert document.where("one", "cpus") == "one.cpus (line 3)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x" * (MAX_BYTES + 1), "over 1048576 bytes"),
        ("[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2), "nested deeper than 40"),
        ("a: &a [*a]", "line 1: nothing before is called &a"),
        ("[" + "x," * MAX_VALUES + "]", "more than 100000 values"),
        ("---\na\n" * (MAX_DOCUMENTS + 1), "more than 200 documents"),
        ("a: 1\nb: 2\na: 3", "line 3: a is there twice"),
        ("{[a]: b}", "a key must be a plain word"),
        ("!!int x", "a number that cannot be read"),
        ("a: [", "line 2: this is no YAML"),
        ("\x01", "this is no YAML"),
    ],
)
def test_what_is_no_manifest_is_one_clear_error(text: str, message: str) -> None:
    """A file of a stranger must cost neither memory nor a traceback."""
    with pytest.raises(DeployError, match=message):
        read_documents(text)


def test_aliases_cannot_make_a_small_text_large() -> None:
    """Nine anchors of nine aliases each are a billion values for whoever walks over them."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]

    with pytest.raises(DeployError, match="values"):
        read_documents("\n".join(lines))


def test_tags_make_nothing() -> None:
    """A tag that would run code elsewhere is text here."""
    (document,) = read_documents("a: !!python/object/apply:os.system [x]\nb: !x y\nc: 2001-01-01")

    assert document.value == {"a": ["x"], "b": "y", "c": "2001-01-01"}
