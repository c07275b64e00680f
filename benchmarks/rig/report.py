"""What a benchmark found, for a terminal, for a program, and for docs/benchmarks.md."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rig.budgets import Verdict, all_kept
from rig.environments import ROOT
from rig.tables import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DOCUMENT = ROOT / "docs" / "benchmarks.md"

PREAMBLE = """\
# Benchmarks

This page is written by the scripts in `benchmarks/`; do not edit it. Each script measures this
library side by side with its peers in one run, checks every answer, and prints each budget with
`ok` or `MISSED`. Absolute numbers belong to the machine that is named with each table; the ratios
carry over.

Repeat it with `python benchmarks/all.py` (all but *Images* and *Link*), or one part with the command in its section. Every
script needs nothing but Python 3.11 on Linux, installs each contender into a virtual environment of
its own under `.venvs/` on first use, and takes `--rounds`, `--seconds`, `--only`, `--json`,
`--report-only` (budgets do not fail the run) and `--no-docs` (this page stays as it is).
"""

FAIRNESS = """\
## How it is kept fair

- All contenders do the same work: validate `{"text": str}` with pydantic, take the first words and
  count them, answer `{"summary": str, "words": int}` as JSON. Each is written the way that its own
  documentation shows, with access logs off, on the newest release that its requirements file gives.
- *FastAPI + uvicorn* is what `pip install fastapi uvicorn` gives (asyncio and h11), which the
  budgets are held against; *uvicorn[standard]* (uvloop and httptools) is shown beside it.
  kagent_sdk and bare aiohttp run on plain asyncio with aiohttp's C parser, bedrock-agentcore on
  what its own dependencies bring.
- A server and all its processes share one core: host and worker of kagent_sdk together get no more
  than the one process of a peer. The load comes from another core, and how busy it was is shown: the
  server was the limit as long as that stays well below 100 %.
- Contenders take turns within each round, in an order that moves on from round to round. Ratios are
  taken within a round and the median of them is reported, so a machine that is slow for a while
  slows both sides.
- Where it may, a run takes precedence over other work on the machine (`/proc/PID/autogroup`), servers
  and load alike.
- Every answer is compared with the right one. A wrong or missing answer ends the run.
"""


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one script.

    Attributes:
        name: the script's name without ``.py``.
        title: its heading.
        intro: what is measured and how, for a reader of the document.
        tables: measurements.
        verdicts: budgets.
        versions: package versions by contender's title.
        data: raw measurements for programs, JSON-compatible.
    """

    name: str
    title: str
    intro: str
    tables: tuple[Table, ...]
    verdicts: tuple[Verdict, ...]
    versions: Mapping[str, Mapping[str, str]]
    data: Mapping[str, Any]

    @property
    def is_kept(self) -> bool:
        """Whether all budgets are kept."""
        return all_kept(self.verdicts)

    def budget_table(self) -> Table:
        """Return the verdicts as a table."""
        rows = tuple(tuple(verdict.cells()) for verdict in self.verdicts)
        return Table("Budgets", ("what", "budget", "measured", ""), rows)

    def plain(self) -> str:
        """Return the report for a terminal."""
        tables = [*self.tables, self.budget_table()] if self.verdicts else self.tables
        return "\n\n".join([self.title, *(table.plain() for table in tables)])

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON-compatible data."""
        return {
            "name": self.name,
            "date": today(),
            "machine": machine(),
            "versions": {title: dict(found) for title, found in self.versions.items()},
            "budgets": [verdict.as_dict() for verdict in self.verdicts],
            "data": dict(self.data),
        }

    def markdown(self) -> str:
        """Return the report as a section of the document."""
        tables = [*self.tables, self.budget_table()] if self.verdicts else self.tables
        versions = "; ".join(
            f"{title}: " + ", ".join(f"{name} {number}" for name, number in found.items())
            for title, found in self.versions.items()
        )
        parts = [
            f"## {self.title}",
            f"`python benchmarks/{self.name}.py`",
            self.intro.strip(),
            *(table.markdown() for table in tables),
            f"Measured on {today()} on {machine()}. {versions}.",
        ]
        return "\n\n".join(parts)


def today() -> str:
    """Return today's date, ISO 8601, in UTC."""
    return dt.datetime.now(dt.UTC).date().isoformat()


def machine() -> str:
    """Describe the machine in a phrase, without its name or any path of it."""
    cores = len(os.sched_getaffinity(0))
    kernel = re.match(r"[\d.]*\d", platform.release())
    linux = f"Linux {kernel.group()}" if kernel else "Linux"
    return f"{_cpu_model()}, {cores} cores, {linux}, Python {platform.python_version()}"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def write_sections(reports: Sequence[Report], path: Path = DOCUMENT) -> None:
    """Put the reports into the document and leave the sections of other scripts as they are."""
    sections = read_sections(path.read_text()) if path.exists() else {}
    sections.update({report.name: report.markdown() for report in reports})
    path.parent.mkdir(exist_ok=True)
    path.write_text(compose(sections))


def compose(sections: Mapping[str, str]) -> str:
    """Return the whole document with the sections in a fixed order."""
    order = ("dispatch", "durability", "startup", "sandbox", "memory", "probes", "logs")
    names = [name for name in order if name in sections]
    names += sorted(set(sections) - set(order))
    marked = [f"<!-- {name} -->\n\n{sections[name]}\n\n<!-- /{name} -->" for name in names]
    return "\n\n".join([PREAMBLE.strip(), *marked, FAIRNESS.strip()]) + "\n"


def read_sections(document: str) -> dict[str, str]:
    """Return the sections of a document that `compose` made, by script."""
    pattern = re.compile(r"^<!-- (\w+) -->\n\n(.*?)\n\n<!-- /\1 -->$", re.DOTALL | re.MULTILINE)
    return {match[1]: match[2] for match in pattern.finditer(document)}
