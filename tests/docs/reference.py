"""The parts of the documentation that are made from the code: tables, and whole references.

A page marks where such a part goes::

    <!-- generated: config -->
    ...
    <!-- end of generated -->

``python -m tests.docs.reference`` writes them anew; a test fails when one is out of date.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.docs.api import api_page
from tests.docs.cli_pages import cli_reference
from tests.docs.config_tables import config_tables
from tests.docs.fact_tables import (
    exit_table,
    failure_table,
    mesh_metric_table,
    mesh_route_table,
    metric_table,
    problem_table,
    route_table,
    status_table,
)
from tests.docs.log_events import event_tables

DOCS = Path(__file__).resolve().parents[2] / "docs"

_MARKED = re.compile(
    r"(?P<head><!-- generated: (?P<name>[a-z-]+) -->\n).*?(?P<tail><!-- end of generated -->)",
    re.DOTALL,
)


def rewrite(text: str) -> str:
    """Return a page's text with every marked part made anew."""

    def replace(match: re.Match[str]) -> str:
        return f"{match['head']}\n{TABLES[match['name']]()}\n{match['tail']}"

    return _MARKED.sub(replace, text)


TABLES: Mapping[str, Callable[[], str]] = {
    "api": api_page,
    "commands": cli_reference,
    "config": config_tables,
    "exit-codes": exit_table,
    "failures": failure_table,
    "log-events": event_tables,
    "mesh-metrics": mesh_metric_table,
    "mesh-routes": mesh_route_table,
    "metrics": metric_table,
    "problems": problem_table,
    "routes": route_table,
    "status": status_table,
}


def main() -> None:
    """Write the marked parts of all pages anew."""
    for page in sorted(DOCS.rglob("*.md")):
        page.write_text(rewrite(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
