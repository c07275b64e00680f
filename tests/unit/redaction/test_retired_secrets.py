"""Retired values: known for the host's life, in bounded memory."""

from __future__ import annotations

from kagent_sdk.redaction.retired_secrets import MAX_CHARS, MAX_VALUES, RetiredSecrets


def test_the_newest_values_are_kept() -> None:
    """A vault that is rotated every minute must not fill the host's memory."""
    retired = RetiredSecrets()
    for number in range(MAX_VALUES + 10):
        retired.add({"key": f"value-{number}", "port": "5432"})

    assert len(retired) == MAX_VALUES
    assert retired.pairs()[0] == ("key", f"value-{MAX_VALUES + 9}")
    assert retired.pairs()[-1] == ("key", "value-10")


def test_a_value_that_comes_again_is_as_new() -> None:
    """Two vaults that take turns must not push each other out."""
    retired = RetiredSecrets()
    retired.add({"a": "value-one"})
    retired.add({"b": "value-two"})
    retired.add({"c": "value-one"})

    assert retired.pairs() == [("c", "value-one"), ("b", "value-two")]


def test_large_values_push_out_more() -> None:
    """A thousand values of a megabyte are a gigabyte."""
    retired = RetiredSecrets()
    retired.add({"small": "value-one"})
    retired.add({"large": "x" * (MAX_CHARS - 4)})

    assert [name for name, _ in retired.pairs()] == ["large"]
    assert repr(retired) == "<RetiredSecrets: 1>"
