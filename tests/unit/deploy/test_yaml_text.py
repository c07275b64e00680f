"""YAML with comments."""

from __future__ import annotations

import yaml

from kagent_sdk.deploy.yaml_text import Block, comment_text, yaml_text


def test_blocks_are_one_mapping_with_comments() -> None:
    """A reader sees why, a parser sees one mapping in its order."""
    shared = ["x"]
    text = yaml_text(
        [Block({"b": shared, "a": {"n": 1}}, "why"), Block({}, "nothing"), Block({"c": shared})],
        level=1,
    )

    assert text == "  # why\n  b:\n    - x\n  a:\n    n: 1\n  c:\n    - x\n"
    assert yaml.safe_load(text) == {"b": ["x"], "a": {"n": 1}, "c": ["x"]}


def test_what_yaml_would_read_otherwise_is_quoted() -> None:
    """An agent may be called "no", and its version may be a number."""
    members = {"name": "no", "version": "1.10", "user": "1000:1000", "time": "12:30:45"}

    assert yaml.safe_load(yaml_text([Block(members)])) == members


def test_a_comment_ends_nowhere_but_at_its_end() -> None:
    """A line break or a control character in an author's text must not become YAML."""
    text = comment_text("one\ntwo\x00\x85\u2028services: {}\n" + "long " * 40)

    assert text.startswith("# one\n# two   services: {}\n# long long")
    assert all(line.startswith("#") for line in text.splitlines())
    assert max(len(line) for line in text.splitlines()) <= 96
    assert comment_text("") == ""
    assert comment_text("a\n\nb") == "# a\n#\n# b\n"
