"""The author's API: declaring, and refusing what cannot work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from kagent_sdk import Agent, DeclarationError, LoopContext, StartupError, TaskContext
from kagent_sdk import agent as agent_module
from kagent_sdk.capability import Kind


async def greet(name: str) -> str:
    """Say hello."""
    return f"Hello, {name}!"


async def test_a_capability_is_declared_with_or_without_parentheses() -> None:
    """The function stays what it was."""
    agent = Agent()

    @agent.capability
    async def plain(ctx: TaskContext) -> None: ...

    @agent.capability(name="named", idempotent=True, timeout_s=3)
    async def other() -> None: ...

    @agent.capability()
    async def stream() -> AsyncIterator[int]:
        yield 1

    assert agent.capability(greet) is greet
    assert await greet("Ada") == "Hello, Ada!"
    assert list(agent.capabilities) == ["plain", "named", "stream", "greet"]
    assert agent.capabilities["named"].options.timeout_s == 3
    assert agent.capabilities["stream"].kind is Kind.STREAM


def test_the_capabilities_are_read_only() -> None:
    """A dictionary that can be written to would go round every check."""
    with pytest.raises(TypeError):
        Agent().capabilities["x"] = None  # type: ignore[index]


def test_a_loop_is_declared_with_or_without_parentheses() -> None:
    """Periodic, or for the agent's life."""
    agent = Agent()

    @agent.loop
    async def live(ctx: LoopContext) -> None: ...

    @agent.loop(every_s=30, name="sweep")
    def often() -> None: ...

    first, second = agent.parts.loops
    assert (first.name, first.every_s, first.is_async) == ("live", None, True)
    assert (second.name, second.every_s, second.function) == ("sweep", 30, often)


def test_hooks_are_kept_in_order() -> None:
    """The worker runs them so, and in reverse at the end."""
    agent = Agent("a", "1")

    @agent.on_startup
    def first() -> None: ...

    @agent.on_startup
    async def second() -> None: ...

    @agent.on_shutdown
    def third() -> None: ...

    parts = agent.parts
    assert (parts.name, parts.version) == ("a", "1")
    assert parts.on_startup == (first, second)
    assert parts.on_shutdown == (third,)


def test_two_capabilities_or_loops_of_one_name_are_refused() -> None:
    """The message names both places."""
    agent = Agent()
    agent.capability(greet)
    agent.loop(every_s=1, name="sweep")(lambda: None)
    with pytest.raises(DeclarationError) as caught:

        @agent.capability(name="greet")
        def other() -> None: ...

    message = str(caught.value)
    assert message.startswith("capability 'greet' is declared twice: ")
    assert "greet()" in message
    assert "other()" in message
    assert message.endswith("rename one, or give it another name=…")
    with pytest.raises(DeclarationError, match="loop 'sweep' is declared twice: "):
        agent.loop(every_s=1, name="sweep")(lambda: None)


def test_options_without_names_are_refused_with_what_to_write() -> None:
    """The likely mistakes."""
    agent = Agent()
    with pytest.raises(DeclarationError, match=r"write @agent.capability\(name='digest'\)"):
        agent.capability("digest")  # type: ignore[call-overload]
    with pytest.raises(DeclarationError, match=r"write @agent.loop\(every_s=30\)"):
        agent.loop(30)  # type: ignore[call-overload]


def test_numbers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host would refuse the worker's first frame."""
    monkeypatch.setattr(agent_module, "MAX_CAPABILITIES", 1)
    monkeypatch.setattr(agent_module, "MAX_LOOPS", 1)
    agent = Agent()
    agent.capability(greet)
    agent.loop(name="a")(lambda: None)
    with pytest.raises(DeclarationError, match="at most 1 capabilities"):
        agent.capability(name="other")(greet)
    with pytest.raises(DeclarationError, match="at most 1 loops"):
        agent.loop(name="b")(lambda: None)


@pytest.mark.parametrize("value", ["", "x" * 101, 7])
def test_a_name_or_version_that_is_none_is_refused(value: Any) -> None:
    """At the line that says it."""
    with pytest.raises(DeclarationError, match="name must be a string of 1 to 100 characters"):
        Agent(value)
    with pytest.raises(DeclarationError, match="version must be a string"):
        Agent(version=value)


def test_an_agent_shows_what_it_can() -> None:
    """In a REPL, and in a failed assertion."""
    agent = Agent("a")
    assert repr(agent) == "<Agent a: no capability>"
    agent.capability(greet)

    assert repr(agent) == "<Agent a: greet>"
    assert repr(Agent()) == "<Agent unnamed: no capability>"


async def test_run_in_an_event_loop_points_to_serve() -> None:
    """It would block the loop that it runs in."""
    with pytest.raises(StartupError, match="outside of every async function"):
        Agent().run()


def test_run_without_a_script_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no folder that a host could run."""
    monkeypatch.delattr("__main__.__file__")
    agent = Agent()
    with pytest.raises(StartupError, match="found no script to run"):
        agent.run()
    with pytest.raises(StartupError, match="called twice"):
        agent.run()
    with pytest.raises(DeclarationError, match=r"is declared after agent.run\(\) began"):
        agent.capability(greet)
