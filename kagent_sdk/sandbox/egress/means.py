"""What the proxy needs from outside, and its bounds."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kagent_sdk.sandbox.egress.passage import Observer, Passage
from kagent_sdk.sandbox.egress.rules import Rules, leads_inside
from kagent_sdk.sandbox.policy import Destination

CHUNK_BYTES = 64 * 1024
"""What is read at a time, and what may wait on a connection in one direction, twice."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""A name and a port to addresses, in the order to try; raises OSError when there is none."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of the host the proxy may take.

    Attributes:
        connections: of clients, at a time; one more is answered 503 and closed.
        head_s: for a request's head, once its connection is open.
        keep_alive_s: between two requests.
        hello_s: for the greeting of TLS.
        resolve_s, connect_s: for a name, and for the connection with TLS.
        idle_s: without a byte in either direction.
    """

    connections: int = 256
    head_s: float = 10
    keep_alive_s: float = 60
    hello_s: float = 10
    resolve_s: float = 5
    connect_s: float = 10
    idle_s: float = 600


@dataclass(frozen=True, slots=True)
class Injection:
    """A header that is added to requests.

    Attributes:
        header: its name.
        prefix: before the secret.
        secret: its name in the vault.
        tls: speak TLS with the destination.
    """

    header: str
    prefix: str
    secret: str
    tls: bool


@dataclass(frozen=True, slots=True)
class Access:
    """What the holder of a token may do.

    Attributes:
        rules: where to.
        injections: by host and port; the host as `parse_authority` returns it.
        upstream: another egress proxy, by way of which everything outside this site is reached;
            None: it is dialled from here.
    """

    rules: Rules
    injections: Mapping[tuple[str, int], tuple[Injection, ...]] = field(default_factory=dict)
    upstream: Destination | None = None

    def upstream_for(self, passage: Passage) -> Destination | None:
        """Return the proxy by way of which a destination is reached; None: it is dialled from here."""
        return None if leads_inside(passage.entry, passage.host) else self.upstream


@dataclass(frozen=True, slots=True)
class Means:
    """What the proxy needs from outside.

    Attributes:
        resolve: asked once for each connection; what it answers is checked, then dialled.
        make_tls: returns the context that verifies servers; called in a thread, once.
        find_secret: returns a secret as it is now; None when there is none that fits a header.
        observer: told of every decision.
        bounds: see there.
    """

    resolve: Resolve
    make_tls: Callable[[], ssl.SSLContext]
    find_secret: Callable[[str], str | None]
    observer: Observer
    bounds: Bounds = Bounds()
