"""Connect to a destination: resolve once, check every address, and dial what was checked."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence

from kagent_sdk.errors import EgressError
from kagent_sdk.sandbox.egress.addresses import Address, parse_address
from kagent_sdk.sandbox.egress.means import CHUNK_BYTES, Means
from kagent_sdk.sandbox.egress.passage import Passage
from kagent_sdk.sandbox.egress.rules import Rules, show

MAX_TRIES = 4
"""Addresses of one name that are dialled."""

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def dial(
    rules: Rules, passage: Passage, means: Means, tls: ssl.SSLContext | None = None
) -> Stream:
    """Connect to a passage's destination; its address is noted in it.

    Args:
        rules: say which addresses may be.
        passage: says where to.
        means: resolves.
        tls: speak TLS by this, for the passage's host.

    Raises:
        EgressError: none may be, none answers in time, or the server is not who it should be.
    """
    addresses = await _find_addresses(rules, passage, means)
    where = show(passage.host, passage.port)
    try:
        async with asyncio.timeout(means.bounds.connect_s):
            return await _try(addresses, passage, means.bounds.connect_s, tls)
    except TimeoutError:
        raise EgressError("timeout", f"{where} does not answer") from None
    except ssl.SSLError as exc:
        reason = getattr(exc, "verify_message", "") or exc.reason or "the handshake failed"
        raise EgressError("tls_failed", f"{where}: no TLS: {reason}") from None
    except OSError as exc:
        reason = exc.strerror or "the connection failed"
        raise EgressError("unreachable", f"{where} cannot be reached: {reason}") from None


async def _find_addresses(rules: Rules, passage: Passage, means: Means) -> list[Address]:
    literal = parse_address(passage.host)
    if literal is not None:
        found: list[Address] = [literal]
    else:
        answer = await _resolve(passage, means)
        found = [address for text in answer if (address := parse_address(text)) is not None]
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
        raise refusals[0] if refusals else _unresolved(passage.host)
    return allowed[:MAX_TRIES]


async def _resolve(passage: Passage, means: Means) -> Sequence[str]:
    try:
        async with asyncio.timeout(means.bounds.resolve_s):
            return await means.resolve(passage.host, passage.port)
    except TimeoutError:
        raise EgressError(
            "timeout", f"the address of {passage.host} was not found out in time"
        ) from None
    except OSError:
        raise _unresolved(passage.host) from None


def _unresolved(host: str) -> EgressError:
    return EgressError("unresolved", f"{host} has no address")


async def _try(
    addresses: list[Address], passage: Passage, within_s: float, tls: ssl.SSLContext | None
) -> Stream:
    """Dial one address after the other, each for a fair share of the time."""
    for left in range(len(addresses), 0, -1):
        address = str(addresses[-left])
        passage.address = address
        try:
            async with asyncio.timeout(within_s / (2 if left > 1 else 1)):
                # A literal: nothing is resolved a second time.
                return await asyncio.open_connection(
                    address,
                    passage.port,
                    limit=CHUNK_BYTES,
                    ssl=tls,
                    server_hostname=None if tls is None else passage.host,
                )
        except ssl.SSLError:
            raise
        except (OSError, TimeoutError):
            if left == 1:
                raise
    raise AssertionError("there is at least one address")
