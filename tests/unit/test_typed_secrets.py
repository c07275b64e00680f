"""Typed secrets: an author's model, and errors that say what to do without saying a value."""

from __future__ import annotations

import copy
import pickle
import traceback
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, SecretStr, field_validator

from kagent_sdk.context import Secrets
from kagent_sdk.errors import SecretMismatchError, SecretMissingError
from kagent_sdk.typed_secrets import nest


class Database(BaseModel):
    """Some of a database's settings."""

    password: SecretStr
    port: int = 5432


class MySecrets(BaseModel):
    """What an author asks for."""

    api_key: SecretStr
    db: Database
    name: str | None = None


class Picky(BaseModel):
    """Fields that refuse in every way there is."""

    text: str = ""
    number: int = 0
    kind: Literal["a", "b"] = "a"
    short: SecretStr = Field(SecretStr(""), max_length=3)
    checked: str = ""
    items: list[int] = []

    @field_validator("checked")
    @classmethod
    def _check(cls, value: str) -> str:
        if value:
            raise ValueError(f"{value} is not good")
        return value


def test_paths_become_nested_models() -> None:
    """One line gives everything an agent needs, checked and typed."""
    secrets = Secrets({"api_key": "sk-hunter2", "db.password": "hunter2", "db.port": 99})

    model = secrets.as_model(MySecrets)

    assert model.api_key.get_secret_value() == "sk-hunter2"
    assert (model.db.password.get_secret_value(), model.db.port) == ("hunter2", 99)
    assert "hunter2" not in repr(model)


def test_a_whole_part_and_a_path_into_it_are_put_together() -> None:
    """`expose: [db, db.password]` names one thing twice."""
    inner = {"port": 1, "password": "old"}
    document = nest({"db": inner, "db.password": "new", "a.b.c": 1, "a.b.d": 2, "a": "x"})

    assert document == {"db": {"port": 1, "password": "new"}, "a": {"b": {"c": 1, "d": 2}}}
    assert inner == {"port": 1, "password": "old"}


def test_a_number_is_taken_where_a_text_is_wanted() -> None:
    """Nobody who writes a PIN into JSON thinks of quotes."""
    secrets = Secrets({"api_key": 123456, "db.password": 1.5, "db.port": "42"})

    model = secrets.as_model(MySecrets)

    assert model.api_key.get_secret_value() == "123456"
    assert model.db.password.get_secret_value() == "1.5"
    assert model.db.port == 42


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"db.password": "hunter2"}, "api_key"),
        ({"api_key": "hunter2", "db.port": 1}, "db.password"),
        ({"api_key": 123456, "name": "hunter2"}, "db"),
    ],
)
def test_a_missing_secret_says_what_to_expose(values: dict[str, Any], key: str) -> None:
    """The way out is one line of config.yaml."""
    with pytest.raises(SecretMissingError) as caught:
        Secrets(values).as_model(MySecrets)

    assert caught.value.key == key
    assert f'add "{key}" to secrets.expose' in str(caught.value)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"number": "hunter2"}, "number: Input should be a valid integer"),
        ({"kind": "hunter2"}, "kind: Input should be 'a' or 'b'"),
        ({"short": "hunter2"}, "short: Value should have at most 3 items"),
        ({"checked": "hunter2"}, "checked: value_error"),
        ({"items": ["hunter2"]}, "items.0: Input should be a valid integer"),
        ({"text": ["hunter2"]}, "text: Input should be a valid string"),
        ({"text": True}, "text: Input should be a valid string"),
        ({"text": 5, "checked": "hunter2"}, "checked: value_error"),
    ],
)
def test_a_secret_that_does_not_fit_is_named_but_not_shown(
    values: dict[str, Any], reason: str
) -> None:
    """The error goes to the log and to the caller of the task."""
    with pytest.raises(SecretMismatchError) as caught:
        Secrets(values).as_model(Picky)

    assert reason.partition(":")[0] in caught.value.keys
    assert reason.partition(":")[2].strip() in str(caught.value)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


def test_a_model_that_is_wrong_as_a_whole_says_so() -> None:
    """A root model has no field to name."""
    from pydantic import RootModel  # noqa: PLC0415 - for this case alone

    with pytest.raises(SecretMismatchError, match=r"\(the whole\)"):
        Secrets({"a": "hunter2"}).as_model(RootModel[list[int]])


def test_rotated_secrets_show_in_the_same_object() -> None:
    """A context that an author keeps must not go on with the old key."""
    secrets = Secrets({"key": "old", "gone": "x"})

    secrets.replace({"key": {"a": 1}})

    assert secrets["key"].get_secret_value() == '{"a": 1}'
    assert list(secrets) == ["key"]


def test_secrets_are_not_copied() -> None:
    """A pickle of them would be a file of secrets."""
    copiers: list[Any] = [copy.copy, copy.deepcopy, pickle.dumps]
    for copier in copiers:
        with pytest.raises(TypeError, match="not to be copied"):
            copier(Secrets({"key": "hunter2"}))
