"""The table of all events that the host, the link and the orchestrator write to their logs.

They are found in the source: calls of ``log`` and ``log_exception``, records that are written as they
are, and functions that hand an event on, which are followed to where they are called.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from kagent_sdk.host.health import SILENT
from kagent_sdk.orchestrator.fleet.decisions import State
from kagent_sdk.orchestrator.fleet.news import News
from tests.docs.log_calls import LEVELS, ROOT, UNKNOWN, LogCall, LogModule, Scope, called_name
from tests.docs.log_meanings import FIELDS, MEANINGS
from tests.docs.tables import code, make_table

PARTS = {
    "The host": ("host", "sandbox", "journal", "storage", "state", "snapshots", "debug"),
    "The link": ("link",),
    "The orchestrator": ("orchestrator",),
}
"""The folders of each part, by its heading."""

COMPOSED = {
    "replica_{state.value}": tuple(f"replica_{state.value}" for state in State),
    "worker_{verdict}": tuple(f"worker_{verdict.value}" for verdict in SILENT),
    "{operation.kind}_done": ("update_done", "restart_done", "scale_done"),
    "{operation.kind}_failed": ("start_failed", "update_failed", "restart_failed", "scale_failed"),
}
"""The events that f-strings make: the only way to write one that is no literal."""

CARRIERS = frozenset(
    {
        "host.json_output:log",
        "host.logs.json_lines:_expected",
        "host.logs.pump:log",
        "link.http.session:complain",
        "orchestrator.service:note",
    }
)
"""Functions that write an event which somebody else has named, and which is found there."""

COMMON_FIELDS = frozenset({"timestamp", "level", "event"})


MESSAGES = {"print_exception": 0, "write_message": 1}
"""What writes a message of the worker's, and which argument that is."""

NEWS = "news"
"""Stands for the level of what the fleet tells, which follows from the event."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a function is called that writes a record.

    Attributes:
        levels: of its records, where that is always the same.
        event_at: which argument is the event.
        fields: what every record of it has.
        values_at: which argument is a mapping of further fields, if any.
        level_at: which argument is the level, if any.
    """

    levels: tuple[str, ...]
    event_at: int
    fields: tuple[str, ...] = ()
    values_at: int | None = None
    level_at: int | None = None


FORMS = {
    "log": Form((), 1, level_at=0),
    "_log": Form((), 1, level_at=0),
    "log_exception": Form(("error",), 0, ("error", "exception")),
    "News": Form((NEWS,), 0, ("of", "replica"), values_at=3),
    "Grievance": Form(("warning",), 1, ("reason",)),
}
"""By the name of what is called."""

_SIGNS = (*(f"{name}(" for name in FORMS), '"event"')
"""Without any of these, the text of a module need not be parsed: it writes nothing."""


@cache
def find_log_calls() -> tuple[LogCall, ...]:
    """Return every place that writes a record, those of handed on events at their callers."""
    folders = [folder for each in PARTS.values() for folder in each]
    found: list[LogCall] = []
    for folder in folders:
        modules = [LogModule(path) for path in sorted((ROOT / folder).rglob("*.py"))]
        wrappers = dict(_wrappers(each for each in modules if each.has_any(_SIGNS)))
        signs = (*_SIGNS, *(f"{name}(" for _, name in wrappers))
        for module in modules:
            if module.has_any(signs):
                found += _calls_of(module, wrappers)
    return tuple(found)


def event_tables() -> str:
    """Return a table for each part: what it writes, how severe that is, with which fields."""
    parts: list[str] = []
    for title, folders in PARTS.items():
        found = [call for call in find_log_calls() if call.module.partition(".")[0] in folders]
        parts += [
            f"## {title}\n",
            make_table(("event", "level", "fields", "meaning", "from"), _rows(found)),
        ]
    parts += ["## The worker\n", message_table(), "## Fields\n", _field_table()]
    return "\n".join(parts)


def _field_table() -> str:
    """Return every field, with what it holds."""
    known = {key for call in find_log_calls() if call.where not in CARRIERS for key in call.fields}
    rows = [(code(key), FIELDS.get(key, "")) for key in sorted(known - {UNKNOWN})]
    return make_table(("field", "what it holds"), rows)


def _rows(calls: Iterable[LogCall]) -> list[tuple[str, ...]]:
    """Return a row for each event, whatever the number of places that write it."""
    known = [call for call in calls if call.where not in CARRIERS]
    rows: list[tuple[str, ...]] = []
    for event in sorted({event for call in known for event in call.events}):
        its = [call for call in known if event in call.events]
        levels = {level for call in its for level in _levels(call, event)}
        fields = dict.fromkeys(each for call in its for each in call.fields)
        # What is not told by name comes last.
        named = [code(each) for each in fields if each != UNKNOWN] + ["…"] * (UNKNOWN in fields)
        modules = dict.fromkeys(code(call.module) for call in its)
        shown = (each for each in LEVELS if each in levels)
        meaning = MEANINGS.get(event, "")
        rows.append((code(event), ", ".join(shown), ", ".join(named), meaning, ", ".join(modules)))
    return rows


