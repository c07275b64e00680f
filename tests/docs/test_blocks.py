"""The pages' own reader is strict: a block that it overlooks is a block that nobody runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import Block, Command, PageError, matches, read_blocks, read_commands


def write_page(folder: Path, text: str) -> Path:
    """Write a page and return where it lies."""
    page = folder / "page.md"
    page.write_text(text)
    return page


def test_blocks_come_in_order_with_their_file_and_line(tmp_path: Path) -> None:
    """A failure must name the line of the page, and files must be there before commands run."""
    page = write_page(
        tmp_path,
        "# Title\n\n```python file=entrypoint.py\nx = 1\n```\n\n  ~~~~json\n  {}\n  ```\n  ~~~~\n",
    )

    assert read_blocks(page) == [
        Block(page, 3, "python", "entrypoint.py", "x = 1\n"),
        Block(page, 7, "json", None, "{}\n```\n"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```python\nx = 1\n", ":1: this fence is never closed"),
        ("\n```ruby\n```\n", ":2: the language 'ruby' is none of"),
        ("```\nls\n```\n", "the language '' is none of"),
        ("```python skip=yes\n```\n", "unknown option 'skip'"),
        ("```console needs=luck\n```\n", "'luck' is nothing to need"),
    ],
)
def test_a_malformed_block_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    """There is no way to write a block that is not run by accident."""
    with pytest.raises(PageError) as caught:
        read_blocks(write_page(tmp_path, text))

    assert message in str(caught.value)


def test_what_a_block_needs_is_read(tmp_path: Path) -> None:
    """A block that needs an engine must not be taken for one that runs everywhere."""
    (block,) = read_blocks(write_page(tmp_path, "```console needs=engine\n$ true\n```\n"))

    assert block.needs == "engine"


def test_commands_are_read_with_their_output() -> None:
    """Readers copy the line after the dollar sign and compare what comes next."""
    text = "$ echo one \\\n    two\none two\n$ true\n$ cat x\na\\\n\nb\n"

    commands = read_commands(Block(Path("p"), 10, "console", None, text))

    assert commands == [
        Command(11, "echo one \\\n    two", ("one two",)),
        Command(14, "true", ()),
        Command(15, "cat x", ("a\\", "", "b")),
    ]


def test_a_console_block_without_a_command_is_an_error() -> None:
    """Output that belongs to no command would never be compared with anything."""
    with pytest.raises(PageError, match="p:4: a console block begins with"):
        read_commands(Block(Path("p"), 3, "console", None, "hello\n"))


@pytest.mark.parametrize(
    ("shown", "actual", "expected"),
    [
        (("a",), "a\n", True),
        (("a",), "a  \n\n", True),
        (("a",), "b\n", False),
        (("a",), "a\nb\n", False),
        (("a", "..."), "a\nb\nc\n", True),
        (("a", "..."), "a\n", True),
        (("a", "...", "c"), "a\nb\nb\nc\n", True),
        (("id: ... ok",), "id: 12 ok\n", True),
        (("id: ... ok",), "id: 12\nok\n", False),
        (("a.c",), "abc\n", False),
        ((), "", True),
        ((), "noise\n", False),
    ],
)
def test_output_is_compared_line_by_line_with_wildcards(
    shown: tuple[str, ...], actual: str, expected: bool
) -> None:
    """Only what really varies may differ from what the page shows."""
    assert matches(shown, actual) is expected
