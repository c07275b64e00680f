"""A connection for programs that send tasks to agents and are none themselves."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kagent_sdk.errors import LinkError
from kagent_sdk.link.nats import jobs
from kagent_sdk.link.nats.caller import NatsCaller
from kagent_sdk.link.nats.connection import FAILURES, Access, Bus, describe
from kagent_sdk.link.nats.limits import NatsLimits
from kagent_sdk.link.settings import LinkTls


@asynccontextmanager
async def connect_caller(
    url: str,
    *,
    token: str | None = None,
    tls: LinkTls | None = None,
    timeout_s: float = 10.0,
    limits: NatsLimits | None = None,
    connect_s: float | None = None,
) -> AsyncIterator[NatsCaller]:
    """Give a caller; a server that is away is waited for.

    Args:
        url: of the server.
        token: to show.
        tls: authorities and certificate.
        timeout_s: for one request.
        limits: of the link.
        connect_s: how long a server that is away is waited for; None: without end.

    Raises:
        LinkError: the server cannot be used, or was not there in time.
    """
    access = Access(
        url=url,
        name="kOS caller",
        inbox=f"_INBOX_{secrets.token_hex(8)}",
        timeout_s=timeout_s,
        token=lambda: token,
        tls=tls,
    )
    bus = Bus(access, limits or NatsLimits())
    try:
        try:
            await jobs.finish(bus.open(), connect_s)
        except jobs.OverdueError:
            raise LinkError(bus.last_error or "no NATS server answers") from None
        except FAILURES as exc:
            raise LinkError(describe(exc)) from None
        yield NatsCaller(bus)
    finally:
        await bus.close()
