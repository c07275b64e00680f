"""What is known of one way through the proxy, and who is told of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from kagent_sdk.errors import EgressError
from kagent_sdk.sandbox.policy import Destination


class Way(enum.StrEnum):
    """How a client goes through the proxy."""

    TUNNEL = "tunnel"
    """CONNECT: bytes of TLS, which the proxy cannot read."""
    PLAIN = "plain"
    """A request for an ``http://`` URL."""
    INJECT = "inject"
    """A request to the proxy's own endpoint, with headers from the vault."""


@dataclass(slots=True)
class Passage:
    """One way to a destination that is allowed. The numbers grow while it is open.

    Attributes:
        way: see there.
        entry: of the allow-list.
        host, port: what was asked for.
        address: what is connected to; None before.
        sent_bytes, received_bytes: to and from the destination, as the client sent and got them.
        outcome: how it ended: ``done``; ``lost``: one side hung up; ``cut``: by the proxy, for it stood
            still or the agent stops; else the reason of an `EgressError`.
    """

    way: Way
    entry: Destination
    host: str
    port: int
    address: str | None = None
    sent_bytes: int = 0
    received_bytes: int = 0
    outcome: str = "cut"


class Observer(Protocol):
    """Is told what the proxy decides; in the event loop, and must neither fail nor wait."""

    def opened(self, passage: Passage) -> None:
        """Note that a destination is allowed; the connection to it comes next."""
        ...

    def closed(self, passage: Passage, error: EgressError | None, took_s: float) -> None:
        """Note that it has ended; ``error`` says why it did not end well."""
        ...

    def refused(self, error: EgressError, host: str, port: int) -> None:
        """Note what was refused before there was a passage; without a host the port is 0."""
        ...

    def broke(self, error: Exception) -> None:
        """Note a fault of the proxy's own."""
        ...
