"""What cannot be a loop or a hook is refused at import, with a way out."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import kagent_sdk
from kagent_sdk import DeclarationError, LoopContext, TaskContext
from kagent_sdk.worker.declarations import check_hook, declare_loop


async def plain() -> None:
    """Do nothing."""


def sync() -> None:
    """Do nothing."""


async def with_context(ctx: LoopContext) -> None:
    """Do nothing."""


async def with_qualified(ctx: kagent_sdk.LoopContext) -> None:
    """Do nothing."""


async def without_hint(ctx) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Do nothing."""


@pytest.mark.parametrize(
    ("function", "is_async", "takes_context"),
    [
        (plain, True, False),
        (sync, False, False),
        (with_context, True, True),
        (with_qualified, True, True),
        (without_hint, True, True),
    ],
)
def test_a_function_becomes_a_loop(function: Any, is_async: bool, takes_context: bool) -> None:
    """Async or not, with a context or not."""
    part = declare_loop(function, 30, None)

    assert (part.name, part.every_s) == (function.__name__, 30.0)
    assert (part.is_async, part.takes_context) == (is_async, takes_context)


async def two(ctx: LoopContext, more: int) -> None:
    """Do nothing."""


async def star(*args: int) -> None:
    """Do nothing."""


async def wrong(ctx: TaskContext) -> None:
    """Do nothing."""


async def unknown(ctx: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
    """Do nothing."""


async def generator() -> AsyncIterator[int]:
    """Yield."""
    yield 1


def sync_generator() -> Iterator[int]:
    """Yield."""
    yield 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (two, r"two\(\): a loop takes one `ctx: LoopContext` or nothing, not \(ctx, more\)"),
        (star, r"not \(\*args\)"),
        (wrong, r"parameter 'ctx': a loop is given a LoopContext, not TaskContext: write"),
        (unknown, r"not Nowhere: write `ctx: LoopContext`"),
        (generator, "a loop does not yield: remove the `yield`"),
        (sync_generator, "a loop does not yield"),
        (functools.partial(plain), "is not a plain function: write one"),
        (None, "is not a plain function"),
    ],
)
def test_a_loop_that_could_not_be_called_is_refused(function: Any, message: str) -> None:
    """At import, not at three in the morning."""
    with pytest.raises(DeclarationError, match=message):
        declare_loop(function, None, None)


@pytest.mark.parametrize("every_s", [0, -1, float("nan"), float("inf"), True, "30"])
def test_a_period_that_is_none_is_refused(every_s: Any) -> None:
    """Zero would be a busy loop, infinity never."""
    with pytest.raises(DeclarationError, match="every_s must be a number of seconds above 0"):
        declare_loop(plain, every_s, None)


@pytest.mark.parametrize("name", ["two words", "x" * 65, "9", 7])
def test_a_name_that_is_none_is_refused(name: Any) -> None:
    """It stands in metrics and log lines."""
    with pytest.raises(DeclarationError, match=r"plain\(\): name .* must begin with a letter"):
        declare_loop(plain, None, name)


def with_default(verbose: bool = False, *args: int, **options: int) -> None:  # noqa: FBT002
    """Do nothing."""


def needs(database: str) -> None:
    """Do nothing."""


@pytest.mark.parametrize("hook", [plain, sync, with_default, functools.partial(needs, "x")])
def test_a_hook_is_whatever_can_be_called_with_nothing(hook: Any) -> None:
    """Methods and partials too."""
    assert check_hook("on_startup", hook) is hook


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (needs, "parameter 'database': an on_startup function is given nothing"),
        (functools.partial(needs), "parameter 'database'"),
        (generator, "does not yield: write two functions"),
        (7, "@agent.on_startup takes a function, not 7"),
    ],
)
def test_a_hook_that_could_not_be_called_is_refused(hook: Any, message: str) -> None:
    """At import."""
    with pytest.raises(DeclarationError, match=message):
        check_hook("on_startup", hook)
