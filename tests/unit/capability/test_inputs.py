"""From raw JSON to the call: what fits is passed on, what does not is refused, whatever it is."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kagent_sdk.capability import Capability
from kagent_sdk.capability import failures as refusals
from kagent_sdk.errors import KagentError
from kagent_sdk.protocol.tasks import ErrorCode
from tests.unit.capability.samples import declare_source, find_refusal, make_context, refusal

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def run(capability: Capability, raw: bytes) -> Any:
    """Validate and call."""
    return capability.call(capability.validate(raw), make_context())


def test_a_model_is_the_whole_input() -> None:
    """The caller sends the model's fields, not a key around them."""
    capability = declare_source("def f(document: Document) -> str: return document.text")

    assert run(capability, b'{"text": "a"}') == "a"
    assert capability.input_schema == {
        "$schema": DIALECT,
        "title": "Document",
        "type": "object",
        "properties": {
            "text": {"title": "Text", "type": "string"},
            "words": {"title": "Words", "type": "integer", "default": 0},
        },
        "required": ["text"],
    }


def test_a_model_and_the_context_reach_a_keyword_only_signature() -> None:
    """Arguments travel by name, so that no order is wrong."""
    capability = declare_source(
        "def f(*, ctx: TaskContext, document: Document): return (ctx.task_id, document.text)"
    )
    assert run(capability, b'{"text": "a"}') == ("task-1", "a")


def test_a_root_model_takes_a_list_as_the_input() -> None:
    """The input need not be an object."""
    capability = declare_source(
        "from pydantic import RootModel\ndef f(items: RootModel[list[int]]): return items.root"
    )
    assert run(capability, b"[1, 2]") == [1, 2]


def test_plain_parameters_make_an_object() -> None:
    """Defaults make keys optional, constraints are in the schema, unknown keys are refused."""
    capability = declare_source(
        "def f(a: int, b: Annotated[str, Field(max_length=3)] = 'x', *, c: list[int] = [],\n"
        "  d: Document | None = None, ctx: TaskContext):\n"
        "  return (a, b, c, d and d.text, ctx.attempt)"
    )

    assert run(capability, b'{"a": 1}') == (1, "x", [], None, 1)
    assert run(capability, b'{"a": 1, "b": "y", "c": [2], "d": {"text": "t"}}') == (
        *(1, "y", [2], "t", 1),
    )
    assert capability.input_schema["required"] == ["a"]
    assert capability.input_schema["additionalProperties"] is False
    assert capability.input_schema["properties"]["b"] == {
        "type": "string",
        "title": "B",
        "maxLength": 3,
        "default": "x",
    }
    assert refusal(capability, b'{"a": 1, "z": 2}').details == [
        {"loc": ["z"], "msg": "Extra inputs are not permitted", "type": "extra_forbidden"}
    ]


def test_one_plain_parameter_is_an_object_of_one_key() -> None:
    """The wire does not change when a second parameter comes."""
    capability = declare_source("def f(path: str): return path")

    assert run(capability, b'{"path": "a"}') == "a"
    assert refusal(capability, b'"a"').code == ErrorCode.INVALID_INPUT


def test_dataclasses_and_typed_dicts_are_plain_parameters() -> None:
    """What pydantic understands is welcome."""
    capability = declare_source(
        "import typing_extensions\n"
        "@dataclasses.dataclass\nclass D: x: int\n"
        "class T(typing_extensions.TypedDict): y: int\n"
        "def f(d: D, t: T): return d.x + t['y']"
    )
    assert run(capability, b'{"d": {"x": 1}, "t": {"y": 2}}') == 3


@pytest.mark.parametrize(
    "parameter",
    ["n: int = Field(3, ge=1)", "n: Annotated[int, Field(default=3)]", "n: int = 3"],
)
def test_a_default_may_be_written_in_every_way(parameter: str) -> None:
    """Authors come from dataclasses, from pydantic and from FastAPI."""
    capability = declare_source(f"def f({parameter}): return n")

    assert run(capability, b"{}") == 3
    assert run(capability, b'{"n": 4}') == 4
    assert capability.input_schema["properties"]["n"]["default"] == 3


