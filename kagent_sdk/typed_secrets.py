"""Secrets by name → an author's pydantic model. Pure; no error of it holds a value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core.core_schema import ErrorType

from kagent_sdk.errors import SecretMismatchError, SecretMissingError

AnyModel = TypeVar("AnyModel", bound=BaseModel)

# Their messages quote the input, or are an author's, who may.
_TALKATIVE = frozenset(
    {"assertion_error", "get_attribute_error", "union_tag_invalid", "value_error"}
)


def build_model(model: type[AnyModel], secrets: Mapping[str, Any]) -> AnyModel:
    """Return a model of these secrets; a path such as ``db.password`` is a nested member.

    A number is taken as its text where the model wants a string or a `SecretStr`.

    Raises:
        SecretMissingError: there is none for a field without a default.
        SecretMismatchError: one does not fit its field.
    """
    document = nest(secrets)
    error = None
    try:
        return model.model_validate(document)
    except ValidationError as exc:
        error = exc
    # Out of the handler: what is raised below must not carry pydantic's error, which has the input.
    if _turn_numbers_to_text(document, error):
        try:
            return model.model_validate(document)
        except ValidationError as exc:
            error = exc
    return _refuse(model, error)


def nest(secrets: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document in which every path of the names leads to its value.

    Where one name is the beginning of another's path, their members are put together.
    """
    document: dict[str, Any] = {}
    for name in sorted(secrets):
        *parents, last = name.split(".")
        place = document
        for parent in parents:
            inner = place.get(parent)
            # A copy: the value belongs to the secrets.
            copy: dict[str, Any] = dict(inner) if isinstance(inner, dict) else {}
            place[parent] = copy
            place = copy
        place[last] = secrets[name]
    return document


def _turn_numbers_to_text(document: dict[str, Any], error: ValidationError) -> bool:
    has_turned = False
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        if fault["type"] != "string_type":
            continue
        *parents, last = fault["loc"]
        place: Any = document
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        value = place.get(last) if isinstance(place, dict) else None
        if isinstance(value, int | float) and not isinstance(value, bool):
            place[last] = json.dumps(value)
            has_turned = True
    return has_turned


def _refuse(model: type[BaseModel], error: ValidationError) -> NoReturn:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    for fault in faults:
        if fault["type"] == "missing":
            raise SecretMissingError(_path(fault["loc"]))
    quiet = frozenset(get_args(ErrorType)) - _TALKATIVE
    reasons = [
        f"{_path(fault['loc'])}: {fault['msg'] if fault['type'] in quiet else fault['type']}"
        for fault in faults
    ]
    raise SecretMismatchError(
        f"the secrets do not fit {model.__name__}: {'; '.join(reasons)}: correct the vault or the "
        "model",
        tuple(_path(fault["loc"]) for fault in faults),
    )


def _path(loc: tuple[int | str, ...]) -> str:
    return ".".join(map(str, loc)) or "(the whole)"
