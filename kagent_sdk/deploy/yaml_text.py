"""YAML for people: blocks of members, each with the comment that a reader would ask for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from textwrap import fill, indent
from typing import NamedTuple

import yaml
from typing_extensions import override

WIDTH = 96
"""Of a comment's lines, without what they are indented by."""


class Block(NamedTuple):
    """Members of a mapping that belong together.

    Attributes:
        members: in their order; values are plain data.
        comment: why they are there; empty: they say it themselves.
    """

    members: Mapping[str, object]
    comment: str = ""


class _Dumper(yaml.SafeDumper):
    """Indents lists, and repeats what occurs twice: a reader looks for no anchor."""

    @override
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless=False)

    @override
    def ignore_aliases(self, data: object) -> bool:
        return True


def yaml_text(blocks: Iterable[Block], level: int = 0) -> str:
    """Return blocks as the members of one mapping, each below its comment; none if it is empty.

    Args:
        blocks: in their order.
        level: how deep the mapping is; two blanks for each.
    """
    parts = []
    for block in blocks:
        if block.members:
            text = yaml.dump(
                dict(block.members),
                Dumper=_Dumper,
                sort_keys=False,
                default_flow_style=False,
                allow_unicode=True,
                width=10_000,
            )
            parts.append(comment_text(block.comment) + text)
    return indent("".join(parts), "  " * level)


def comment_text(text: str) -> str:
    """Return text as lines of comment; its own line breaks stay, control characters do not."""
    text = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    lines = [
        fill(line, WIDTH, initial_indent="# ", subsequent_indent="# ") or "#"
        for line in text.split("\n")
    ]
    return "".join(f"{line}\n" for line in lines)
