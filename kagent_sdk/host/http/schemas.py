"""The schemas of ``/openapi.json``: those of our documents, and those of the capabilities."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from pydantic.json_schema import models_json_schema

from kagent_sdk.host.http import documents
from kagent_sdk.protocol.status import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from kagent_sdk.protocol.manifest import CapabilityManifest

ROOT = "#/components/schemas/"

_ANSWERS: tuple[type[BaseModel], ...] = (
    documents.CapabilityListDocument,
    documents.EventDocument,
    documents.ProbeDocument,
    documents.ProblemDocument,
    documents.ShutdownDocument,
    documents.SnapshotDocument,
    documents.TaskDocument,
    documents.TaskListDocument,
    Status,
)
_REQUESTS: tuple[type[BaseModel], ...] = (documents.SnapshotRequest, documents.TaskRequest)

# Keywords whose value is data, in which "$ref" would mean nothing.
_DATA_KEYWORDS = frozenset({"const", "default", "enum", "example", "examples"})
# Keywords whose value holds schemas by names of the author's choice.
_NAMED_KEYWORDS = frozenset(
    {"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"}
)
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]")


def ref(name: str) -> dict[str, Any]:
    """Return a reference to the component of this name."""
    return {"$ref": f"{ROOT}{name}"}


def document_schemas() -> dict[str, Any]:
    """Return the schemas of every document of the API, by their models' names."""
    models: list[tuple[type[BaseModel], Literal["serialization", "validation"]]] = [
        *((model, "serialization") for model in _ANSWERS),
        *((model, "validation") for model in _REQUESTS),
    ]
    _, schemas = models_json_schema(models, ref_template=f"{ROOT}{{model}}")
    definitions: dict[str, Any] = schemas["$defs"]
    return definitions


def capability_schemas(capability: CapabilityManifest) -> dict[str, Any]:
    """Return the schemas of one capability, as components: ``NAME.input`` and the like.

    What they define under ``$defs`` becomes components of its own, such as ``NAME.input.Document``:
    two capabilities may well have different models of the same name.
    """
    schemas = hoist(f"{capability.name}.input", capability.input_schema)
    schemas |= hoist(f"{capability.name}.output", capability.output_schema)
    if capability.event_schema is not None:
        schemas |= hoist(f"{capability.name}.event", capability.event_schema)
    return schemas


def hoist(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a schema that stands alone into components, of which the first is called ``name``."""
    definitions: Mapping[str, Any] = schema.get("$defs", {})
    names = _component_names(name, definitions)
    # The dialect is the whole document's, which is the same one (OpenAPI 3.1, Schema Object).
    root = {key: value for key, value in schema.items() if key not in {"$defs", "$schema"}}
    components = {name: _redirect(root, name, names)}
    for old, new in names.items():
        components[new] = _redirect(definitions[old], name, names)
    return components


def _component_names(name: str, definitions: Mapping[str, Any]) -> dict[str, str]:
    names: dict[str, str] = {}
    for old in definitions:
        base = new = f"{name}.{_NOT_IN_A_NAME.sub('_', old)}"
        number = 1
        while new in names.values():
            number += 1
            new = f"{base}_{number}"
        names[old] = new
    return names


def _redirect(schema: Any, root: str, names: Mapping[str, str]) -> Any:
    """Copy a schema with its local references pointing to where things now are."""
    if isinstance(schema, list):
        return [_redirect(item, root, names) for item in schema]
    if not isinstance(schema, dict):
        return schema
    copy: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "$ref" and isinstance(value, str):
            copy[key] = _target(value, root, names)
        elif key == "discriminator" and isinstance(value, dict):
            copy[key] = _redirect_discriminator(value, root, names)
        elif key in _NAMED_KEYWORDS and isinstance(value, dict):
            copy[key] = {each: _redirect(member, root, names) for each, member in value.items()}
        else:
            copy[key] = value if key in _DATA_KEYWORDS else _redirect(value, root, names)
    return copy


def _redirect_discriminator(
    discriminator: dict[str, Any], root: str, names: Mapping[str, str]
) -> dict[str, Any]:
    mapping = discriminator.get("mapping")
    if not isinstance(mapping, dict):
        return discriminator
    targets = {key: _target(value, root, names) for key, value in mapping.items()}
    return {**discriminator, "mapping": targets}


def _target(reference: str, root: str, names: Mapping[str, str]) -> str:
    if not reference.startswith("#"):
        return reference
    head, slash, rest = reference.removeprefix("#/$defs/").partition("/")
    # A name in a JSON Pointer: RFC 6901, 3.
    name = head.replace("~1", "/").replace("~0", "~")
    if reference.startswith("#/$defs/") and name in names:
        return f"{ROOT}{names[name]}{slash}{rest}"
    return f"{ROOT}{root}{reference[1:]}"
