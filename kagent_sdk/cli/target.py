"""An agent to talk to, and what the caller shows to be let in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Target:
    """An agent to talk to.

    Attributes:
        url: its base address, without a slash at the end.
        token: the bearer token, or None when there is none to send.
        certificate: the one that it must show, as PEM; None for one that the system trusts.
        client_certificate: file with the certificate and key to show to it, if it asks.
        relay: a program whose stdin and stdout lead to it; empty: it is reached directly.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    certificate: str | None = None
    client_certificate: Path | None = None
    relay: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the caller names to be let in.

    Attributes:
        token_file: file with the bearer token.
        client_certificate: file with a certificate and its key.
    """

    token_file: Path | None = None
    client_certificate: Path | None = None
