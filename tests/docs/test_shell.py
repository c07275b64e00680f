"""The pages' shell behaves as the shell of somebody who follows the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import Block, PageError
from tests.docs.shell import PageShell
from tests.docs.test_pages import run_console


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[PageShell]:
    """A shell in an empty folder."""
    folder = tmp_path / "page"
    folder.mkdir()
    with PageShell(folder) as running:
        yield running


def test_commands_share_folder_and_variables(shell: PageShell) -> None:
    """A page says `cd hello` once."""
    shell.run("mkdir hello && cd hello && word=well")

    status, output = shell.run('basename "$PWD" && echo "$word"')

    assert (status, output) == (0, "hello\nwell\n")


def test_stderr_is_part_of_the_output_and_the_status_is_kept(shell: PageShell) -> None:
    """Readers see both streams, and may look at the exit status afterwards."""
    assert shell.run("(echo oops >&2; exit 3)") == (3, "oops\n")
    assert shell.run("echo $?") == (0, "3\n")


def test_a_command_that_reads_its_input_does_not_eat_the_next_one(shell: PageShell) -> None:
    """`cat` without a file would swallow the rest of the page."""
    assert shell.run("cat") == (0, "")
    assert shell.run("echo next") == (0, "next\n")


def test_a_command_without_an_end_fails(tmp_path: Path) -> None:
    """A page that hangs must be named, not waited for."""
    with pytest.raises(PageError, match=r"no end after 0 s"), PageShell(tmp_path / ".") as shell:
        shell.run("sleep 5", deadline_s=0.2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$ echo one\ntwo\n", "the page shows:\ntwo\nthe command wrote:\none"),
        ("$ false\n", "exit status 1"),
        ("$ true\nnoise\n", "the page shows:\nnoise"),
    ],
)
def test_a_page_that_shows_something_else_fails(shell: PageShell, text: str, message: str) -> None:
    """The comparison must be able to fail, or it is none."""
    with pytest.raises(PageError) as caught:
        run_console(Block(Path("page.md"), 1, "console", None, text), shell)

    assert message in str(caught.value)
    assert "page.md:2" in str(caught.value)


def test_a_failure_that_the_page_shows_is_fine(shell: PageShell) -> None:
    """Exit codes are part of what is documented."""
    run_console(Block(Path("p"), 1, "console", None, "$ (exit 78)\n$ echo $?\n78\n"), shell)
