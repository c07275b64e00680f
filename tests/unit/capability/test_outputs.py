"""From what a function returns to JSON that fits the published schema."""

from __future__ import annotations

import json
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.capability import Capability, InvalidOutput
from kagent_sdk.protocol.tasks import TaskFailure
from tests.unit.capability.samples import declare_source, make_context

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def run(source: str) -> bytes:
    """Return the JSON of what a function without parameters returns."""
    capability = declare_source(source)
    return capability.dump(capability.call(capability.validate(b""), make_context()))


def refusal(source: str) -> TaskFailure:
    """Return why an output is refused."""
    with pytest.raises(InvalidOutput) as caught:
        run(source)
    failure = caught.value.failure
    assert (failure.code, failure.status, failure.retryable) == ("invalid_output", 500, False)
    return failure


@pytest.mark.parametrize(
    ("source", "raw"),
    [
        ("def f() -> Document: return Document(text='ä')", '{"text":"ä","words":0}'),
        ("def f() -> Document: return {'text': 'a'}", '{"text":"a","words":0}'),
        ("def f() -> list[Document]: return [Document(text='a')]", '[{"text":"a","words":0}]'),
        ("def f() -> int: return 1", "1"),
        ("def f() -> float: return 1", "1.0"),
        ("def f() -> None: return None", "null"),
        ("def f(): return {'a': [1, Document(text='b')]}", '{"a":[1,{"text":"b","words":0}]}'),
        ("def f() -> Any: return {1, }", "[1]"),
        ("def f() -> Iterable[int]: return iter([1, 2])", "[1,2]"),
        ("def f() -> Annotated[int, Field(ge=1)]: return 1", "1"),
        ("def f() -> float: return float('nan')", "null"),
        ("def f() -> dict[str, Any]: return {'a': float('-inf')}", '{"a":null}'),
        ("def f() -> str: return 'NaN and Infinity'", '"NaN and Infinity"'),
    ],
)
def test_an_output_that_fits_becomes_json(source: str, raw: str) -> None:
    """What the hint says is what the caller gets; what is not finite is null."""
    assert run(source) == raw.encode()


def test_without_a_hint_anything_that_json_can_hold_is_right() -> None:
    """An author may begin without hints for the output; its schema says nothing."""
    assert declare_source("def f(): ...").output_schema == {"$schema": DIALECT}


def test_an_alias_is_written_as_the_schema_says() -> None:
    """Schema and output agree on the keys."""
    source = "class M(BaseModel):\n  x: int = Field(serialization_alias='X')\ndef f() -> M: return M(x=1)"

    assert run(source) == b'{"X":1}'
    assert list(declare_source(source).output_schema["properties"]) == ["X"]


NOT_FINITE = """\
class M(BaseModel, ser_json_inf_nan='constants'):
    x: float
def f() -> M:
    return M(x=float('inf'))
"""


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "def f() -> int: return 'a'",
            "the output does not fit its hint: Input should be a valid int",
        ),
        (
            "def f() -> int: return None",
            "the output does not fit its hint: Input should be a valid int",
        ),
        (
            "def f() -> Document: return {}",
            "the output does not fit its hint: text: Field required",
        ),
        (
            "def f() -> Document:\n  d = Document(text='a')\n  d.words = 'many'\n  return d",
            "the output cannot be JSON: field 'words' was assigned what is not `int`",
        ),
        ("def f(): return socket", "the output cannot be JSON: Unable to serialize unknown type"),
        ("def f():\n  a = []\n  a.append(a)\n  return a", "the output cannot be JSON: "),
        ("def f(): return chr(0xd800)", "the output cannot be JSON: "),
        ("def f() -> bytes: return b'\\xff'", "the output cannot be JSON: "),
        ("def f() -> Iterable[int]: return iter([1, 'x'])", "the output cannot be JSON: "),
        (NOT_FINITE, "the output cannot be JSON, for it has a number that is not finite"),
    ],
)
def test_an_output_that_does_not_fit_is_the_authors_error(source: str, message: str) -> None:
    """The caller was promised a schema: what breaks it does not leave the agent."""
    assert refusal(source).message.startswith(message)


