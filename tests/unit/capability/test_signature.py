"""What an author may write, and what a mistake is answered with."""

from __future__ import annotations

import asyncio
import re

import pytest

from kagent_sdk.capability import Kind, declare
from kagent_sdk.errors import DeclarationError
from tests.unit.capability.samples import FUTURE, PREAMBLE, declare_source, define, make_context

FIRST_LINE = PREAMBLE.count("\n") + 1

CONTEXTS = [
    "async def f(text: str, ctx: TaskContext) -> str: return text",
    "async def f(ctx: TaskContext, text: str) -> str: return text",
    "async def f(text: str, *, ctx: 'TaskContext') -> str: return text",
    "async def f(text: str, ctx: TaskContext | None = None) -> str: return text",
    "async def f(text: str, ctx: Annotated[TaskContext, 'ours']) -> str: return text",
    "async def f(text: str, ctx: typing.Optional[TaskContext]) -> str: return text",
]


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("async def f() -> None: ...", Kind.ASYNC),
        ("def f() -> None: ...", Kind.SYNC),
        ("async def f() -> AsyncIterator[int]: yield 1", Kind.STREAM),
        ("async def f() -> typing.AsyncGenerator[int, None]: yield 1", Kind.STREAM),
        ("async def f(): yield 1", Kind.STREAM),
        ("def f() -> Iterable[int]: return iter([1])", Kind.SYNC),
    ],
)
def test_the_kind_follows_from_how_the_function_is_written(source: str, kind: Kind) -> None:
    """An author says `async` and `yield`, and nothing about threads or jobs."""
    assert declare_source(source).kind is kind


@pytest.mark.parametrize("source", CONTEXTS)
def test_the_context_may_stand_anywhere_and_is_no_input(source: str) -> None:
    """The context is recognised by its type, so that no order of parameters is wrong."""
    capability = declare_source(source)

    assert capability.context_parameter == "ctx"
    assert list(capability.input_schema["properties"]) == ["text"]


def test_a_function_without_context_has_none() -> None:
    """The context is optional: most functions do without."""
    assert declare_source("def f(text: str) -> str: return text").context_parameter is None


MISTAKES = {
    "def f(x): ...": "parameter 'x': it has no type hint: write `x: str`",
    "def f(ctx): ...": "parameter 'ctx': it has no type hint: write `ctx: TaskContext`",
    "def f(*items: str): ...": "parameter 'items': JSON has no positional arguments: write `items: list",
    "def f(**items: str): ...": "parameter 'items': every key needs a name: write `items: dict",
    "def f(x: int, /): ...": "parameter 'x': the input gives parameters by name: remove the `/`",
    "def f(x: socket.socket): ...": "parameter 'x': its hint `socket.socket` has no JSON Schema",
    "def f(x: Callable[[], int]): ...": "parameter 'x': its hint `collections.abc.Callable[[], int]`",
    "def f(x: 'Nope'): ...": "parameter 'x': its hint `Nope` uses 'Nope', which is not defined",
    "def f(x: 'list[Nope]'): ...": "its hint `list[Nope]` uses 'Nope'",
    "def f(x: 'int |'): ...": "parameter 'x': its hint `int |` is not a type (SyntaxError",
    "def f(x: '1/0'): ...": "its hint `1/0` is not a type (ZeroDivisionError",
    "def f(x: 5): ...": "parameter 'x': its hint `5` has no JSON Schema",
    "def f() -> 'Nope': ...": "the return value: its hint `Nope` uses 'Nope'",
    "def f() -> socket.socket: ...": "the return value: its hint `socket.socket` has no JSON Schema",
    "async def f() -> AsyncIterator[socket.socket]: yield 1": "the return value: its hint `socket",
    "def f(): yield 1": "f() is a sync generator: write `async def` with `yield`",
    "async def f() -> AsyncIterator[int]: ...": "but it never yields: write `async def` and `yield`",
    "def f() -> AsyncIterator[int]: ...": "but it never yields",
    "async def f() -> typing.AsyncIterable: ...": "but it never yields",
    "async def f() -> int: yield 1": "it yields, so the return hint must say what it yields: "
    "write `-> AsyncIterator[int]`",
    "def f(a: TaskContext, b: TaskContext): ...": "parameter 'b': 'a' is the TaskContext already",
    "def f(ctx: LoopContext): ...": "a capability is given a TaskContext: write `ctx: TaskContext`",
    "class f(BaseModel): x: int": "sample: f is a class: declare a function that takes",
    "class C:\n  def f(self, x: int): ...\nf = C().f": "C.f() is a method: declare a function",
    "class C:\n  def f(self, x: int): ...\nf = C.f": "parameter 'self': this is a method",
    "f = print": "<built-in function print> is not a plain function: write one with `def`",
    "f = partial(int)": "is not a plain function",
    "f = lambda: 1": "a lambda has no name: write `def`, or give name=",
    "def f(x: int = None): ...": "parameter 'x': its default None does not fit its hint `int`",
    "def f(x: int = 'a'): ...": "its default 'a' does not fit its hint `int`",
    "def f(x: int = Field('a')): ...": "its default 'a' does not fit its hint `int`",
    "def f(x: Annotated[int, Field(ge=5)] = 1): ...": "(Input should be greater than or equal to 5)",
    "def f(x: socket.socket = 1): ...": "parameter 'x': its hint `socket.socket` has no JSON Schema",
    "def f(d: Document = Document(text='')): ...": "the model is the whole input, so it cannot have",
    "class M(BaseModel):\n  x: 'Nope'\ndef f(m: M): ...": "parameter 'm': its hint `sample.M` has no "
    "JSON Schema",
    "class M(BaseModel):\n  x: Callable\ndef f(m: M): ...": "parameter 'm': its hint `sample.M` has no",
    "def f(a: Annotated[int, Field(alias='x')] = 'a'): ...": "its default 'a' does not fit its hint",
    "def f(a: Annotated[int, Field(alias='x')], b: Annotated[str, Field(pattern='[')]): ...": (
        "parameter 'b': its hint"
    ),
}