@pytest.mark.parametrize("parameter", ["n: int = Field(ge=1)", "n: int = Field(..., ge=1)"])
def test_a_field_without_a_default_is_required(parameter: str) -> None:
    """`Field` in the place of the default describes, and does not make optional."""
    capability = declare_source(f"def f({parameter}): return n")

    assert refusal(capability, b"{}").details[0]["type"] == "missing"
    assert refusal(capability, b'{"n": 0}').details[0]["type"] == "greater_than_equal"


def test_a_default_factory_is_called_for_every_task() -> None:
    """Such a default is not run at import."""
    capability = declare_source(
        "made = []\ndef f(n: list[int] = Field(default_factory=lambda: made.append(1) or [])):\n"
        "  return n, len(made)"
    )

    assert run(capability, b"{}") == ([], 1)
    assert run(capability, b"{}") == ([], 2)


def test_a_mutable_default_is_not_shared_by_tasks() -> None:
    """Python's oldest trap would leak one caller's data to the next."""
    capability = declare_source("def f(items: list[int] = []):\n  items.append(1)\n  return items")

    assert run(capability, b"{}") == [1]
    assert run(capability, b"{}") == [1]


def test_names_that_pydantic_keeps_for_itself_are_parameters_all_the_same() -> None:
    """An author need not know pydantic's methods."""
    capability = declare_source(
        "def f(_x: int, schema: int, model_config: int, json: int = 0): return _x"
    )

    assert run(capability, b'{"_x": 1, "schema": 2, "model_config": 3}') == 1


def test_an_alias_is_the_key_on_the_wire() -> None:
    """A key that is no Python name needs one."""
    capability = declare_source("def f(source: Annotated[str, Field(alias='from')]): return source")

    assert run(capability, b'{"from": "a"}') == "a"


@pytest.mark.parametrize(
    "parameter",
    ["n: Iterable[int]", "n: typing.Iterable", "n: Annotated[Iterable[int], Field(max_length=3)]"],
)
def test_an_iterable_is_validated_before_the_call(parameter: str) -> None:
    """Pydantic would find a wrong item only while the author's function runs."""
    capability = declare_source(f"def f({parameter}): return n")

    assert run(capability, b'{"n": [1, 2]}') == [1, 2]
    assert refusal(capability, b'{"n": 1}').code == ErrorCode.INVALID_INPUT


@pytest.mark.parametrize("raw", [b"", b" ", b"{}", b" { } ", b"null", b"\nnull\n"])
def test_without_parameters_an_empty_input_will_do(raw: bytes) -> None:
    """A bare `curl -X POST` calls it."""
    capability = declare_source("def f() -> int: return 7")

    assert run(capability, raw) == 7
    assert capability.input_schema == {
        "$schema": DIALECT,
        "title": "f",
        "type": ["object", "null"],
        "maxProperties": 0,
    }


@pytest.mark.parametrize(
    ("raw", "code", "status"),
    [
        (b'{"a": 1}', "invalid_input", 422),
        (b"[]", "invalid_input", 422),
        (b"{", "invalid_json", 400),
    ],
)
def test_without_parameters_anything_else_is_refused(raw: bytes, code: str, status: int) -> None:
    """A caller that sends something believes that it counts."""
    failure = refusal(declare_source("def f(ctx: TaskContext): ..."), raw)

    assert (failure.code, failure.status) == (code, status)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"{", "EOF while parsing an object at line 1 column 1"),
        (b"\xff", "expected value at line 1 column 1"),
        (b'{"text": "\xff"}', "invalid unicode code point at line 1 column 11"),
        (b'\xef\xbb\xbf{"text": "a"}', "expected value at line 1 column 1"),
        (b'{"text": "a"} x', "trailing characters at line 1 column 15"),
        (b'{"text": "\\ud800"}', "unexpected end of hex escape at line 1 column 17"),
        (b"[" * 100_000, "recursion limit exceeded at line 1 column 202"),
        (b'{"words": ' + b"9" * 5000 + b"}", "number out of range at line 1 column 4312"),
        (b'{"text": "a", "words": NaN}', "expected value at line 1 column 24"),
        (b'{"text": "a", "words": -Infinity}', "invalid number at line 1 column 25"),
    ],
)
def test_what_is_not_json_is_refused_as_such(raw: bytes, reason: str) -> None:
    """400 tells a caller that its encoder is at fault, 422 that its data is."""
    failure = refusal(declare_source("def f(document: Document): ..."), raw)

    assert failure.code == ErrorCode.INVALID_JSON
    assert failure.status == 400
    assert failure.message == f"the input is not valid JSON: {reason}"
    assert failure.details is None


