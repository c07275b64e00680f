"""From a name to a connection, and from what goes wrong on the way to a reason."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from kagent_sdk.errors import EgressError
from kagent_sdk.sandbox.egress.addresses import Address, parse_address
from kagent_sdk.sandbox.egress.means import Means
from kagent_sdk.sandbox.egress.passage import Passage

MAX_TRIES = 4
"""Addresses of one name that are dialled."""

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connection = TypeVar("Connection")


async def find_addresses(host: str, port: int, means: Means) -> list[Address]:
    """Return the addresses of a host: its own when it is one.

    Args:
        host: a name or an address.
        port: to connect to.
        means: resolves.

    Raises:
        EgressError: it has none, or they were not found out in time.
    """
    literal = parse_address(host)
    if literal is not None:
        return [literal]
    answer: Sequence[str] = ()
    try:
        async with asyncio.timeout(means.bounds.resolve_s):
            answer = await means.resolve(host, port)
    except TimeoutError:
        raise EgressError("timeout", f"the address of {host} was not found out in time") from None
    except OSError:
        pass
    found = [address for text in answer if (address := parse_address(text)) is not None]
    if not found:
        raise EgressError("unresolved", f"{host} has no address")
    return found


async def try_each(
    addresses: Sequence[Address],
    passage: Passage,
    within_s: float,
    connect: Callable[[str], Awaitable[Connection]],
) -> Connection:
    """Connect to one address after the other, each for a fair share of the time.

    Args:
        addresses: at least one; `MAX_TRIES` are tried at most.
        passage: the address that is tried is noted in it.
        within_s: for all.
        connect: to one; raises OSError.

    Raises:
        OSError: of the last one; of any when it is the fault of its TLS.
        TimeoutError: the time is over.
    """
    addresses = addresses[:MAX_TRIES]
    async with asyncio.timeout(within_s):
        for left in range(len(addresses), 0, -1):
            address = passage.address = str(addresses[-left])
            try:
                async with asyncio.timeout(within_s / (2 if left > 1 else 1)):
                    return await connect(address)
            except ssl.SSLError:
                raise
            except (OSError, TimeoutError):
                if left == 1:
                    raise
    raise AssertionError("there is at least one address")


@contextlib.contextmanager
def explained(where: str) -> Iterator[None]:
    """Turn what goes wrong with a connection into an `EgressError` that names who it was to."""
    try:
        yield
    except TimeoutError:
        raise EgressError("timeout", f"{where} does not answer") from None
    except ssl.SSLError as exc:
        reason = getattr(exc, "verify_message", "") or exc.reason or "the handshake failed"
        raise EgressError("tls_failed", f"{where}: no TLS: {reason}") from None
    except OSError as exc:
        reason = exc.strerror or "the connection failed"
        raise EgressError("unreachable", f"{where} cannot be reached: {reason}") from None
