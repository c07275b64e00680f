"""What an agent is made of, as the worker sees it: plain data that `kagent_sdk.agent` collects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kagent_sdk.capability import Capability
from kagent_sdk.worker.agent_state import AgentState

Hook = Callable[[], Any]
"""An ``on_startup`` or ``on_shutdown`` function, sync or async."""


@dataclass(frozen=True, slots=True)
class LoopPart:
    """One of the author's loops.

    Attributes:
        name: unique among the agent's loops.
        function: sync or async; takes a `LoopContext` if ``takes_context``.
        every_s: from the start of one run to the start of the next; None: one run for the
            agent's life.
        is_async: whether ``function`` is a coroutine function; else it has a thread of its own.
        takes_context: whether ``function`` has a parameter.
    """

    name: str
    function: Callable[..., Any]
    every_s: float | None
    is_async: bool
    takes_context: bool


@dataclass(frozen=True, slots=True)
class SecretsHook:
    """An ``on_secrets_changed`` function.

    Attributes:
        function: sync or async; takes the `Secrets` if ``takes_secrets``.
        takes_secrets: whether ``function`` has a parameter.
    """

    function: Callable[..., Any]
    takes_secrets: bool


@dataclass(frozen=True, slots=True)
class AgentParts:
    """Everything that an author declared, in the order of declaration.

    Attributes:
        state: the author's way to the state outside of tasks and loops; for the worker to connect.
    """

    name: str | None
    version: str | None
    capabilities: tuple[Capability, ...]
    loops: tuple[LoopPart, ...]
    on_startup: tuple[Hook, ...]
    on_shutdown: tuple[Hook, ...]
    on_secrets_changed: tuple[SecretsHook, ...] = ()
    state: AgentState = field(default_factory=AgentState)
