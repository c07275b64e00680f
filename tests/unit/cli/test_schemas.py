"""Tests of `kagent_sdk.cli.schemas`."""

from __future__ import annotations

import json
import shlex
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter

from kagent_sdk.cli.inputs import read_input
from kagent_sdk.cli.schemas import MAX_EXAMPLE_CHARS, MAX_FIELDS, example_words, fields, type_name


class Point(BaseModel):
    """A place."""

    x: int = Field(ge=0, description="To the right")
    label: str | None = None


class Tree(BaseModel):
    """A type that holds itself."""

    children: list[Tree] = []


class Everything(BaseModel):
    """One field of each kind."""

    name: str = Field(min_length=1, max_length=9, description="Who", examples=["Ada"])
    mode: Literal["fast", "slow"] = "fast"
    point: Point
    points: list[Point] = []
    maybe: Point | None = None
    by_name: dict[str, float] = {}
    anything: Any = None


def schema_of(kind: Any) -> dict[str, Any]:
    """Return a type's schema as the agent publishes it."""
    return TypeAdapter(kind).json_schema()


def test_fields_are_told_with_type_default_and_description() -> None:
    """This list is all that a caller needs to write an input."""
    found = {field.name: field for field in fields(schema_of(Everything)) if field.depth == 0}

    assert found["name"].type == "string, 1 to 9 characters"
    assert found["name"].is_required
    assert found["name"].description == "Who"
    assert found["mode"].type == '"fast" | "slow"'
    assert found["mode"].default == '"fast"'
    assert not found["mode"].is_required
    assert found["point"].type == "Point"
    assert found["points"].type == "list of Point"
    assert found["maybe"].type == "Point | null"
    assert found["by_name"].type == "map of number"
    assert found["anything"].type == "anything"


def test_fields_of_inner_objects_stand_below_their_own() -> None:
    """Through lists and options too."""
    found = [(field.depth, field.name) for field in fields(schema_of(Everything))]

    assert found[found.index((0, "point")) :][:3] == [(0, "point"), (1, "x"), (1, "label")]
    assert found[found.index((0, "points")) :][:2] == [(0, "points"), (1, "x")]
    assert found[found.index((0, "maybe")) :][:2] == [(0, "maybe"), (1, "x")]


def test_an_input_that_may_be_left_out_is_told_by_its_fields() -> None:
    """A capability without parameters takes an empty object, or null: nothing."""
    assert [field.name for field in fields(schema_of(Point | None))] == ["x", "label"]
    assert fields({"anyOf": [{"type": "object"}, {"type": "null"}]}) == []


def test_a_type_that_holds_itself_ends() -> None:
    """Trees are common; a listing without end is not."""
    assert [field.depth for field in fields(schema_of(Tree))] == [0]


def test_an_input_that_is_no_object_is_one_field_without_a_name() -> None:
    """A root model may be a list."""
    (field,) = fields(schema_of(Annotated[list[int], Field(description="Numbers", max_length=3)]))

    assert (field.name, field.type) == ("", "list of integer, ≤ 3 items")
    assert field.description == "Numbers"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (int, "integer"),
        (bool | None, "boolean | null"),
        (list[list[str]], "list of list of string"),
        (Annotated[float, Field(gt=0, le=1)], "number, ≤ 1, > 0"),
        (Annotated[str, Field(min_length=2, max_length=2)], "string, 2 characters"),
        (Annotated[int, Field(ge=3, multiple_of=3)], "integer, ≥ 3, a multiple of 3"),
        (Literal[7], "7"),
    ],
)
def test_types_are_told_in_words(kind: Any, name: str) -> None:
    """JSON Schema is for programs."""
    assert type_name(schema_of(kind), schema_of(kind)) == name


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        ({"type": ["string", "null"]}, "string | null"),
        ({"type": "string", "format": "date-time"}, "string (date-time)"),
        ({"enum": list(range(20))}, " | ".join(map(str, range(12))) + " | …"),
        ({"allOf": [{"type": "integer"}]}, "integer"),
        ({"type": "array"}, "list"),
        (True, "anything"),
    ],
)
def test_types_of_other_generators_are_told_too(schema: object, name: str) -> None:
    """An agent need not be written with pydantic."""
    assert type_name(schema, {}) == name


def test_the_example_is_what_the_command_line_takes_back() -> None:
    """A copied example must work, quotes included."""
    words = shlex.split(example_words(schema_of(Everything)))

    Everything.model_validate(read_input(words))
    assert words == ["name=Ada", 'point:={"x":1}']


def test_without_required_fields_the_example_shows_the_first() -> None:
    """An empty example would teach nothing."""
    assert example_words(schema_of(Tree)) == "'children:=[]'"


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string"}, "'\"text\"'"),
        ({"type": "object"}, ""),
        ({"type": "object", "properties": {"a b": {"type": "integer"}}}, "'{\"a b\":1}'"),
        ({"properties": {"to": {"type": "string"}}, "required": ["to"]}, "to=TO"),
        ({"properties": {"at": {"type": "string", "format": "date"}}}, "at=date"),
        ({"properties": {"a": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}}, "a:=1"),
        ({"type": "array", "items": {"type": "integer"}}, "'[1]'"),
    ],
)
def test_examples_fit_the_schema(schema: dict[str, Any], words: str) -> None:
    """Whatever the capability takes."""
    assert example_words(schema) == words


def test_an_example_beyond_a_line_becomes_a_file() -> None:
    """Nobody copies five hundred characters."""
    schema = {"properties": {"a": {"const": "x" * MAX_EXAMPLE_CHARS}}}

    assert example_words(schema) == "@input.json"


def wide(depth: int) -> dict[str, Any]:
    """Return a schema with a thousand fields, each of its own type."""
    return {
        "type": "object",
        "properties": {f"p{depth}_{number}": {"$ref": "#/$defs/d"} for number in range(1000)},
        "required": [f"p{depth}_{number}" for number in range(1000)],
    }


@pytest.mark.parametrize(
    "schema",
    [
        {**wide(0), "$defs": {"d": wide(1)}},
        {"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$ref": "#/$defs/a"}}},
        {"properties": {"a": {"anyOf": [{"$ref": "#"}] * 1000}}},
        {"properties": 5, "required": 3, "type": [{}], "anyOf": {}, "enum": 3},
        {"properties": {"a": 5, "b": True, "c": None, "\x1b[31m": {"description": "\x1b[31m"}}},
    ],
)
@pytest.mark.timeout(60)
def test_a_hostile_schema_costs_little_and_shows_nothing_bad(schema: dict[str, Any]) -> None:
    """The schemas come over the wire."""
    found = fields(schema)
    text = repr([(field.name, field.type, field.description) for field in found])

    assert len(found) <= MAX_FIELDS + 1
    assert "\x1b" not in "".join(f"{field.name}{field.description}" for field in found), text
    assert len(example_words(schema)) <= MAX_EXAMPLE_CHARS


KEYS = st.sampled_from(
    ["type", "properties", "items", "anyOf", "$ref", "$defs", "required", "enum", "default"]
)
SCHEMAS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["object", "array", "#/$defs/a"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.just("a"), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(st.dictionaries(KEYS, SCHEMAS, max_size=6))
def test_any_document_can_be_shown(schema: dict[str, Any]) -> None:
    """A malformed schema must not hide the capability."""
    fields(schema)
    json.dumps(example_words(schema))
