"""What an agent can do, as a table, and one capability in detail."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from kagent_sdk.cli.schemas import example_words, fields, type_name
from kagent_sdk.cli.screens.style import (
    NAME,
    QUIET,
    TYPE,
    WARN,
    indented,
    plain_table,
    styled,
    title,
    word,
    words,
)
from kagent_sdk.cli.text import clean_line, format_duration

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from kagent_sdk.cli.schemas import SchemaField

Manifest = dict[str, Any]
"""A `kagent_sdk.protocol.manifest.CapabilityManifest` as JSON, not trusted."""


def capability_table(capabilities: list[Manifest]) -> Table:
    """Return all capabilities, one to a line; those of an orchestrator with who offers them."""
    agents = ("AGENTS",) if any("agents" in manifest for manifest in capabilities) else ()
    table = plain_table(
        "CAPABILITY",
        *agents,
        "TAKES",
        "GIVES",
        "DESCRIPTION",
        fold=("TAKES", "DESCRIPTION", *agents),
    )
    for manifest in capabilities:
        table.add_row(
            word(manifest.get("name"), NAME),
            *(word(", ".join(agents_of(manifest))) for _ in agents),
            _takes(schema_of(manifest, "input_schema")),
            _gives(manifest),
            word(_summary(manifest), QUIET),
        )
    return table


def capability_detail(manifest: Manifest) -> Group:
    """Return one capability: what it does, takes and gives, and how to call it."""
    parts: list[RenderableType] = [_head(manifest)]
    description = manifest.get("description")
    if description:
        parts += [indented(words(description))]
    parts += [Text(), title("input"), indented(field_list(schema_of(manifest, "input_schema")))]
    head = "items" if manifest.get("streams") else "output"
    parts += [Text(), title(head), indented(_result_list(manifest))]
    parts += [Text(), title("example"), indented(Text(example_line(manifest)))]
    return Group(*parts)


def expected_input(manifest: Manifest) -> Group:
    """Return what a capability takes, with an example, for someone whose input did not fit."""
    schema = schema_of(manifest, "input_schema")
    return Group(
        title("expected"),
        indented(field_list(schema)),
        title("example"),
        indented(Text(example_line(manifest))),
    )


def field_list(schema: dict[str, Any], *, is_input: bool = True) -> RenderableType:
    """Return the fields of a schema: name, type, description; of an input also what is required."""
    rows = fields(schema)
    if not rows:
        return styled("nothing", QUIET)
    table = plain_table(fold=())
    table.show_header = False
    for fold in (False, True, False, True):
        table.add_column(no_wrap=not fold, overflow="fold")
    for field in rows:
        kind = styled(field.type, TYPE)
        if not field.name:
            # The whole input or output is this one thing.
            table.add_row(kind, Text(field.description))
            continue
        name = styled("  " * field.depth + field.name, NAME if field.is_required else "")
        table.add_row(name, kind, _need(field) if is_input else Text(), Text(field.description))
    return table


def _need(field: SchemaField) -> Text:
    if field.default:
        return styled(f"= {field.default}", QUIET)
    return styled("required", WARN) if field.is_required else Text()


def example_line(manifest: Manifest) -> str:
    """Return a command line that calls the capability."""
    name = shlex.quote(clean_line(manifest.get("name", "")))
    line = f"kos-agent call {name} {example_words(schema_of(manifest, 'input_schema'))}".rstrip()
    return f"{line} --stream" if manifest.get("streams") else line


def agents_of(manifest: Manifest) -> list[str]:
    """Return the names of the agents that offer it; empty when an agent itself tells of it."""
    names = manifest.get("agents")
    return [one for one in names if isinstance(one, str)] if isinstance(names, list) else []


def schema_of(manifest: Manifest, key: str) -> dict[str, Any]:
    """Return one of a manifest's schemas; an empty one when it has none."""
    schema = manifest.get(key)
    return schema if isinstance(schema, dict) else {}


def _result_schema(manifest: Manifest) -> dict[str, Any]:
    streamed = schema_of(manifest, "event_schema") if manifest.get("streams") else {}
    return streamed or schema_of(manifest, "output_schema")


def _result_list(manifest: Manifest) -> RenderableType:
    return field_list(_result_schema(manifest), is_input=False)


def _takes(schema: dict[str, Any]) -> Text:
    text = Text()
    for field in fields(schema):
        if field.depth:
            continue
        if text:
            text.append(" ")
        name = field.name or field.type
        text.append(name if field.is_required else f"[{name}]", "" if field.is_required else QUIET)
    return text


def _gives(manifest: Manifest) -> Text:
    schema = _result_schema(manifest)
    name = type_name(schema, schema)
    return styled(f"stream of {name}" if manifest.get("streams") else name, TYPE)


def _summary(manifest: Manifest) -> str:
    return clean_line(str(manifest.get("description") or "").strip().partition("\n")[0])


def _head(manifest: Manifest) -> Text:
    text = word(manifest.get("name"), NAME)
    notes = [name for name in ("streams", "idempotent") if manifest.get(name)]
    if isinstance(manifest.get("timeout_s"), int | float):
        notes.append(f"timeout {format_duration(manifest['timeout_s'])}")
    if isinstance(manifest.get("max_concurrency"), int):
        notes.append(f"at most {manifest['max_concurrency']} at a time")
    if manifest.get("on_disconnect") == "detach":
        notes.append("goes on when the caller leaves")
    tags = manifest.get("tags")
    notes += [clean_line(tag) for tag in tags] if isinstance(tags, list) else []
    if agents := agents_of(manifest):
        notes.append(clean_line(f"of {', '.join(agents)}"))
    return text.append(f"  {' · '.join(notes)}" if notes else "", QUIET)
