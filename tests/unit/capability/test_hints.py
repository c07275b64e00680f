"""Hints are found wherever an author may define them: with `from __future__ import annotations` too."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel

from kagent_sdk.capability import Capability, declare
from kagent_sdk.errors import DeclarationError
from tests.unit.capability.samples import make_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kagent_sdk.context import TaskContext


class AtModuleLevel(BaseModel):
    """A model that the annotations below name as text."""

    text: str


def test_globals_of_the_module_are_found() -> None:
    """The usual place of a model."""

    def read(document: AtModuleLevel) -> str:
        return document.text

    assert declare(read).input_schema["title"] == "AtModuleLevel"


def test_a_class_next_to_a_nested_function_is_found() -> None:
    """Tests and factories define models and functions in a function."""

    class Local(BaseModel):
        text: str

    def read(document: Local, more: list[Local]) -> dict[str, Local]:
        return {str(len(more)): document}

    schema = declare(read).input_schema

    assert schema["properties"]["document"] == {"$ref": "#/$defs/Local"}


def make_reader() -> Callable[..., str]:
    """Return a function whose maker has returned; the closure keeps the class."""

    class Closed(BaseModel):
        text: str

    def read(document: Closed) -> str:
        return Closed.model_validate(document).text

    return read


def test_a_class_in_the_closure_is_found() -> None:
    """A function that a factory made can be declared later."""
    assert declare(make_reader()).input_schema["title"] == "Closed"


def test_a_closure_whose_variable_is_not_yet_assigned_is_no_trouble() -> None:
    """A function may refer to what its maker defines below it."""

    def read(text: str) -> str:
        return later + text

    capability = declare(read)
    later = "a"

    assert capability.call(capability.validate(b'{"text": "b"}'), make_context()) == "ab"


def test_the_innermost_class_of_a_name_wins() -> None:
    """Scopes nest as Python's do."""

    class Model(BaseModel):
        outer: int

    def enclose() -> Capability:
        class Model(BaseModel):
            inner: int

        def read(model: Model) -> int:
            return model.inner

        return declare(read)

    assert list(enclose().input_schema["properties"]) == ["inner"]
    assert list(Model.model_fields) == ["outer"]


async def test_imports_for_the_type_checker_only_are_understood() -> None:
    """Linters move the imports of TaskContext and AsyncIterator there."""

    async def tail(path: str, ctx: TaskContext) -> AsyncIterator[str]:
        yield f"{path} {ctx.task_id}"

    capability = declare(tail)

    assert capability.context_parameter == "ctx"
    assert capability.event_schema == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "string",
    }


def make_unreachable() -> Callable[..., Any]:
    """Return a function whose hint names what is gone."""

    class Gone(BaseModel):
        text: str

    def read(document: Gone) -> str:
        return str(document)

    return read


def test_a_local_class_that_is_out_of_reach_is_refused_by_name() -> None:
    """What cannot be found is named, with what to do."""
    with pytest.raises(
        DeclarationError, match=r"'document': its hint `Gone` uses 'Gone', which is"
    ):
        declare(make_unreachable())


def test_annotated_metadata_survives() -> None:
    """Constraints are written in `Annotated`, also around a whole model."""

    def read(document: Annotated[AtModuleLevel, "metadata"]) -> str:
        return document.text

    capability = declare(read)

    assert capability.validate(b'{"text": "a"}') == AtModuleLevel(text="a")
