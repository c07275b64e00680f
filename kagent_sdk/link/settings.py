"""What every link is built from, whatever its protocol."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class LinkTlsFiles:
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
        timeout_s: for one request to the orchestrator.
        heartbeat_s: how often to say that the agent is alive, at the least.
        max_body_bytes: of an offer that is fetched.
        tls: None for the system's authorities and no certificate.
    """

    url: str
    delivery: Literal["push", "pull"] = "push"
    timeout_s: float = 15.0
    heartbeat_s: float = 5.0
    max_body_bytes: int = 16 * 1024 * 1024
    tls: LinkTlsFiles | None = None
