"""What a link over HTTP is told when it is made."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class LinkTls:
    """Files of TLS; they are read anew after TLS has failed, so rotated ones are found.

    Attributes:
        ca: PEM file with who may have signed the orchestrator's certificate; None: the system's.
        certificate: PEM file with the agent's own certificate.
        key: PEM file with its key.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Where the orchestrator is, and how to talk with it.

    Attributes:
        url: ``http(s)://HOST:PORT``, perhaps with a path, without a slash at the end.
        delivery: with ``pull`` tasks are fetched.
        heartbeat_s: the longest pause between two heartbeats.
        timeout_s: for one request, connection and answer included.
        tls: for ``https``.
        max_body_bytes: of an offer, and of what a call to another agent returns.
        random: returns a number from 0 to 1.
    """

    url: str
    delivery: Literal["push", "pull"] = "push"
    heartbeat_s: float = 5.0
    timeout_s: float = 15.0
    tls: LinkTls | None = None
    max_body_bytes: int = 16 * 1024 * 1024
    random: Callable[[], float] = field(default=random.random, repr=False)