@pytest.mark.parametrize("future", ["", FUTURE])
@pytest.mark.parametrize(("source", "message"), MISTAKES.items())
def test_a_mistake_is_named_with_its_place_and_the_way_out(
    source: str, message: str, future: str
) -> None:
    """A wrong declaration fails at import, in one line that can be acted on."""
    with pytest.raises(DeclarationError, match=re.escape(message)) as caught:
        declare_source(future + source)

    assert "\n" not in str(caught.value)


def test_the_message_begins_with_module_line_and_function() -> None:
    """An editor can jump to the function."""
    with pytest.raises(DeclarationError) as caught:
        declare_source("\n\ndef f(x): ...")

    assert str(caught.value).startswith(f"sample:{FIRST_LINE + 2}: f(): parameter 'x': ")


def test_none_as_a_default_is_answered_with_the_optional_hint() -> None:
    """`x: int = None` is the commonest slip, and the fix is always the same."""
    with pytest.raises(DeclarationError, match=r"write `x: int \| None = None`"):
        declare_source("def f(x: int = None): ...")


def test_a_class_that_is_not_fully_defined_is_answered_with_the_order() -> None:
    """Pydantic puts off what it cannot resolve; a declaration cannot."""
    with pytest.raises(DeclarationError, match="define every class that it uses above"):
        declare_source("class M(BaseModel):\n  x: 'Nope'\ndef f(m: M): ...")


def test_a_hint_that_only_fails_among_others_is_still_a_declaration_error() -> None:
    """Whatever pydantic says, the author hears which function it is about."""
    source = (
        "class Odd:\n"
        "  calls = 0\n"
        "  @classmethod\n"
        "  def __get_pydantic_core_schema__(cls, source, handler):\n"
        "    Odd.calls += 1\n"
        "    if Odd.calls == 1: raise RuntimeError('odd')\n"
        "    return handler(int)\n"
        "def f(a: int, x: Odd): ...\n"
    )
    with pytest.raises(DeclarationError, match=r"its parameters: its hint `int, sample.Odd`.*odd"):
        declare_source(source)


HIDDEN = """\
def passing(inner):
    @wraps(inner)
    def wrapper(*args, **kwargs): return inner(*args, **kwargs)
    return wrapper

@passing
"""


@pytest.mark.parametrize(
    "body", ["async def f(x: int) -> int: return x", "async def f(x: int): yield x"]
)
def test_a_decorator_that_hides_async_is_refused(body: str) -> None:
    """Such a wrapper would run in a thread and answer with a coroutine."""
    with pytest.raises(DeclarationError, match="make the decorator's wrapper `async def`"):
        declare_source(HIDDEN + body)


def test_a_decorator_that_hides_a_generator_is_refused() -> None:
    """A wrapped sync generator is one all the same."""
    with pytest.raises(DeclarationError, match="is a sync generator"):
        declare_source(HIDDEN + "def f(x: int): yield x")


def test_a_decorated_function_keeps_its_hints() -> None:
    """`functools.wraps` is enough for a decorator to be transparent."""
    capability = declare_source(HIDDEN + "def f(x: int) -> int: return x + 1")

    assert capability.call(capability.validate(b'{"x": 1}'), make_context()) == 2


def test_a_wrapped_callable_that_is_no_function_is_read_through_its_wrapper() -> None:
    """`wraps` may point at an object; then the wrapper's own module counts."""
    source = (
        "class Tool:\n"
        "  __qualname__ = 'Tool'\n"
        "  __module__ = 'tools'\n"
        "  def __call__(self, x: int) -> int: return x\n"
        "tool = Tool()\n"
        "def f(x: int) -> int: return tool(x)\n"
        "f.__wrapped__ = tool\n"
    )
    assert declare_source(source).kind is Kind.SYNC
    with pytest.raises(DeclarationError, match=r"^tools:\?: f\(\): max_attempts"):
        declare_source(source, max_attempts=0)


async def test_declaring_has_no_side_effect_on_the_function() -> None:
    """The author's function stays what it was: tests call it directly."""
    function = define("async def f(x: int) -> int: return x")
    declare(function)

    assert await asyncio.wait_for(function(3), 1) == 3
