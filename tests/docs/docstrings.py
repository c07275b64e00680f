"""Docstrings, in Google's style with a little reStructuredText, as Markdown."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from textwrap import dedent

_SECTION = re.compile(
    r"(?P<title>Args|Attributes|Examples?|Notes?|Raises|Returns|Yields)(?P<rest> \(.*\))?:"
)
_ITEM = re.compile(r"(?P<names>[\w.*`, ]+?)(?: \((?P<kind>[^)]*)\))?: +(?P<text>.*)", re.DOTALL)
_CODE = re.compile(r"(``.+?``|`[^`]+`)", re.DOTALL)

# Of sections that are lists: what their items are called on the page.
_LISTS = {"Args": "Arguments", "Attributes": "Attributes", "Raises": "Raises"}

Link = Callable[[str], str | None]
"""Returns the address of what a name stands for on the page, if it stands for anything there."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a docstring.

    Attributes:
        title: ``Args`` and so on; empty for the prose.
        rest: what the title says more, such as ``(at the end of the block)``.
        text: what stands below it.
    """

    title: str
    rest: str
    text: str

    @property
    def names(self) -> list[str]:
        """The names that a list is about."""
        return [name for names, _ in read_items(self.text) for name in names.split(", ") if name]


class ExampleError(ValueError):
    """An example in a docstring is not Python."""


def read_sections(docstring: str) -> list[Section]:
    """Return the parts of a cleaned docstring in order; the first one is the prose."""
    sections: list[Section] = []
    title, rest, lines = "", "", list[str]()
    for line in docstring.splitlines():
        head = _SECTION.fullmatch(line)
        if head is None and (not title or line.startswith(" ") or not line):
            lines.append(line)
            continue
        sections.append(Section(title, rest, dedent("\n".join(lines)).strip("\n")))
        title = head["title"] if head else ""
        rest = (head["rest"] or "") if head else ""
        lines = [] if head else [line]
    sections.append(Section(title, rest, dedent("\n".join(lines)).strip("\n")))
    return [each for each in sections if each.text]


def read_items(text: str) -> Iterator[tuple[str, str]]:
    """Yield names and texts of a list such as that of ``Args``."""
    for paragraph in re.split(r"\n(?=\S)", text):
        match = _ITEM.fullmatch(paragraph.strip())
        if match is None:
            yield "", paragraph
        else:
            yield match["names"].strip("`"), match["text"]


def to_markdown(docstring: str, link: Link, *, without: frozenset[str] = frozenset()) -> str:
    """Return a docstring as Markdown.

    Args:
        docstring: cleaned, as `ast.get_docstring` returns it.
        link: where names lead to.
        without: titles of sections to leave out.

    Raises:
        ExampleError: an example in it is not Python.
    """
    parts = [_show(each, link) for each in read_sections(docstring) if each.title not in without]
    return "\n\n".join(parts)


def _show(section: Section, link: Link) -> str:
    if not section.title:
        return _prose(section.text, link)
    if section.title not in _LISTS:
        return f"**{section.title}:** {_prose(section.text, link)}"
    lines = [f"**{_LISTS[section.title]}{section.rest}:**", ""]
    for names, text in read_items(section.text):
        shown = ", ".join(_name(name, link) for name in names.split(", ") if name)
        lines.append(f"- {shown}: {inline(text, link)}" if shown else f"- {inline(text, link)}")
    return "\n".join(lines)


def _name(name: str, link: Link) -> str:
    address = link(name) if name[:1].isupper() else None
    return f"[`{name}`]({address})" if address else f"`{name}`"


def _prose(text: str, link: Link) -> str:
    """Return paragraphs, lists and examples; the latter stand indented below a ``::``."""
    parts: list[str] = []
    blocks = re.split(r"\n{2,}", text)
    while blocks:
        block = blocks.pop(0)
        if not block.endswith("::"):
            parts.append(_paragraph(block, link))
            continue
        if before := block.removesuffix("::").rstrip():
            parts.append(_paragraph(f"{before}:", link))
        example = []
        while blocks and blocks[0].startswith(" "):
            example.append(blocks.pop(0))
        parts.append(_fence(dedent("\n\n".join(example))))
    return "\n\n".join(parts)


def _paragraph(text: str, link: Link) -> str:
    if not text.startswith("- "):
        return inline(text, link)
    return "\n".join(inline(item, link) for item in re.split(r"\n(?=- )", text))


def _fence(text: str) -> str:
    """Return a drawing as text, and everything else as Python, which it must be."""
    if "──" in text:
        return f"```text\n{text}\n```"
    try:
        compile(text, "example", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError as exc:
        raise ExampleError(f"{exc.msg}, in the example\n{text}") from None
    return f"```pyi\n{text}\n```"


def inline(text: str, link: Link) -> str:
    """Return running text on one line: names in ticks become links, and nothing is mark-up by chance."""
    pieces = _CODE.split(" ".join(text.split()))
    return "".join(
        _code(piece, link) if place % 2 else _escape(piece) for place, piece in enumerate(pieces)
    )


def _code(piece: str, link: Link) -> str:
    is_literal = piece.startswith("``")
    text = piece.strip("`")
    address = None if is_literal else link(text)
    return f"[`{text.removeprefix('kagent_sdk.')}`]({address})" if address else f"`{text}`"


def _escape(text: str) -> str:
    return re.sub(r"(?<!\w)_|_(?!\w)|[*<\[]", r"\\\g<0>", text)
