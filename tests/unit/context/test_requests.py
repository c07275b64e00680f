"""What an author may ask for, and what a mistake says."""

from __future__ import annotations

from math import inf, nan
from typing import Any, cast

import pytest
from pydantic import BaseModel

from kagent_sdk.context.requests import CallRequest, make_request
from kagent_sdk.errors import CallError


class Point(BaseModel):
    """A model of the author's."""

    x: int
    name: str = ""


def make(target: Any, *rest: object, **options: Any) -> CallRequest:
    """Return a request, with the options that are not given."""
    nothing: dict[str, Any] = {"timeout_s": None, "labels": None, "id": None, "model": None}
    return make_request(target, rest, **(nothing | options))


@pytest.mark.parametrize(
    ("arguments", "agent", "capability", "input"),
    [
        (("a/c", 1), "a", "c", 1),
        (("a", "c", 1), "a", "c", 1),
        (("a", "c", None), "a", "c", None),
        (("c", 1), None, "c", 1),
        (("c", "text"), None, "c", "text"),
        (("c",), None, "c", {}),
        (("a/c",), "a", "c", {}),
        (("a/c/d", 1), "a", "c/d", 1),
    ],
)
def test_a_capability_is_named_in_three_ways(
    arguments: tuple[Any, ...], agent: str | None, capability: str, input: object
) -> None:
    """Agent and capability, in one word or two, or the capability alone."""
    request = make(*arguments)

    assert (request.agent, request.capability, request.input) == (agent, capability, input)


@pytest.mark.parametrize(
    "arguments", [("",), ("/c",), ("a/",), (None,), ("", "c", 1), ("a", "", 1), ("a", 1, 1)]
)
def test_a_name_that_is_none_is_told_at_the_call(arguments: tuple[Any, ...]) -> None:
    """Not by the other side, a second later."""
    with pytest.raises(ValueError, match="agent/capability"):
        make(*arguments)


def test_more_than_an_input_is_too_much() -> None:
    """A timeout is named."""
    with pytest.raises(TypeError, match="not 3 more"):
        make("a", "c", {}, 5)


@pytest.mark.parametrize(("asked", "kept"), [(None, None), (inf, None), (5, 5.0), (0.1, 0.1)])
def test_a_timeout_is_seconds_or_none(asked: Any, kept: float | None) -> None:
    """`float("inf")` means none."""
    assert make("c", timeout_s=asked).timeout_s == kept


@pytest.mark.parametrize("asked", [nan, True, "5", [5]])
def test_a_timeout_that_is_none_is_refused(asked: Any) -> None:
    """With the name of the option."""
    with pytest.raises(ValueError, match="timeout_s must be a number"):
        make("c", timeout_s=asked)


@pytest.mark.parametrize("left_s", [0, -3.5])
def test_no_time_left_is_a_timeout(left_s: float) -> None:
    """As in `timeout_s=ctx.remaining_s - 1`: an error that authors handle anyway."""
    with pytest.raises(CallError, match="no time left") as caught:
        make("c", timeout_s=left_s)

    assert (caught.value.code, caught.value.status) == ("timeout", 504)


@pytest.mark.parametrize(
    "labels",
    [{"": "a"}, {"a": ""}, {"a": 1}, {1: "a"}, {"a b": "c"}, {f"k{n}": "v" for n in range(33)}],
)
def test_labels_are_those_that_an_agent_may_have(labels: Any) -> None:
    """A worker that sent others would be taken for broken."""
    with pytest.raises(ValueError, match="labels"):
        make("c", labels=labels)


@pytest.mark.parametrize("id", ["", ".", "a/b", "x" * 129, 1])
def test_an_id_is_one_of_a_task(id: Any) -> None:
    """The rule stands in the message."""
    with pytest.raises(ValueError, match="an id is 1 to 128"):
        make("c", id=id)
    assert make("c", id="t-1:note").id == "t-1:note"


def test_plain_outputs_are_plain_data() -> None:
    """Without a type there is nothing to check."""
    assert make("c").load(b'{"x": [1, null]}') == {"x": [1, None]}


@pytest.mark.parametrize(
    ("model", "raw", "value"),
    [
        (Point, b'{"x": 1}', Point(x=1)),
        (list[Point], b'[{"x": 1}]', [Point(x=1)]),
        (int | None, b"null", None),
        (dict[str, float], b'{"a": 1}', {"a": 1.0}),
    ],
)
def test_typed_outputs_are_of_their_type(model: Any, raw: bytes, value: object) -> None:
    """Models, and whatever else pydantic knows."""
    assert make("c", model=model).load(raw) == value


def test_an_output_of_another_type_says_where_and_not_what() -> None:
    """The other agent's data must not get into this one's log by way of an error."""
    load = make("a/c", model=list[Point]).load
    with pytest.raises(CallError) as caught:
        load(b'[{"x": 1}, {"x": "a secret", "name": 5}]')

    error = caught.value
    assert (error.code, error.status, error.retryable) == ("invalid_output", 502, False)
    assert "a/c gave does not fit list" in error.message
    assert "1.x (int_parsing), 1.name (string_type)" in error.message
    assert [detail["loc"] for detail in cast("list[Any]", error.details)] == [(1, "x"), (1, "name")]
    assert "secret" not in f"{error.message} {error.details} {error.__context__}"
