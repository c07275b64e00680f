"""Tables of what others program against: codes, metrics, routes and the members of ``/status``."""

from __future__ import annotations

import ast
import inspect
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from kagent_sdk import errors
from kagent_sdk.cli import boundary
from kagent_sdk.cli.commands import sandbox_exec
from kagent_sdk.host import main, metrics
from kagent_sdk.host.counters import Counters
from kagent_sdk.host.http.openapi import openapi_document
from kagent_sdk.orchestrator import report
from kagent_sdk.orchestrator.http import openapi as mesh_openapi
from kagent_sdk.protocol import problems
from kagent_sdk.protocol.problem import ProblemCode
from kagent_sdk.protocol.status import AgentInfo, HealthInfo, LifecycleInfo, Status
from kagent_sdk.protocol.tasks import ErrorCode
from tests.docs.docstrings import inline
from tests.docs.sources import attribute_name, parse
from tests.docs.tables import code, make_table


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
    families: list[Any] = []
    for name, collect in inspect.getmembers(metrics, inspect.isfunction):
        if name.startswith("_collect_"):
            wanted = inspect.signature(collect).parameters
            families += collect(**{key: inputs[key] for key in wanted})
    return _metric_table(families)


def mesh_metric_table() -> str:
    """Return every metric of an orchestrator."""
    hints = inspect.get_annotations(report.Figures, eval_str=True)
    empty: dict[str, Any] = {name: 0 if hint is int else Counter() for name, hint in hints.items()}
    return _metric_table(report._Page(report.Figures(**empty)).collect())


def _metric_table(families: Iterable[Any]) -> str:
    rows = []
    for family in families:
        suffix = "_total" if family.type == "counter" else ""
        labels = ", ".join(f"`{label}`" for label in family._labelnames)
        rows.append((f"`{family.name}{suffix}`", family.type, labels, family.documentation))
    rows.sort(key=lambda row: row[0].strip("`"))
    return make_table(("metric", "kind", "labels", "meaning"), rows)


def exit_table() -> str:
    """Return the exit codes of the command, with the errors that carry them."""
    rows = [
        (main.EXIT_OK, "", "Done, or stopped cleanly; of ``status`` and ``health`` also: healthy.")
    ]
    for module in (boundary, sandbox_exec):
        rows += [(number, "", text) for number, text in _exit_constants(module.__name__)]
    rows += _errors_with_codes()
    shown = [
        (str(number), inline(text, _no_link), code(name)) for number, name, text in sorted(rows)
    ]
    return make_table(("code", "meaning", "error"), shown)


def _no_link(_: str) -> None:
    return None


def _errors_with_codes() -> Iterator[tuple[int, str, str]]:
    for value in vars(errors).values():
        if inspect.isclass(value) and "exit_code" in vars(value):
            summary = (inspect.getdoc(value) or "").partition("\n\n")[0]
            yield vars(value)["exit_code"], value.__name__, summary


