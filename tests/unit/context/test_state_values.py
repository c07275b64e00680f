"""Values: what goes in comes out, and what cannot come out does not go in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_serializer, field_validator

from kagent_sdk.context.adapters import adapter_of
from kagent_sdk.context.state_values import check_ttl, dump, is_same, load
from kagent_sdk.errors import StateValueError
from kagent_sdk.protocol.json_text import SMALL_BYTES, is_json
from kagent_sdk.protocol.state import MAX_TTL_S, MAX_VALUE_BYTES

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=10,
)


class Account(BaseModel):
    """A model."""

    owner: str
    balance: float = 0.0


@dataclass
class Point:
    """No model, but pydantic knows it."""

    x: float


class Rude(BaseModel):
    """A model that puts its value into its errors."""

    word: str

    @field_validator("word")
    @classmethod
    def refuse(cls, word: str) -> str:
        """Refuse."""
        raise ValueError(f"I do not like {word}")


class Leaky(BaseModel):
    """A model that puts its value into the error of its serializer."""

    word: str

    @field_serializer("word")
    def refuse(self, word: str) -> str:
        """Refuse."""
        raise ValueError(f"I do not write {word}")


@given(JSON)
def test_json_comes_back_as_it_was(value: Any) -> None:
    """The simplest use."""
    assert load("k", dump("k", value)) == value


@pytest.mark.parametrize(
    ("value", "model"),
    [
        (Account(owner="Ada", balance=1.5), Account),
        ([Account(owner="Ada")], list[Account]),
        (Point(1.0), Point),
        (datetime(2026, 1, 2, tzinfo=UTC), datetime),
        ({1: "a"}, dict[int, str]),
        ((1, 2), tuple[int, int]),
        (3, Annotated[int, Field(ge=3)]),
        (3, Annotated[int, Field(json_schema_extra={"a": [1]})]),
        (None, Account | None),
    ],
)
def test_what_is_asked_for_as_a_type_comes_back_as_that(value: Any, model: Any) -> None:
    """JSON alone knows neither models nor dates."""
    assert load("k", dump("k", value), model) == value


def test_an_adapter_is_made_once() -> None:
    """It costs a millisecond, a read some microseconds."""
    assert adapter_of(list[Account]) is adapter_of(list[Account])


class Unhashable:
    """A note that cannot be a key of the cache."""

    __hash__ = None  # type: ignore[assignment]


def test_a_hint_that_cannot_be_kept_works_all_the_same() -> None:
    """Only slower."""
    assert load("k", b"1", Annotated[int, Unhashable()]) == 1


DEEP: list[Any] = []
for _ in range(230):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        [math.inf],
        Account(owner="Ada", balance=math.inf),
        {"a": [Point(math.nan)]},
        "\ud800",
        b"\xff",
        object(),
        {"a": print},
        DEEP,
        Leaky(word="hunter2"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_could_not_be_read_again_is_refused(value: Any) -> None:
    """A model would silently write null for infinity, and fail when it is read: a week later."""
    with pytest.raises(StateValueError, match=r"the value for 'k', .*, is no JSON: ") as caught:
        dump("k", value)

    assert "hunter2" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("depth", range(190, 204))
@pytest.mark.parametrize("inner", [[], {}, list(range(40)), ['"' * 50]], ids=range(4))
@pytest.mark.parametrize("filler", ["", "x" * SMALL_BYTES])
def test_what_is_written_is_json_to_the_host(depth: int, inner: Any, filler: str) -> None:
    """It would take the worker for broken, and end it with all its tasks."""
    value = [filler, inner]
    for _ in range(depth - 2):
        value = [value]
    try:
        raw = dump("k", value)
    except StateValueError:
        assert depth > 195
    else:
        assert is_json(raw)


def test_a_type_that_is_unknown_is_named() -> None:
    """It stands somewhere inside."""
    with pytest.raises(StateValueError, match="unknown type: <class 'object'>"):
        dump("k", {"a": object()})


def test_a_value_has_a_limit() -> None:
    """The state is no file system."""
    dump("k", "x" * (MAX_VALUE_BYTES - 2))
    with pytest.raises(
        StateValueError, match="the value for 'k' has 1048577 bytes, over the limit"
    ):
        dump("k", "x" * (MAX_VALUE_BYTES - 1))


def test_a_value_that_does_not_fit_is_not_shown() -> None:
    """Errors go to callers and logs; what is in the state does not."""
    raw = dump("k", {"owner": "hunter2", "balance": "hunter2"})

    with pytest.raises(StateValueError) as caught:
        load("k", raw, Account)
    assert str(caught.value) == "the value of 'k' does not fit Account: balance (float_parsing)"
    assert caught.value.__context__ is None
    with pytest.raises(StateValueError) as caught:
        load("k", b'{"word": "hunter2"}', Rude)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(StateValueError, match=r"does not fit its type: int \(int_type\), "):
        load("k", b"[]", int | Account)


@pytest.mark.parametrize("model", [None, Account])
def test_what_is_no_json_does_not_fit(model: Any) -> None:
    """A hand-written file, for example."""
    with pytest.raises(StateValueError, match=r"all of it \(json_invalid\)"):
        load("k", b"{", model)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (b'{"a":1,"b":[2]}', b'{"b": [2], "a": 1}', True),
        (b"1", b"1", True),
        (b"1", b"1.0", False),
        (b"1", b"true", False),
        (b"0", b"false", False),
        (b"null", b'"null"', False),
        (b'"\\u00e4"', '"ä"'.encode(), True),
        (b"[1,2]", b"[2,1]", False),
    ],
)
def test_values_are_compared_as_json(first: bytes, second: bytes, expected: bool) -> None:
    """A file that was edited by hand has other spaces; Python takes 1 for True."""
    assert is_same(first, second) is expected


@pytest.mark.parametrize("ttl_s", [1, 0.5, MAX_TTL_S, None])
def test_a_life_is_a_number_of_seconds(ttl_s: float | None) -> None:
    """Or without end."""
    assert check_ttl(ttl_s) == ttl_s


@pytest.mark.parametrize("ttl_s", [0, -1, math.nan, math.inf, True, "1", 10**400, MAX_TTL_S * 2])
def test_a_life_that_is_none_is_refused(ttl_s: object) -> None:
    """The host would take the worker for broken."""
    with pytest.raises(StateValueError, match="ttl_s must be a number of seconds above 0"):
        check_ttl(ttl_s)
