"""A connection for programs that send tasks to agents and are none themselves."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kagent_sdk.errors import LinkError
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
) -> AsyncIterator[NatsCaller]:
    """Give a caller; a server that is away is waited for: bound this with `asyncio.timeout`.

    Raises:
        LinkError: the server cannot be used.
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
            await bus.open()
        except FAILURES as exc:
            raise LinkError(describe(exc)) from None
        yield NatsCaller(bus)
    finally:
        await bus.close()