def test_the_problems_of_an_output_are_listed_without_its_values() -> None:
    """The author sees where; the log and the caller do not see what."""
    failure = refusal("def f() -> Document: return {'text': 'a', 'words': 'secret'}")

    assert failure.details[0]["loc"] == ["words"]
    assert "secret" not in json.dumps(failure.as_dict())


@pytest.mark.parametrize(
    "source",
    [
        "def f() -> Document: return {'text': 'a', 'words': 'secret'}",
        "def f() -> Document:\n  d = Document(text='a')\n  d.words = 'secret'\n  return d",
        "def f() -> list[Any]:\n  d = Document(text='a')\n  d.words = ['secret']\n  return [d]",
        "def f() -> Iterable[int]: return iter(['secret'])",
    ],
)
def test_a_refused_output_is_not_in_the_traceback(source: str) -> None:
    """The worker logs the traceback; outputs are never logged."""
    with pytest.raises(InvalidOutput) as caught:
        run(source)

    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_a_deep_output_is_refused() -> None:
    """However deep, it is an answer and no crash."""
    assert refusal(
        "def f():\n  a = []\n  for _ in range(100_000): a = [a]\n  return a"
    ).message.startswith("the output cannot be JSON")


def test_a_serializer_that_recurses_is_refused() -> None:
    """Python's recursion limit is the author's to hit, not the worker's to die of."""
    source = (
        "from pydantic import PlainValidator\n"
        "def check(n):\n  raise RecursionError('too deep')\n"
        "def f() -> Annotated[Any, PlainValidator(check)]: return 1"
    )
    assert refusal(source).message == "the output cannot be JSON: too deep"


def test_a_stream_has_a_schema_for_its_items_and_one_for_all_of_them() -> None:
    """Called without a stream, the output is the array of the items."""
    capability = declare_source(
        "async def f() -> AsyncIterator[Document]: yield Document(text='a')"
    )

    assert capability.event_schema is not None
    assert capability.event_schema["title"] == "Document"
    assert capability.output_schema["type"] == "array"
    assert capability.output_schema["items"] == {"$ref": "#/$defs/Document"}
    assert "Document" in capability.output_schema["$defs"]


async def collect(capability: Capability) -> list[bytes]:
    """Return the events of a stream."""
    stream = capability.call(capability.validate(b"{}"), make_context())
    return [capability.dump_event(item) async for item in stream]


async def test_the_items_of_a_stream_are_written_one_by_one() -> None:
    """Every event is checked against the item's hint."""
    capability = declare_source(
        "async def f() -> AsyncIterator[Document]:\n  yield Document(text='a')\n  yield {}"
    )
    with pytest.raises(
        InvalidOutput, match="the event does not fit its hint: text: Field required"
    ):
        await collect(capability)


async def test_a_stream_without_a_hint_yields_anything() -> None:
    """A missing return hint means any JSON."""
    capability = declare_source("async def f():\n  yield 1\n  yield 'a'")

    assert await collect(capability) == [b"1", b'"a"']


def test_an_event_of_a_function_that_does_not_stream_may_be_anything() -> None:
    """`ctx.emit` has no hint there."""
    assert declare_source("def f() -> int: return 1").dump_event({"a": 1}) == b'{"a":1}'


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
)
ANYTHING = declare_source("def f(): ...")


@given(JSON)
def test_whatever_is_returned_is_strict_json_or_refused(value: Any) -> None:
    """The host passes outputs on unread: the worker must not send what no parser takes."""
    try:
        raw = ANYTHING.dump(value)
    except InvalidOutput:
        return
    json.loads(raw, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
