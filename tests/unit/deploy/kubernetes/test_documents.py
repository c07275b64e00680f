"""YAML for people: comments stand where they belong, and nothing is abbreviated."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from kagent_sdk.deploy.kubernetes.documents import comment, to_text


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({**comment("why\nand how"), "a": 1}, "# why\n# and how\na: 1\n"),
        ({"a": {**comment("it's so"), "b": 1}}, "a:\n  # it's so\n  b: 1\n"),
        (
            {"a": [{**comment("one\ntwo"), "b": 1, "c": 2}, {"d": 3}]},
            "a:\n# one\n# two\n- b: 1\n  c: 2\n- d: 3\n",
        ),
        ({"a": 1, **comment("the end")}, "a: 1\n# the end\n"),
        ({"a": "# none"}, "a: '# none'\n"),
    ],
)
def test_a_comment_stands_above_what_it_explains(document: dict[str, Any], text: str) -> None:
    """A reader asks why where the line is."""
    assert to_text([document]) == text


def test_what_stands_twice_is_written_twice() -> None:
    """Nobody looks up what *id001 was."""
    shared = {"cpu": "1"}

    assert yaml.safe_load(to_text([{"a": shared, "b": shared}])) == {"a": shared, "b": shared}
    assert "*" not in to_text([{"a": shared, "b": shared}])


def test_documents_are_apart() -> None:
    """They are one stream for kubectl."""
    assert to_text([{"b": 1, "a": 2}, {"c": 3}]) == "b: 1\na: 2\n---\nc: 3\n"


def test_a_comment_that_yaml_would_break_is_refused() -> None:
    """It would come out as a key of the manifest."""
    with pytest.raises(AssertionError):
        comment("x" * 120)