def test_nan_inside_a_string_is_text() -> None:
    """Only the constant is no JSON."""
    capability = declare_source("def f(text: str): return text")

    assert run(capability, b'{"text": "NaN and Infinity"}') == "NaN and Infinity"


def test_of_equal_keys_the_last_one_counts() -> None:
    """As in every JSON parser that callers are used to; pydantic's cannot tell."""
    capability = declare_source("def f(n: int): return n")

    assert run(capability, b'{"n": 1, "n": 2}') == 2


def test_a_refusal_says_where_what_and_which_rule() -> None:
    """A program can act on `loc` and `type`; nothing of the input comes back."""
    capability = declare_source("def f(document: Document): ...")

    failure = refusal(capability, b'{"words": "secret"}')

    assert failure.status == 422
    assert failure.details == [
        {"loc": ["text"], "msg": "Field required", "type": "missing"},
        {
            "loc": ["words"],
            "msg": "Input should be a valid integer, unable to parse string as an integer",
            "type": "int_parsing",
        },
    ]
    assert failure.message == "the input does not fit: text: Field required (and 1 more)"
    assert "secret" not in json.dumps(failure.as_dict())


def test_a_refusal_of_the_input_as_a_whole_has_no_place() -> None:
    """An empty `loc` is left out of the sentence."""
    failure = refusal(declare_source("def f(document: Document): ..."), b"3")

    assert failure.message == "the input does not fit: Input should be an object"


def test_a_refusal_is_bounded_in_entries_and_characters() -> None:
    """A wrong input of megabytes is answered in kilobytes."""
    capability = declare_source("def f(n: dict[str, dict[str, int]]): ...")
    raw = json.dumps({"n": {"k" * 5000 + str(n): {"x" * 5000: "y"} for n in range(60)}}).encode()

    failure = refusal(capability, raw)

    assert len(failure.details) == refusals.MAX_DETAILS
    assert failure.details[0]["loc"][1] == "k" * refusals.MAX_PART_CHARS
    assert "(and 59 more)" in failure.message
    assert len(failure.message) < 600


def test_too_many_problems_are_counted_only() -> None:
    """Listing them all would cost half a kilobyte each."""
    capability = declare_source("def f(n: list[str]): ...")

    failure = refusal(capability, b'{"n": [' + b"1," * 10_000 + b"1]}")

    assert failure.details == [
        {"loc": [], "msg": "10001 problems: too many to list", "type": "too_many"}
    ]


def test_a_path_of_any_depth_is_cut() -> None:
    """`loc` grows with the depth of the input."""
    capability = declare_source(
        "class Tree(BaseModel):\n  t: 'Tree | None' = None\ndef f(tree: Tree): ...".replace(
            "Tree", "Tree"
        )
    )
    raw = b'{"t":' * 100 + b"1" + b"}" * 100

    assert len(refusal(capability, raw).details[0]["loc"]) == refusals.MAX_LOC_PARTS


def test_a_validator_of_the_author_speaks_to_the_caller() -> None:
    """`ValueError` is how pydantic wants it; a long message is cut."""
    capability = declare_source(
        "from pydantic import AfterValidator\n"
        "def check(n):\n  raise ValueError('odd' * 1000)\n"
        "def f(n: Annotated[int, AfterValidator(check)]): ..."
    )

    failure = refusal(capability, b'{"n": 1}')

    assert failure.details[0]["msg"].startswith("Value error, oddodd")
    assert len(failure.details[0]["msg"]) == refusals.MAX_MSG_CHARS


def test_another_exception_of_a_validator_is_the_authors_own() -> None:
    """A bug in a validator is no fault of the caller's."""
    capability = declare_source(
        "from pydantic import AfterValidator\n"
        "def check(n):\n  raise KeyError(n)\n"
        "def f(n: Annotated[int, AfterValidator(check)]): ..."
    )
    with pytest.raises(KeyError):
        capability.validate(b'{"n": 1}')


