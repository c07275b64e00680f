"""docs/benchmarks.md is written by the scripts, section by section."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rig.budgets import Budget, Verdict
from rig.report import Report, compose, machine, read_sections, write_sections
from rig.tables import Table

if TYPE_CHECKING:
    from pathlib import Path

TABLE = Table("Medians", ("", "tasks/s"), (("ours", "20,000"), ("bare aiohttp", "9")))


def make_report(name: str, measured: float) -> Report:
    """Return a report with one table and one budget."""
    verdict = Verdict(Budget("memory", "at most", 75, "MB"), measured)
    versions = {"bare aiohttp": {"aiohttp": "3.0", "pydantic": "2.0"}}
    return Report(name, name.title(), "\nHow.\n", (TABLE,), (verdict,), versions, {"raw": [1]})


def test_a_table_is_aligned_on_a_terminal() -> None:
    """Numbers of one column stand below each other."""
    assert TABLE.plain().splitlines() == [
        "Medians",
        "              tasks/s",
        "------------  -------",
        "ours           20,000",
        "bare aiohttp        9",
    ]


def test_a_table_is_markdown_in_the_document() -> None:
    """Columns of numbers are aligned to the right there too."""
    assert TABLE.markdown().splitlines() == [
        "**Medians**",
        "",
        "|              | tasks/s |",
        "| ------------ | ------: |",
        "| ours         |  20,000 |",
        "| bare aiohttp |       9 |",
    ]


def test_a_section_says_how_where_and_with_what() -> None:
    """A number without its machine and versions cannot be judged."""
    section = make_report("memory", 74.0).markdown()

    assert section.startswith("## Memory\n\n`python benchmarks/memory.py`\n\nHow.\n")
    assert "| memory | at most 75 MB |    74 MB |  ok |" in section
    assert machine() in section
    assert section.endswith("bare aiohttp: aiohttp 3.0, pydantic 2.0.")


def test_sections_survive_the_document() -> None:
    """What is written can be read again, or the next script would erase it."""
    sections = {"dispatch": "## A\n\ntext", "memory": "## B\n\n<!-- a comment -->\n\nmore"}

    assert read_sections(compose(sections)) == sections


def test_a_script_leaves_the_sections_of_others_alone(tmp_path: Path) -> None:
    """Each script rewrites its own part of the document and nothing else."""
    document = tmp_path / "docs" / "benchmarks.md"
    write_sections([make_report("probes", 1.0), make_report("dispatch", 1.0)], document)
    write_sections([make_report("probes", 80.0)], document)

    sections = read_sections(document.read_text())
    assert list(sections) == ["dispatch", "probes"]
    assert "MISSED" not in sections["dispatch"]
    assert "MISSED" in sections["probes"]


def test_a_report_is_json() -> None:
    """With the raw measurements, for whoever wants other statistics."""
    document = make_report("memory", 80.0).as_dict()

    assert document["data"] == {"raw": [1]}
    assert document["budgets"][0]["ok"] is False
    assert not make_report("memory", 80.0).is_kept


def test_the_terminal_shows_budgets_last() -> None:
    """What decides stands where the eye ends."""
    assert make_report("memory", 80.0).plain().splitlines()[-1].endswith("MISSED")
