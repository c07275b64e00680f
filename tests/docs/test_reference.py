"""The pages' tables of facts are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kagent_sdk import errors
from kagent_sdk.host.health import Reason
from tests.docs.api import anchor_of
from tests.docs.reference import DOCS, TABLES, rewrite
from tests.docs.tables import make_table

PAGES = sorted(DOCS.rglob("*.md"))


def read(name: str) -> str:
    """Return the text of a page of ``docs/``."""
    return (DOCS / name).read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_generated_tables_are_up_to_date(page: Path) -> None:
    """`python -m tests.docs.reference` was run after the last change of the code."""
    text = page.read_text()

    assert rewrite(text) == text


def test_every_table_is_on_a_page_and_every_mark_names_one() -> None:
    """A mark with a wrong name would quietly stay empty."""
    marks = [
        mark for page in PAGES for mark in re.findall(r"<!-- generated: (.*) -->", read(page.name))
    ]

    assert sorted(marks) == sorted(TABLES)


def test_a_bar_in_a_cell_does_not_break_the_table() -> None:
    """Types of keys are unions."""
    assert make_table(("a",), [("x | y",)]) == "| a |\n| --- |\n| x \\| y |\n"


def test_every_reason_of_a_failing_readiness_probe_is_listed() -> None:
    """An operator looks the word up that the probe says."""
    text = read("operations.md")

    assert [reason for reason in Reason if f"`{reason}`" not in text] == []


def test_a_bar_in_code_is_shown_by_every_renderer() -> None:
    """GitHub wants it escaped inside code, and Python-Markdown shows the backslash."""
    assert make_table(("a",), [("`x|y` <z>",)]).endswith("| <code>x&#124;y</code> <z> |\n")


@pytest.mark.parametrize("name", ["api.md", "cli-reference.md", "log-events.md", "status.md"])
def test_every_heading_of_a_reference_has_an_address_of_its_own(name: str) -> None:
    """Two equal headings get different addresses from each renderer: a link would miss."""
    titles = re.findall(r"^#{1,6} (.+)$", read(name), re.MULTILINE)
    addresses = [anchor_of(title) for title in titles]

    assert [each for each in addresses if addresses.count(each) > 1] == []


def test_a_page_of_the_code_holds_no_address_in_memory_and_no_path_of_this_machine() -> None:
    """It would change from one machine to the next, and tell of it."""
    for name in ("api.md", "cli-reference.md", "log-events.md", "status.md", "http.md"):
        assert not re.search(rf"0x[0-9a-f]{{6,}}|{re.escape(str(DOCS.parent))}", read(name))


@pytest.mark.parametrize("room", ["host", "worker"])
def test_the_map_of_a_room_names_every_module_once_and_nothing_else(room: str) -> None:
    """Whoever looks for the place to change begins with the map."""
    section = read("architecture.md").partition(f"### Inside the {room}\n")[2].partition("\n#")[0]
    named = [
        name
        for row in re.findall(r"^\| [^|]* \|([^|]*)\|", section, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    ]
    folder = DOCS.parent / "kagent_sdk" / room
    modules = {path.stem for path in folder.iterdir() if (path / "__init__.py").exists()}
    modules |= {path.stem for path in folder.glob("*.py")} - {"__init__"}

    assert sorted(named) == sorted(modules)


def test_every_exit_code_is_listed() -> None:
    """A supervisor decides by it whether to restart."""
    known = {getattr(value, "exit_code", None) for value in vars(errors).values()} - {None}
    listed = {
        int(code) for code in re.findall(r"^\| (\d+) \|", read("operations.md"), re.MULTILINE)
    }

    assert listed == known | {0, 2, 70}
