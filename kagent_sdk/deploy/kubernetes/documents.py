"""Documents of Kubernetes as YAML that people read: in the order given, with comments. Pure.

A comment is an entry of a mapping whose key begins with ``# ``; it stands above the entry after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

COMMENT = "# "

MAX_COMMENT = 110
"""A longer key is written by YAML in another way, over several lines."""

_COMMENT_LINE = re.compile(r"(?P<indent> *)(?P<dash>- )?'(?P<text># .*)': null")

Document = Mapping[str, Any]


def comment(text: str) -> dict[str, None]:
    """Return entries that become lines of comment, one for each line of the text.

    Args:
        text: lines of at most 110 characters; no two comments of one mapping share a line.
    """
    lines = [COMMENT + line for line in text.splitlines()]
    assert all(len(line) <= MAX_COMMENT for line in lines)
    return dict.fromkeys(lines)


def to_text(documents: Iterable[Document]) -> str:
    """Return the documents as one stream of YAML."""
    return "---\n".join(map(_to_yaml, documents))


MAX_WIDTH = 4096
"""No line is folded: nothing of ours is as long."""


class _Dumper(yaml.SafeDumper):
    """Writes what stands twice in full: an alias (``*id001``) is for machines."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _to_yaml(document: Document) -> str:
    text = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=MAX_WIDTH)
    lines = []
    dash = ""
    for line in text.splitlines():
        match = _COMMENT_LINE.fullmatch(line)
        if match is None:
            lines.append(dash + line[len(dash) :])
            dash = ""
            continue
        if match["dash"]:
            dash = match["indent"] + match["dash"]
        # Above the item of a list that it belongs to, not behind its dash.
        indent = dash[:-2] if dash else match["indent"]
        lines.append(indent + match["text"].replace("''", "'"))
    return "\n".join(lines) + "\n"
