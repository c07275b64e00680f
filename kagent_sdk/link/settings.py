"""What every link is built from, whatever its protocol."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class LinkTls:
    """Files of TLS, all in PEM form; the paths are absolute.

    Attributes:
        ca: who may have signed the orchestrator; None for the system's.
        certificate, key: the agent's own; both or neither.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """How to reach the orchestrator, and what is allowed to come from it.

    Attributes:
        url: checked by `kagent_sdk.config.orchestrator`; without a slash at the end.
        delivery: who asks whom for tasks.
        heartbeat_s: how often to say that the agent is alive, at the least.
        timeout_s: for one request to the orchestrator.
        tls: None for the system's authorities and no certificate.
        max_body_bytes: of an offer that is fetched, and of what a call to another agent returns.
        random: returns a number from 0 to 1.
    """

    url: str
    delivery: Literal["push", "pull"] = "push"
    heartbeat_s: float = 5.0
    timeout_s: float = 15.0
    tls: LinkTls | None = None
    max_body_bytes: int = 16 * 1024 * 1024
    random: Callable[[], float] = field(default=random.random, repr=False)