def _levels(call: LogCall, event: str) -> tuple[str, ...]:
    if call.levels != (NEWS,):
        return call.levels
    return ("warning",) if News(event, "", None, {}).is_bad else ("info",)


def message_table() -> str:
    """Return what the worker says in words, with … for what varies."""
    rows: dict[str, tuple[str, str]] = {}
    for path in sorted((ROOT / "worker").rglob("*.py")):
        module = LogModule(path)
        for scope, node in module.calls if module.has_any(MESSAGES) else ():
            name = called_name(node) if isinstance(node, ast.Call) else ""
            if name in MESSAGES and isinstance(node, ast.Call) and scope.name not in MESSAGES:
                levels = ("error",) if name == "print_exception" else scope.strings(node.args[0])
                for text in scope.texts(node.args[MESSAGES[name]]):
                    rows[text.removesuffix(":")] = (", ".join(levels), module.name)
    return make_table(
        ("message", "level", "from"),
        [(code(text), level, code(module)) for text, (level, module) in sorted(rows.items())],
    )


def _calls_of(module: LogModule, wrappers: dict[tuple[str, str], Form]) -> Iterator[LogCall]:
    for scope, node in module.calls:
        if isinstance(node, ast.Dict):
            yield from _record_of(module, scope, node)
        elif isinstance(node, ast.Call):
            form = _form_of(module, node, wrappers)
            # A wrapper's own call says nothing: its callers do.
            if form is not None and not _hands_on(scope, node, form):
                yield _call(module, scope, node, form)


def _form_of(
    module: LogModule, call: ast.Call, wrappers: dict[tuple[str, str], Form]
) -> Form | None:
    name = called_name(call)
    form = wrappers.get((module.name, name)) or wrappers.get(
        (module.name.rpartition(".")[0], name.lstrip("_"))
    )
    form = form or FORMS.get(name)
    return form if form is not None and len(call.args) > form.event_at else None


def _hands_on(scope: Scope, call: ast.Call, form: Form) -> bool:
    event = call.args[form.event_at]
    return isinstance(event, ast.Name) and event.id in scope.parameters


def _wrappers(modules: Iterable[LogModule]) -> Iterator[tuple[tuple[str, str], Form]]:
    """Yield functions that write the event which is their parameter, by module and by folder."""
    for module in modules:
        for scope, node in module.calls:
            if not isinstance(node, ast.Call):
                continue
            form = FORMS.get(called_name(node))
            if form is None or len(node.args) <= form.event_at or scope.name in FORMS:
                continue
            event = node.args[form.event_at]
            if not isinstance(event, ast.Name) or event.id not in scope.parameters:
                continue
            place = scope.parameters.index(event.id)
            fields = (*form.fields, *_keywords(scope, node))
            levels, level_at = form.levels, None
            if form.level_at is not None:
                level = node.args[form.level_at]
                if isinstance(level, ast.Name) and level.id in scope.parameters:
                    level_at = scope.parameters.index(level.id)
                else:
                    levels = scope.strings(level)
            known = tuple(each for each in fields if each != UNKNOWN)
            wrapper = Form(levels, place, known, level_at=level_at)
            yield (module.name, scope.name), wrapper
            if scope.outer is not None and scope.outer.node is not None:
                # A function inside another one is given away: to somebody of the same folder.
                yield (module.name.rpartition(".")[0], scope.name), wrapper


def _call(module: LogModule, scope: Scope, call: ast.Call, form: Form) -> LogCall:
    events = _event_names(scope, call.args[form.event_at])
    levels = form.levels
    if form.level_at is not None:
        levels = scope.strings(call.args[form.level_at])
    fields = [*_keywords(scope, call), *form.fields]
    if form.values_at is not None and len(call.args) > form.values_at:
        fields += scope.keys(call.args[form.values_at])
    return LogCall(module.name, call.lineno, levels, events, tuple(fields), scope.name)


def _keywords(scope: Scope, call: ast.Call) -> tuple[str, ...]:
    return tuple(
        key
        for each in call.keywords
        for key in ((each.arg,) if each.arg else scope.keys(each.value))
    )


def _record_of(module: LogModule, scope: Scope, node: ast.Dict) -> Iterator[LogCall]:
    """Yield a record that is written as a dict: it has an event and a level."""
    members = {
        key.value: value
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }
    if members.keys() >= COMMON_FIELDS:
        fields = tuple(key for key in members if key not in COMMON_FIELDS)
        events, levels = scope.strings(members["event"]), scope.strings(members["level"])
        yield LogCall(module.name, node.lineno, levels, events, fields, scope.name)


def _event_names(scope: Scope, node: ast.expr) -> tuple[str, ...]:
    if not isinstance(node, ast.JoinedStr):
        return scope.strings(node)
    template = "".join(
        f"{{{ast.unparse(each.value)}}}" if isinstance(each, ast.FormattedValue) else _text(each)
        for each in node.values
    )
    return COMPOSED.get(template, (UNKNOWN,))


def _text(piece: ast.expr) -> str:
    return str(piece.value) if isinstance(piece, ast.Constant) else ""
