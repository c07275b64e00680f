"""The tables of the documentation that are made from the code.

A page marks where a table goes::

    <!-- generated: config -->
    ...
    <!-- end of generated -->

``python -m tests.docs.reference`` writes them anew; a test fails when one is out of date.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kagent_sdk.config.models import AgentConfig
from kagent_sdk.host import metrics
from kagent_sdk.host.counters import Counters
from kagent_sdk.protocol import problems
from kagent_sdk.protocol.problem import ProblemCode
from kagent_sdk.protocol.status import AgentInfo, HealthInfo, LifecycleInfo, Status
from kagent_sdk.protocol.tasks import ErrorCode

DOCS = Path(__file__).resolve().parents[2] / "docs"

_MARKED = re.compile(
    r"(?P<head><!-- generated: (?P<name>[a-z-]+) -->\n).*?(?P<tail><!-- end of generated -->)",
    re.DOTALL,
)

_BINARY_UNITS = ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))


def rewrite(text: str) -> str:
    """Return a page's text with every marked table made anew."""

    def replace(match: re.Match[str]) -> str:
        return f"{match['head']}\n{TABLES[match['name']]()}\n{match['tail']}"

    return _MARKED.sub(replace, text)


def config_tables() -> str:
    """Return a table for the top of config.yaml and one for each of its sections."""
    schema = AgentConfig.model_json_schema()
    definitions = schema["$defs"]
    top: dict[str, Any] = {}
    parts: list[str] = []
    for name, node in schema["properties"].items():
        section = _section_of(node, definitions)
        if section is None:
            top[name] = node
        else:
            parts += _describe_section(name, section, definitions)
    return "\n".join(["## Top level\n", _key_table("", top), *parts])


def _describe_section(
    name: str, schema: Mapping[str, Any], definitions: Mapping[str, Any]
) -> list[str]:
    own: dict[str, Any] = {}
    inner: list[str] = []
    required = set(schema.get("required", ()))
    for key, node in schema["properties"].items():
        section = _section_of(node, definitions)
        if section is None:
            own[key] = {**node, "required": key in required}
        else:
            inner += _describe_section(f"{name}.{key}", section, definitions)
    return [f"## `{name}`\n", f"{schema['description']}\n", _key_table(f"{name}.", own), *inner]


def _section_of(
    node: Mapping[str, Any], definitions: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    for option in [node, *node.get("anyOf", ())]:
        if "$ref" in option:
            section: Mapping[str, Any] = definitions[option["$ref"].rpartition("/")[2]]
            return section
    return None


def _key_table(prefix: str, nodes: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        (
            f"`{prefix}{key}`",
            _describe_type(node),
            "required" if node.get("required") else _show_default(key, node.get("default")),
            node.get("description", ""),
        )
        for key, node in nodes.items()
    ]
    return make_table(("key", "type", "default", "meaning"), rows)


def _describe_type(node: Mapping[str, Any]) -> str:
    options = node.get("anyOf", [node])
    return " or ".join(_describe_option(option) for option in options)


def _describe_option(node: Mapping[str, Any]) -> str:
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    if node.get("type") == "array":
        items = node["items"]
        if "$ref" in items:
            return "list of mappings"
        each = _describe_option(items)
        return f"list, each {each}" if "," in each else f"list of {each}s"
    bounds = [
        f"{sign} {_shorten(node[name])}"
        for name, sign in (
            ("minimum", "≥"),
            ("exclusiveMinimum", ">"),
            ("maximum", "≤"),
            ("exclusiveMaximum", "<"),
        )
        if name in node
    ]
    return " ".join([str(node.get("type", "any")), ", ".join(bounds)]).strip()


def _show_default(key: str, value: object) -> str:
    if isinstance(value, int) and key.endswith("_bytes"):
        for size, unit in _BINARY_UNITS:
            if value and value % size == 0:
                return f"`{value}` ({value // size} {unit})"
    return f"`{json.dumps(_shorten(value))}`"


def _shorten(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def problem_table() -> str:
    """Return the codes of problem documents that are not a task's error."""
    rows = [(f"`{code.value}`", *map(str, problems._CASES[code])) for code in ProblemCode]
    return make_table(("code", "status", "title"), sorted(rows, key=lambda row: row[1]))


def failure_table() -> str:
    """Return the codes of task errors that the library gives."""
    rows = [(f"`{code.value}`", *map(str, problems._FAILURES[code])) for code in ErrorCode]
    return make_table(("code", "status", "title"), sorted(rows, key=lambda row: row[1]))


def metric_table() -> str:
    """Return every metric of ``/metrics``: its name, kind, labels and meaning."""
    inputs = {"status": _EMPTY_STATUS, "counters": Counters()}
    rows = []
    for name, collect in inspect.getmembers(metrics, inspect.isfunction):
        if name.startswith("_collect_"):
            wanted = inspect.signature(collect).parameters
            for family in collect(**{key: inputs[key] for key in wanted}):
                suffix = "_total" if family.type == "counter" else ""
                labels = ", ".join(f"`{label}`" for label in family._labelnames)
                full_name = f"`{family.name}{suffix}`"
                rows.append((full_name, family.type, labels, family.documentation))
    return make_table(("metric", "kind", "labels", "meaning"), sorted(rows))


_NOW = datetime(2000, 1, 1, tzinfo=UTC)
_EMPTY_STATUS = Status(
    agent=AgentInfo(
        name="", version="", sdk_version="", python_version="", started_at=_NOW, uptime_s=0
    ),
    lifecycle=LifecycleInfo(state="ready", since=_NOW),
    health=HealthInfo(live=True, ready=True),
)


def make_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; a bar inside a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in escaped)


TABLES: Mapping[str, Callable[[], str]] = {
    "config": config_tables,
    "problems": problem_table,
    "failures": failure_table,
    "metrics": metric_table,
}


def main() -> None:
    """Write the tables of all pages anew."""
    for page in sorted(DOCS.rglob("*.md")):
        page.write_text(rewrite(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