def _exit_constants(module: str) -> Iterator[tuple[int, str]]:
    """Yield the exit codes of a module with the strings that stand below them."""
    body = parse(module).body
    for node, below in pairwise(body):
        if not (attribute_name(node) or "").startswith("EXIT_"):
            continue
        match node, below:
            case (
                ast.Assign(value=ast.Constant(value=int(number))),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield number, text
            case _:
                pass


def route_table() -> str:
    """Return the routes of an agent, as ``/openapi.json`` describes them."""
    return _route_table(
        openapi_document(
            name="agent",
            version="1",
            description="",
            capabilities=(),
            secured=True,
            calls_back=True,
        )
    )


def mesh_route_table() -> str:
    """Return the routes of an orchestrator, as its ``/openapi.json`` describes them."""
    return _route_table(json.loads(mesh_openapi.openapi_bytes(has_tokens=True)))


def _route_table(document: Mapping[str, Any]) -> str:
    rows = []
    for path, operations in document["paths"].items():
        shared = operations.get("parameters", [])
        for method, operation in operations.items():
            if method != "parameters":
                route = f"`{method.upper()} {path}`"
                taken = _parameters([*shared, *operation.get("parameters", [])])
                answers = ", ".join(sorted(operation["responses"]))
                answers = answers.replace("default", "or a problem").replace(", or", " or")
                rows.append((route, operation["summary"], taken, answers))
    return make_table(("route", "what it does", "takes", "answers"), rows)


def _parameters(parameters: Iterable[Mapping[str, Any]]) -> str:
    shown = [
        f"`?{each['name']}=`" if each["in"] == "query" else f"`{each['name']}`"
        for each in parameters
        if each["in"] != "path"
    ]
    return ", ".join(shown)


def status_table() -> str:
    """Return every member of ``/status`` with its path, type and meaning."""
    return "\n".join(_StatusMembers(Status.model_json_schema(mode="serialization")).parts())


class _StatusMembers:
    """Walks the schema; an object that comes again is described once."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._definitions: Mapping[str, Any] = schema["$defs"]
        self._seen: dict[str, str] = {}

    def parts(self) -> Iterator[str]:
        for name, node in self._schema["properties"].items():
            yield f"## `{name}`\n"
            part = _definition(node, self._definitions)
            if part is None:
                rows = [self._row(name, node, "")]
            else:
                if text := part.get("description"):
                    yield f"{inline(text, _no_link)}\n"
                rows = list(self._members(name + _many(node), part))
            yield make_table(("member", "type", "meaning"), rows)

    def _members(self, path: str, part: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        for name, node in part["properties"].items():
            place = f"{path}.{name}"
            inner = _definition(node, self._definitions)
            if inner is None:
                yield self._row(place, node, "")
                continue
            first = self._seen.setdefault(inner["title"], place)
            text = node.get("description") or inner.get("description", "")
            if first != place:
                yield self._row(place, node, f"{text} Its members are those of ``{first}``.")
                continue
            yield self._row(place, node, text)
            yield from self._members(place + _many(node), inner)

    def _row(self, path: str, node: Mapping[str, Any], text: str) -> tuple[str, str, str]:
        shown = text or node.get("description", "")
        return (f"`{path}`", _type(node, self._definitions), inline(shown, _no_link))


def _options(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    options: list[Mapping[str, Any]] = node.get("anyOf") or node.get("allOf") or [node]
    return options


def _definition(
    node: Mapping[str, Any], definitions: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """Return the object that a member is, or the one that its items are."""
    for option in _options(node):
        each = option.get("items") or option.get("additionalProperties") or option
        if isinstance(each, Mapping) and "$ref" in each:
            found: Mapping[str, Any] = definitions[each["$ref"].rpartition("/")[2]]
            return found if found.get("type") == "object" else None
    return None


def _many(node: Mapping[str, Any]) -> str:
    """Return what stands behind the name of a list or a mapping in a path."""
    for option in _options(node):
        if option.get("type") == "array":
            return "[]"
        if isinstance(option.get("additionalProperties"), Mapping):
            return ".*"
    return ""


def _type(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    return " or ".join(dict.fromkeys(_type_of(option, definitions) for option in _options(node)))


def _type_of(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "$ref" in node:
        return _type_of(definitions[node["$ref"].rpartition("/")[2]], definitions)
    if "enum" in node or "const" in node:
        return ", ".join(f"`{value}`" for value in node.get("enum", [node.get("const")]))
    if node.get("type") == "array":
        return f"list of {_type(node.get('items', {}), definitions)}s"
    if node.get("format") == "date-time":
        return "time"
    return str(node.get("type", "any"))


_NOW = datetime(2000, 1, 1, tzinfo=UTC)
_EMPTY_STATUS = Status(
    agent=AgentInfo(
        name="", version="", sdk_version="", python_version="", started_at=_NOW, uptime_s=0
    ),
    lifecycle=LifecycleInfo(state="ready", since=_NOW),
    health=HealthInfo(live=True, ready=True),
)