@pytest.mark.parametrize("error", ["RecursionError", "OverflowError"])
def test_a_validator_that_hits_a_limit_of_python_refuses_the_input(error: str) -> None:
    """Only an extreme input gets there: it is the caller's, and the task's alone."""
    capability = declare_source(
        "from pydantic import AfterValidator\n"
        f"def check(n):\n  raise {error}\n"
        "def f(n: Annotated[int, AfterValidator(check)]): ..."
    )

    failure = refusal(capability, b'{"n": 1}')

    assert (failure.code, failure.status) == ("invalid_input", 422)
    assert failure.details[0]["type"] == "too_extreme"


def test_a_refusal_is_an_error_of_ours_with_its_code() -> None:
    """A test that calls `validate` sees why in the traceback."""
    with pytest.raises(KagentError, match="invalid_json: the input is not valid JSON: it is empty"):
        declare_source("def f(n: int): ...").validate(b"")


HINTS = [
    "n: Any",
    "n: float, m: int = 0",
    "n: typing.Decimal",
    "n: datetime.datetime | datetime.timedelta | datetime.date",
    "n: dict[int, list[str | None]]",
    "n: set[bytes]",
    "n: re.Pattern",
    "n: fractions.Fraction | complex",
    "n: ipaddress.IPv4Network | uuid.UUID | pathlib.Path",
    "n: pydantic.JsonValue",
    "n: pydantic.Json | pydantic.AnyUrl",
    "n: Document",
    "tree: Tree",
    "",
]
FUZZED = [
    declare_source(
        "import datetime, decimal, fractions, ipaddress, pathlib, pydantic, re, typing, uuid\n"
        "class Tree(BaseModel):\n  n: 'list[Tree] | Tree | None' = None\n"
        f"def f({hint.replace('typing.Decimal', 'decimal.Decimal')}): ..."
    )
    for hint in HINTS
]

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**300, max_value=10**310),
    st.floats(),
    st.text(),
    st.sampled_from(["1e999999999", "P99999999D", "a{9999999999}", "((((", "1/0", "0000-01-01"]),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("n"), inner)
)
DOCUMENTS = VALUES.map(lambda value: json.dumps({"n": value}).encode(errors="surrogatepass"))


def check_outcome(raw: bytes) -> None:
    """Every capability takes the input or refuses it in bounded JSON."""
    for capability in FUZZED:
        failure = find_refusal(capability, raw)
        if failure is not None:
            assert len(json.dumps(failure.as_dict(), allow_nan=False)) < 250_000
            assert failure.status in {400, 422}


# From `re` on a pattern that a caller made up, and from `fractions` on true.
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@given(DOCUMENTS)
def test_any_json_is_taken_or_refused(raw: bytes) -> None:
    """No document that a caller can write comes through as another exception."""
    check_outcome(raw)


@given(st.binary() | DOCUMENTS.map(lambda raw: raw[: len(raw) // 2]))
@example(b'{"n":' * 150 + b"1" + b"}" * 150)
@example(b'{"n":' + b"[" * 190 + b"]" * 190 + b"}")
@example(b'{"n":' + b"9" * 4300 + b"}")
@example(b'{"n":1e' + b"9" * 300 + b"}")
@example(b'{"n":0.' + b"9" * 9000 + b"}")
@example(b'{"n":"' + b"(" * 9000 + b'"}')
@example(b'{"n":"' + b"9" * 9000 + b'"}')
@example(b'{"n":"\\u0000\\uD834\\uDD1E"}')
@example(b'{"n":"\\uDD1E"}')
def test_any_bytes_are_taken_or_refused(raw: bytes) -> None:
    """The same for what is hardly JSON, truncated or extreme."""
    check_outcome(raw)


def test_a_number_beyond_doubles_is_infinite() -> None:
    """It is JSON; what it means is up to the hint (`allow_inf_nan=False` refuses it)."""
    capability = declare_source("def f(n: float): return n")

    assert run(capability, b'{"n": 1e999}') == math.inf
