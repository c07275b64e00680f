"""Connect to a destination: resolve once, check every address, and dial what was checked."""

from __future__ import annotations

import asyncio
import ssl

from kagent_sdk.errors import EgressError
from kagent_sdk.sandbox.egress.addresses import Address
from kagent_sdk.sandbox.egress.connecting import Stream, explained, find_addresses, try_each
from kagent_sdk.sandbox.egress.means import CHUNK_BYTES, Access, Means
from kagent_sdk.sandbox.egress.passage import Passage
from kagent_sdk.sandbox.egress.rules import Rules, show
from kagent_sdk.sandbox.egress.upstream import open_through


async def dial(
    access: Access, passage: Passage, means: Means, tls: ssl.SSLContext | None = None
) -> Stream:
    """Connect to a passage's destination; the address that was dialled is noted in it.

    Args:
        access: says which addresses may be, and whether another proxy is asked to connect.
        passage: says where to.
        means: resolves.
        tls: speak TLS by this, for the passage's host.

    Raises:
        EgressError: none may be, none answers in time, or the server is not who it should be.
    """
    upstream = access.upstream_for(passage)
    if upstream is not None:
        return await open_through(upstream, passage, means, tls)

    async def connect(address: str) -> Stream:
        # A literal: nothing is resolved a second time.
        return await asyncio.open_connection(
            address,
            passage.port,
            limit=CHUNK_BYTES,
            ssl=tls,
            server_hostname=None if tls is None else passage.host,
        )

    found = await find_addresses(passage.host, passage.port, means)
    allowed = _choose(access.rules, passage, found)
    with explained(show(passage.host, passage.port)):
        return await try_each(allowed, passage, means.bounds.connect_s, connect)


def _choose(rules: Rules, passage: Passage, found: list[Address]) -> list[Address]:
    allowed: list[Address] = []
    refusals: list[EgressError] = []
    for address in found:
        try:
            rules.check(passage.entry, address)
        except EgressError as exc:
            refusals.append(exc)
        else:
            allowed.append(address)
    if not allowed:
        raise refusals[0]
    return allowed
