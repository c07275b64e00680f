"""``on_secrets_changed``: every function is told, whatever the one before it does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from kagent_sdk.agent import Agent
from kagent_sdk.context import Secrets
from kagent_sdk.errors import DeclarationError
from kagent_sdk.worker.parts import SecretsHook
from kagent_sdk.worker.secret_changes import SecretChanges

SECRETS = Secrets({"key": "hunter2"})


def changes_for(*functions: Callable[..., Any]) -> SecretChanges:
    """Return what calls these functions; those with a parameter take the secrets."""
    agent = Agent()
    for function in functions:
        agent.on_secrets_changed(function)
    return SecretChanges(agent.parts.on_secrets_changed, SECRETS)


async def test_functions_of_every_kind_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """One that fails is logged and keeps nobody from the news."""
    told = asyncio.Event()
    seen: list[object] = []

    def plain() -> None:
        seen.append("plain")

    def failing() -> None:
        raise SystemExit("no")

    async def last(secrets: Secrets) -> None:
        await asyncio.sleep(0)
        seen.append(secrets)
        told.set()

    changes = changes_for(plain, failing, last)
    changes.note()
    changes.start()
    await told.wait()
    changes.close()

    assert seen == ["plain", SECRETS]
    assert "failing' failed:" in capsys.readouterr().err


async def test_changes_that_come_meanwhile_are_told_together() -> None:
    """A connection pool is not made anew for values that are gone already."""
    begun, go_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()
    count = 0

    async def hook() -> None:
        nonlocal count
        count += 1
        begun.set()
        await go_on.wait()
        if count == 2:
            done.set()

    changes = changes_for(hook)
    changes.start()
    changes.note()
    await begun.wait()
    changes.note()
    changes.note()
    go_on.set()
    await done.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    changes.close()

    assert count == 2


async def test_without_functions_there_is_no_job() -> None:
    """Most agents ask `ctx.secrets` each time and need none."""
    before = asyncio.all_tasks()
    changes = changes_for()
    changes.start()
    changes.note()

    assert asyncio.all_tasks() == before
    changes.close()


async def test_closing_ends_a_function_that_hangs() -> None:
    """A shutdown does not wait for it."""
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def hook() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    changes = changes_for(hook)
    changes.note()
    changes.start()
    await begun.wait()
    changes.close()

    async with asyncio.timeout(10):
        await cancelled.wait()


def _two(a: object, b: object) -> None: ...


def _keyword(*, secrets: object) -> None: ...


def _generator() -> Any:
    yield


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (_two, "is given the Secrets or nothing, not (a, b)"),
        (_keyword, "is given the Secrets or nothing, not (secrets)"),
        (_generator, "does not yield"),
        (7, "takes a function, not 7"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused(function: Any, reason: str) -> None:
    """At import, not at the first rotation in three months."""
    with pytest.raises(DeclarationError) as caught:
        Agent().on_secrets_changed(function)

    assert reason in str(caught.value)


def test_optional_parameters_are_left_to_the_function() -> None:
    """A function that is also called by hand keeps its defaults."""
    hook = Agent().on_secrets_changed(lambda secrets=None, *rest, **more: (secrets, rest, more))

    agent = Agent()
    agent.on_secrets_changed(hook)
    assert agent.parts.on_secrets_changed == (SecretsHook(hook, takes_secrets=False),)
