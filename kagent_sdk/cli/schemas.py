"""JSON Schemas as a person reads them: fields, and an example call. Pure.

The schemas come over the wire: whatever stands in them, the answer is bounded in depth and size.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kagent_sdk.cli.text import clean_line, safe_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Schema = dict[str, Any]

MAX_DEPTH = 4
MAX_FIELDS = 200
MAX_TYPE_CHARS = 200
MAX_CHOICES = 12
MAX_EXAMPLE_FIELDS = 50
MAX_EXAMPLE_CHARS = 500
UNSET = ""

_PLAIN_KEY = re.compile(r"[A-Za-z_][\w.-]*")
# Two bounds of one thing, and what they count.
_RANGES = (
    ("minimum", "maximum", ""),
    ("minLength", "maxLength", " characters"),
    ("minItems", "maxItems", " items"),
)
_LIMITS = {
    "exclusiveMinimum": "> {}",
    "exclusiveMaximum": "< {}",
    "multipleOf": "a multiple of {}",
    "pattern": "matches {}",
}
_PLACEHOLDERS = {"integer": 1, "number": 1.5, "boolean": True, "array": [], "null": None}


@dataclass(frozen=True, slots=True)
class SchemaField:
    """One field of an input or output.

    Attributes:
        depth: how deep it is nested; 0 for a field of the object itself.
        default: as JSON, or empty when there is none.
    """

    name: str
    type: str
    is_required: bool
    default: str
    description: str
    depth: int = 0


def fields(schema: Schema) -> list[SchemaField]:
    """Return the fields of an object's schema, those of nested objects below their own.

    A schema of something else is one field without a name.
    """
    found: list[SchemaField] = []
    for field in _walk(schema, schema, ()):
        if len(found) == MAX_FIELDS:
            found.append(
                SchemaField("…", "", is_required=False, default=UNSET, description="and more")
            )
            break
        found.append(field)
    return found


def type_name(schema: object, root: Schema) -> str:
    """Return a schema's type in words, such as ``list of string`` or ``integer | null``."""
    return clean_line(_type_name(schema, root, 0), limit_chars=MAX_TYPE_CHARS)


def example_words(schema: Schema) -> str:
    """Return an example input as words of a command line, quoted for a shell."""
    value = example(schema, schema, 0)
    if isinstance(value, dict) and all(_PLAIN_KEY.fullmatch(key) for key in value):
        words = " ".join(shlex.quote(_pair(key, item)) for key, item in value.items())
    else:
        words = shlex.quote(safe_json(value))
    return words if len(words) <= MAX_EXAMPLE_CHARS else "@input.json"


def example(schema: object, root: Schema, depth: int) -> Any:
    """Return a value that fits a schema, made of its examples, defaults and required fields."""
    node = _resolve(schema, root)
    given = _given(node)
    if given is not None:
        return given[0]
    options = _options(node)
    if options:
        return example(options[0], root, depth + 1) if depth < MAX_DEPTH else None
    kind = _kind(node)
    if kind == "object":
        return _example_object(node, root, depth)
    if kind == "array" and depth < MAX_DEPTH and isinstance(node.get("items"), dict):
        return [example(node["items"], root, depth + 1)]
    return _PLACEHOLDERS.get(kind, clean_line(node.get("format", "text")))


def _example_object(node: Schema, root: Schema, depth: int) -> dict[str, Any]:
    if depth >= MAX_DEPTH:
        return {}
    properties = _properties(node)
    required = [name for name in _required(node) if name in properties]
    names = required or list(properties)[: 1 if depth == 0 else 0]
    count = MAX_EXAMPLE_FIELDS if depth == 0 else MAX_CHOICES
    return {name: _named_example(name, properties[name], root, depth) for name in names[:count]}


def _named_example(name: str, schema: object, root: Schema, depth: int) -> Any:
    value = example(schema, root, depth + 1)
    # A word of its own says more than "text", and shows where to write what.
    return name.upper() if value == "text" else value


def _given(node: Schema) -> list[Any] | None:
    examples = node.get("examples")
    if isinstance(examples, list) and examples:
        return examples[:1]
    for key in ("example", "default", "const"):
        if node.get(key) is not None:
            return [node[key]]
    choices = node.get("enum")
    return choices[:1] if isinstance(choices, list) and choices else None


def _pair(key: str, value: object) -> str:
    if isinstance(value, str):
        return f"{key}={clean_line(value)}"
    return f"{key}:={safe_json(value)}"


def _walk(schema: object, root: Schema, above: tuple[int, ...]) -> Iterator[SchemaField]:
    """Yield the fields of an object; ``above`` are the objects that it stands in, by identity."""
    node = _resolve(schema, root)
    depth = len(above)
    if depth == 0 and _kind(_present(node, root)) == "object":
        node = _present(node, root)
    properties = _properties(node)
    if not properties and depth == 0 and _kind(node) != "object":
        description = clean_line(node.get("description", ""))
        kind = type_name(node, root)
        yield SchemaField("", kind, is_required=True, default=UNSET, description=description)
    required = set(_required(node))
    for name, child in properties.items():
        yield _field(name, child, root, depth, is_required=name in required)
        nested = _nested(child, root)
        path = (*above, id(node))
        # A type that holds itself is shown once.
        if nested is not None and len(path) < MAX_DEPTH and id(nested) not in path:
            yield from _walk(nested, root, path)


