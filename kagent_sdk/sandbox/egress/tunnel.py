"""CONNECT: carry TLS that the proxy cannot read, once its greeting shows that it is for the host."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from kagent_sdk.errors import EgressError
from kagent_sdk.sandbox.egress.addresses import parse_address
from kagent_sdk.sandbox.egress.bodies import Count
from kagent_sdk.sandbox.egress.client import Client
from kagent_sdk.sandbox.egress.client_hello import (
    UNRECOGNIZED_NAME,
    check_name,
    read_client_hello,
)
from kagent_sdk.sandbox.egress.dialing import dial
from kagent_sdk.sandbox.egress.means import CHUNK_BYTES, Access, Means
from kagent_sdk.sandbox.egress.passage import Passage

_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


async def open_tunnel(
    client: Client,
    passage: Passage,
    access: Access,
    means: Means,
    on_answer: Callable[[], object],
) -> None:
    """Connect a client to a destination, and carry bytes until both have ended.

    Args:
        client: who asked.
        passage: where to.
        access: says which addresses may be.
        means: see there.
        on_answer: called before the client is told that there is a connection.

    Raises:
        EgressError: there is no connection, or what the client sent may not pass.
        OSError: a connection is lost.
    """
    reader, writer = await dial(access, passage, means)
    try:
        on_answer()
        client.writer.write(_ESTABLISHED)
        await client.writer.drain()
        hello = await _greet(client, passage, means.bounds.hello_s)
        passage.sent_bytes += len(hello)
        writer.write(hello)
        await writer.drain()
        await _carry_both(client, reader, writer, passage)
    finally:
        writer.transport.abort()


async def _greet(client: Client, passage: Passage, within_s: float) -> bytes:
    """Return what the client said first, if it is the greeting that it must be."""
    try:
        data = await _read_hello(client, passage, within_s)
    except EgressError as exc:
        if exc.reason in {"wrong_name", "encrypted_hello"}:
            client.writer.write(UNRECOGNIZED_NAME)
            with suppress(OSError):
                await client.writer.drain()
        raise
    return data


async def _read_hello(client: Client, passage: Passage, within_s: float) -> bytes:
    data = b""
    hello = None
    try:
        async with asyncio.timeout(within_s):
            while hello is None:
                more = await client.reader.read(CHUNK_BYTES)
                if not more:
                    raise EgressError("no_tls", "the client said nothing")
                data += more
                hello = read_client_hello(data)
    except TimeoutError:
        raise EgressError("no_tls", "the client did not greet in time") from None
    check_name(hello, passage.host, is_address=parse_address(passage.host) is not None)
    return data


async def _carry_both(
    client: Client,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    passage: Passage,
) -> None:
    def count_sent(size: int) -> None:
        passage.sent_bytes += size

    def count_received(size: int) -> None:
        passage.received_bytes += size

    sending = asyncio.create_task(_carry(client.reader, writer, count_sent), name="egress-sending")
    receiving = asyncio.create_task(
        _carry(reader, client.writer, count_received), name="egress-receiving"
    )
    both = (sending, receiving)
    try:
        # A direction may end before the other; one that fails ends both.
        await asyncio.wait(both, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for job in both:
            job.cancel()
        await asyncio.gather(*both, return_exceptions=True)
    for job in both:
        job.result()
    passage.outcome = "done"


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: Count) -> None:
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        count(len(data))
        await writer.drain()
    writer.write_eof()
