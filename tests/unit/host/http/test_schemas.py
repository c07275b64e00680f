"""Schemas of capabilities as components: every reference still finds what it meant."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from jsonschema_rs import Draft202012Validator
from pydantic import BaseModel, Field, TypeAdapter

from kagent_sdk.host.http.schemas import ROOT, capability_schemas, document_schemas, hoist
from kagent_sdk.protocol.manifest import CapabilityManifest


class Node(BaseModel):
    """A model that refers to itself."""

    value: int
    children: list[Node] = []


class Cat(BaseModel):
    """One half of a tagged union."""

    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    """The other half."""

    kind: Literal["dog"]
    trick: str


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


def find_references(schema: Any) -> set[str]:
    """Return every reference in a schema, those of a discriminator's mapping too."""
    if isinstance(schema, list):
        return {each for item in schema for each in find_references(item)}
    if not isinstance(schema, dict):
        return set()
    found = {schema["$ref"]} if isinstance(schema.get("$ref"), str) else set()
    mapping = schema.get("discriminator", {}).get("mapping", {})
    return found.union(mapping.values(), *(find_references(each) for each in schema.values()))


def is_valid(components: dict[str, Any], name: str, value: object) -> bool:
    """Judge a value by a component, as a reader of the whole document does."""
    document = {"$ref": f"{ROOT}{name}", "components": {"schemas": components}}
    return Draft202012Validator(document).is_valid(value)


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (int, 1, "x"),
        (Node, {"value": 1, "children": [{"value": 2}]}, {"value": 1, "children": [{}]}),
        (dict[str, Node], {"a": {"value": 1}}, {"a": {"value": "x"}}),
        (Pet, {"kind": "dog", "trick": "sit"}, {"kind": "dog", "lives": 1}),
        (list[Pet], [{"kind": "cat"}], [{"kind": "cow"}]),
    ],
)
def test_a_hoisted_schema_means_what_it_meant(hint: Any, good: object, bad: object) -> None:
    """A reference that breaks makes every generated client useless."""
    components = hoist("cap.input", TypeAdapter(hint).json_schema())

    assert is_valid(components, "cap.input", good)
    assert not is_valid(components, "cap.input", bad)
    targets = {each.removeprefix(ROOT) for each in find_references(components)}
    assert targets <= set(components)
    assert "$defs" not in str(components)


def test_models_of_the_same_name_do_not_meet() -> None:
    """Two capabilities, or input and output of one, may each have their own `Document`."""

    def manifest(name: str, kind: str) -> CapabilityManifest:
        schema = {"$ref": "#/$defs/Document", "$defs": {"Document": {"type": kind}}}
        return CapabilityManifest(
            name=name, input_schema=schema, output_schema=schema, event_schema={"type": "null"}
        )

    components = capability_schemas(manifest("a", "string")) | capability_schemas(
        manifest("b", "integer")
    )

    assert set(components) == {
        *("a.input", "a.input.Document", "a.output", "a.output.Document", "a.event"),
        *("b.input", "b.input.Document", "b.output", "b.output.Document", "b.event"),
    }
    assert is_valid(components, "a.input", "text")
    assert is_valid(components, "b.input", 1)


def test_names_that_openapi_does_not_allow_are_changed_and_stay_apart() -> None:
    """A generic model is called `Page[int]`; its pointer holds escapes (RFC 6901)."""
    schema = {
        "anyOf": [{"$ref": "#/$defs/a~1b"}, {"$ref": "#/$defs/a b"}, {"$ref": "#/$defs/a~0b"}],
        "$defs": {
            "a/b": {"const": 1},
            "a b": {"const": 2, "properties": {"x": {"const": 5}}},
            "a~b": {"$ref": "#/$defs/a b/properties/x"},
        },
    }
    components = hoist("n", schema)

    assert set(components) == {"n", "n.a_b", "n.a_b_2", "n.a_b_3"}
    assert [is_valid(components, "n", value) for value in (1, 2, 5, 3)] == [True, True, True, False]


def test_only_references_are_redirected_and_not_what_looks_like_one() -> None:
    """A property may be called "$ref" or "$defs", and a default may hold anything."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "$ref": {"type": "string", "default": {"$ref": "#/$defs/None"}},
            "self": {"$ref": "#"},
            "first": {"$ref": "#/properties/self"},
            "other": {"$ref": "https://example.org/schema"},
            "missing": {"$ref": "#/$defs/None"},
            "tagged": {"discriminator": {"propertyName": "kind"}},
            "enum": {"enum": [{"$ref": "#/x"}]},
            "tuple": {"prefixItems": [{"$ref": "#"}, True]},
        },
        "additionalProperties": False,
    }
    root = hoist("n", schema)["n"]

    assert root["properties"] == {
        "$ref": {"type": "string", "default": {"$ref": "#/$defs/None"}},
        "self": {"$ref": f"{ROOT}n"},
        "first": {"$ref": f"{ROOT}n/properties/self"},
        "other": {"$ref": "https://example.org/schema"},
        "missing": {"$ref": f"{ROOT}n/$defs/None"},
        "tagged": {"discriminator": {"propertyName": "kind"}},
        "enum": {"enum": [{"$ref": "#/x"}]},
        "tuple": {"prefixItems": [{"$ref": f"{ROOT}n"}, True]},
    }
    assert "$schema" not in root


def test_the_documents_refer_only_to_each_other() -> None:
    """Every model of an answer is a component, and every part of it too."""
    schemas = document_schemas()

    assert {"TaskDocument", "TaskRequest", "ProblemDocument", "Status"} <= set(schemas)
    assert {each.removeprefix(ROOT) for each in find_references(schemas)} <= set(schemas)
