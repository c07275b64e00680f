"""Cut the fenced code blocks out of a Markdown page.

What a block means is said by its info string, ``LANGUAGE [file=NAME] [needs=THING]``:

=============== ===================================================================
``python``      run as a script of its own; with ``file=`` only written
``console``     ``$ `` begins a command of the page's shell, the rest is its output
``yaml``        a config.yaml, or with ``file=`` a mesh.yaml, validated
``json``        parsed
``pyi``         a signature, or a fragment of a program: compiled, also with ``await`` outside a function
``text``        a drawing or a listing; nothing is run
=============== ===================================================================

``file=NAME`` also writes the block to that file of the page's folder. ``needs=install`` and ``needs=engine``
mark what takes a fresh machine: a package index, or an engine for containers. Such blocks are run by
tests/images/test_tutorial.py alone, and only a page that it follows may have them. Any other language, a
fence without one and a fence that is never closed are errors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

LANGUAGES = frozenset({"console", "json", "pyi", "python", "text", "yaml"})
NEEDS = frozenset({"engine", "install"})

_FENCE = re.compile(r"^(?P<indent> {0,3})(?P<ticks>`{3,}|~{3,})(?P<info>.*)$")


class PageError(AssertionError):
    """A page is malformed, or one of its blocks does not do what the page shows."""


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced code block.

    Attributes:
        page: the file that it stands in.
        line: the line of its first fence, from 1.
        language: one of `LANGUAGES`.
        file: where to write it, or None.
        text: what stands between the fences, with a newline at the end.
        needs: one of `NEEDS`, or None where any machine will do.
    """

    page: Path
    line: int
    language: str
    file: str | None
    text: str
    needs: str | None = None

    @property
    def where(self) -> str:
        """Page and line, as editors understand them."""
        return f"{self.page}:{self.line}"


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a console block, and the output that the page shows for it."""

    line: int
    text: str
    output: tuple[str, ...]


def read_blocks(page: Path) -> list[Block]:
    """Return the blocks of a page in order.

    Raises:
        PageError: a fence is not closed, or its info string is not one of ours.
    """
    blocks: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    position = 0
    while position < len(lines):
        opening = _FENCE.match(lines[position])
        position += 1
        if opening is None:
            continue
        start = position
        closing = re.compile(rf"^ {{0,3}}{opening['ticks'][0]}{{{len(opening['ticks'])},}} *$")
        while position < len(lines) and not closing.match(lines[position]):
            position += 1
        if position == len(lines):
            raise PageError(f"{page}:{start}: this fence is never closed")
        body = [line.removeprefix(opening["indent"]) for line in lines[start:position]]
        blocks.append(_make_block(page, start, opening["info"], body))
        position += 1
    return blocks


def _make_block(page: Path, line: int, info: str, body: list[str]) -> Block:
    language, _, rest = info.strip().partition(" ")
    options = dict(option.partition("=")[::2] for option in rest.split())
    if language not in LANGUAGES:
        known = ", ".join(sorted(LANGUAGES))
        raise PageError(f"{page}:{line}: the language {language!r} is none of {known}")
    if unknown := options.keys() - {"file", "needs"}:
        raise PageError(
            f"{page}:{line}: unknown option {min(unknown)!r}; file=NAME and needs=THING are known"
        )
    needs = options.get("needs")
    if needs is not None and needs not in NEEDS:
        raise PageError(f"{page}:{line}: {needs!r} is nothing to need: {', '.join(sorted(NEEDS))}")
    text = "".join(f"{text}\n" for text in body)
    return Block(page, line, language, options.get("file"), text, needs)


def read_commands(block: Block) -> list[Command]:
    r"""Return the commands of a console block; a ``\`` at a line's end continues it.

    Raises:
        PageError: the block does not begin with a command.
    """
    commands: list[tuple[int, list[str], list[str]]] = []
    goes_on = False
    for number, line in enumerate(block.text.splitlines(), start=block.line + 1):
        if goes_on:
            commands[-1][1].append(line)
        elif line.startswith("$ "):
            commands.append((number, [line[2:]], []))
        elif commands:
            commands[-1][2].append(line)
        else:
            raise PageError(f"{block.page}:{number}: a console block begins with '$ '")
        goes_on = commands[-1][1][-1].endswith("\\") and not commands[-1][2]
    return [Command(number, "\n".join(text), tuple(shown)) for number, text, shown in commands]


def matches(shown: tuple[str, ...], actual: str) -> bool:
    """Tell whether an output is the one that a page shows.

    A line ``...`` stands for any lines, also none; ``...`` inside a line for any text. Blanks at
    the ends of lines, and empty lines at the end of the output, do not count.
    """
    pattern = "".join(
        r"(?:.*\n)*" if line.strip() == "..." else _line_pattern(line) for line in shown
    )
    text = "".join(f"{line.rstrip()}\n" for line in actual.rstrip().splitlines())
    return re.fullmatch(pattern, text) is not None


def _line_pattern(line: str) -> str:
    return ".*".join(re.escape(part) for part in line.rstrip().split("...")) + r"\n"
