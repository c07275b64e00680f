"""The egress proxy in the host: who may use it, where it listens, and its life.

It must be there before the first worker, whose policy has its port: so `Egress.admit` opens what
listens at once, without an event loop, and `Egress.run` serves what has come meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kagent_sdk.config.models import AgentConfig

RELAY_PORT = 3128
"""Of the relay inside a network namespace of a worker's own, where nothing else listens."""

Log = Callable[..., None]
"""As `LogPump.log`: level, event, values."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What the workers of one generation may do through the proxy.

    Attributes:
        port: where they find it on 127.0.0.1; belongs in ``Policy.network.connect``.
        token: what they show it.
        socket_path: with isolation ``bwrap``, the socket that the relay in the worker's network
            namespace connects to: bind it into the sandbox; None: the port is the host's own.
        is_only_way: there is no other; false with ``external: true`` or ``mode: off``, where the
            proxy serves ``AGENT_EGRESS_URL`` alone.
    """

    port: int
    token: str = field(repr=False)
    socket_path: Path | None
    is_only_way: bool


class Egress:
    """Holds the proxy of one agent.

    Args:
        directory: the agent's folder.
    """

    def __init__(self, directory: Path) -> None: ...

    def admit(self, config: AgentConfig) -> Grant | None:
        """Let a generation of workers use the proxy by this configuration.

        Call it before they are started; every generation has rules of its own, so a reload
        takes nothing from tasks that still run. None: the configuration has no proxy.

        Raises:
            StartupError: there is no port, or the socket cannot be made.
        """
        ...

    def withdraw(self, grant: Grant | None) -> None:
        """Take a grant back, and cut what still uses it: its workers are gone."""

    async def run(self, log: Log, find_secret: Callable[[str], object]) -> None:
        """Serve until cancelled; then everything is closed.

        Args:
            log: writes a record; never blocks.
            find_secret: returns a secret of the vault as it is now; None when there is none.
        """

    def close(self) -> None:
        """Close what listens, where `run` was never reached; idempotent."""

    def section(self) -> dict[str, Any]:
        """Return what ``/status`` tells of it."""
        ...


def egress_environment(grant: Grant | None) -> dict[str, str]:
    """Return the environment variables that lead a worker to the proxy; none without a grant."""
    ...
