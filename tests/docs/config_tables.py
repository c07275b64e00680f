"""The keys of config.yaml, with their types, defaults and meanings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kagent_sdk.config.models import AgentConfig
from tests.docs.tables import make_table

_BINARY_UNITS = ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))


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
