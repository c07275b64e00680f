"""The agents that are there: each says so again and again, and who is silent is forgotten."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from kagent_sdk.link.nats import names
from kagent_sdk.protocol.link import Registration

if TYPE_CHECKING:
    from kagent_sdk.link.nats.connection import Bus

MAX_AGENTS = 10_000
MAX_ENTRY_BYTES = 512 * 1024


def entry(registration: Registration, max_bytes: int = MAX_ENTRY_BYTES) -> bytes:
    """Return what the registry says of an agent: nothing secret, and not too much.

    The schemas of very many capabilities stay out; the agent itself answers with them.
    """
    public = registration.model_copy(update={"token": None, "tasks": ()})
    body = public.model_dump_json(exclude_none=True).encode()
    if len(body) <= max_bytes:
        return body
    bare: dict[str, object] = {
        "input_schema": {},
        "output_schema": {},
        "event_schema": None,
        "description": "",
    }
    slim = tuple(one.model_copy(update=bare) for one in registration.capabilities)
    return public.model_copy(update={"capabilities": slim}).model_dump_json().encode()


def choose(
    agents: Iterable[Registration],
    capability: str,
    labels: Mapping[str, str],
    tie: float,
) -> str | None:
    """Return the agent, by name, whose least loaded replica has the most room; None: there is none.

    Args:
        agents: who is there.
        capability: what it must offer.
        labels: what it must be labelled with.
        tie: a number from 0 to 1 that decides between equals.
    """
    offering = [
        one
        for one in agents
        if labels.items() <= one.labels.items()
        and any(offered.name == capability for offered in one.capabilities)
    ]
    if not offering:
        return None
    best = min(_load(one) for one in offering)
    equals = sorted({one.agent for one in offering if _load(one) == best})
    return equals[min(int(tie * len(equals)), len(equals) - 1)]


def _load(agent: Registration) -> tuple[bool, float]:
    status = agent.status
    return not status.ready, (status.working + status.queued) / agent.limits.max_concurrency


@dataclass(frozen=True, slots=True)
class _Known:
    agents: tuple[Registration, ...]
    at_s: float


class Registry:
    """Reads the registry and writes the agent's own entry. All methods raise `FAILURES`."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._known: _Known | None = None

    async def put(self, registration: Registration) -> None:
        """Say that the agent is there."""
        key = names.agent_key(registration.agent, registration.instance)
        await self._bus.agents.put(key, entry(registration))

    async def remove(self, registration: Registration) -> None:
        """Say that it is not."""
        await self._bus.agents.delete(names.agent_key(registration.agent, registration.instance))

    async def agents(self) -> tuple[Registration, ...]:
        """Return who is there; what is no entry of an agent is left out."""
        watcher = await self._bus.agents.watchall(ignore_deletes=True)
        timeout_s = self._bus.access.timeout_s
        found: list[Registration] = []
        try:
            while True:
                one = await watcher.updates(timeout_s)  # type: ignore[no-untyped-call]
                if one is None:
                    break
                try:
                    found.append(Registration.model_validate_json(one.value or b""))
                except ValidationError:
                    continue
                if len(found) >= MAX_AGENTS:
                    break
        finally:
            await watcher.stop()  # type: ignore[no-untyped-call]
        return tuple(found)

    async def choose(self, capability: str, labels: Mapping[str, str]) -> str | None:
        """Return the name of an agent for a task; None when none is there."""
        known = self._known
        now_s = time.monotonic()
        if known is None or now_s - known.at_s > self._bus.limits.choices_s:
            known = self._known = _Known(await self.agents(), now_s)
        return choose(known.agents, capability, labels, random.random())  # noqa: S311 - a tie