def _field(
    name: str, schema: object, root: Schema, depth: int, *, is_required: bool
) -> SchemaField:
    node = schema if isinstance(schema, dict) else {}
    words = clean_line(node.get("description") or _resolve(node, root).get("description") or "")
    return SchemaField(
        clean_line(name),
        type_name(node, root),
        is_required=is_required,
        default=clean_line(safe_json(node["default"])) if "default" in node else UNSET,
        description=words,
        depth=depth,
    )


def _nested(schema: object, root: Schema) -> Schema | None:
    """The object whose fields are shown below: the schema itself, its items, or its one option."""
    node = _present(_resolve(schema, root), root)
    for _ in range(MAX_DEPTH):
        if not isinstance(node.get("items"), dict):
            break
        node = _present(_resolve(node["items"], root), root)
    return node if _properties(node) else None


def _present(node: Schema, root: Schema) -> Schema:
    """Return what a value is when it is not null, where that is one thing."""
    for _ in range(MAX_DEPTH):
        options = [_resolve(option, root) for option in _options(node)]
        solid = [option for option in options if _kind(option) != "null"]
        if len(solid) != 1:
            break
        node = solid[0]
    return node


def _type_name(schema: object, root: Schema, depth: int) -> str:
    if depth >= MAX_DEPTH:
        return "…"
    if schema is True or schema == {}:
        return "anything"
    node = _resolve(schema, root)
    options = _options(node)
    if options:
        names = [_type_name(option, root, depth + 1) for option in options]
        return " | ".join(dict.fromkeys(names))
    return _plain_type(node, root, depth) + _limits(node)


def _plain_type(node: Schema, root: Schema, depth: int) -> str:
    if "const" in node:
        return json.dumps(node["const"])
    choices = node.get("enum")
    if isinstance(choices, list):
        shown = " | ".join(
            json.dumps(choice, ensure_ascii=False) for choice in choices[:MAX_CHOICES]
        )
        return shown if len(choices) <= MAX_CHOICES else f"{shown} | …"
    kind = _kind(node)
    if kind == "array":
        items = node.get("items")
        return f"list of {_type_name(items, root, depth + 1)}" if items is not None else "list"
    if kind == "object":
        values = node.get("additionalProperties")
        is_map = isinstance(values, dict) and not _properties(node)
        return f"map of {_type_name(values, root, depth + 1)}" if is_map else _object_name(node)
    form = node.get("format")
    return f"{kind} ({form})" if isinstance(form, str) else kind


def _object_name(node: Schema) -> str:
    title = node.get("title")
    return title if isinstance(title, str) and title else "object"


def _limits(node: Schema) -> str:
    words = [_range(node.get(low), node.get(high), unit) for low, high, unit in _RANGES]
    words += [form.format(node[key]) for key, form in _LIMITS.items() if _is_limit(node.get(key))]
    return "".join(f", {word}" for word in words if word)


def _range(low: object, high: object, unit: str) -> str:
    if not _is_limit(low):
        return f"≤ {high}{unit}" if _is_limit(high) else ""
    if low == high:
        return f"{low}{unit}"
    return f"{low} to {high}{unit}" if _is_limit(high) else f"≥ {low}{unit}"


def _is_limit(value: object) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)


def _kind(node: Schema) -> str:
    kind = node.get("type")
    if isinstance(kind, str):
        return kind
    if isinstance(kind, list):
        return " | ".join(str(one) for one in kind[:MAX_CHOICES])
    return "object" if _properties(node) else "anything"


def _options(node: Schema) -> list[object]:
    for key in ("anyOf", "oneOf"):
        options = node.get(key)
        if isinstance(options, list) and options:
            return options[:MAX_CHOICES]
    return []


def _properties(node: Mapping[str, Any]) -> dict[str, Any]:
    properties = node.get("properties")
    return properties if isinstance(properties, dict) else {}


def _required(node: Schema) -> list[str]:
    required = node.get("required")
    return (
        [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
    )


def _resolve(schema: object, root: Schema) -> Schema:
    """Follow references inside the document (``#/$defs/Name``), and a lone ``allOf``."""
    node: Any = schema
    for _ in range(MAX_DEPTH * 2):
        if not isinstance(node, dict):
            return {}
        reference, parts = node.get("$ref"), node.get("allOf")
        if isinstance(reference, str) and reference.startswith("#/$defs/"):
            definitions = root.get("$defs")
            name = reference.removeprefix("#/$defs/").replace("~1", "/").replace("~0", "~")
            node = definitions.get(name) if isinstance(definitions, dict) else None
        elif isinstance(parts, list) and len(parts) == 1:
            node = parts[0]
        else:
            return node
    return {}
