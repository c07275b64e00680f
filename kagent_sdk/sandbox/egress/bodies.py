"""Carry the body of an HTTP message from one connection to the other, and not a byte more."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from kagent_sdk.errors import EgressError
from kagent_sdk.sandbox.egress.heads import CHUNKED, UNTIL_CLOSE
from kagent_sdk.sandbox.egress.means import CHUNK_BYTES

MAX_CHUNK_LINE = 1024
MAX_TRAILERS = 100

_CHUNK_LINE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")

Count = Callable[[int], None]


async def carry_body(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    body: int,
    count: Count,
    *,
    unpack: bool = False,
) -> None:
    """Carry a body, as fast as its receiver takes it.

    Args:
        reader: where it comes from.
        writer: where it goes to. Chunks are read and written anew; trailers end here.
        body: its length, `CHUNKED` or `UNTIL_CLOSE`.
        count: told how many bytes were carried, as they come.
        unpack: write chunks without their borders, for a receiver of HTTP/1.0.

    Raises:
        EgressError: it is malformed, or ends too early.
        OSError: a connection is lost.
    """
    if body == UNTIL_CLOSE:
        while data := await reader.read(CHUNK_BYTES):
            await _write(writer, data, count)
    elif body == CHUNKED:
        await _carry_chunks(reader, writer, count, unpack=unpack)
    else:
        await _carry_exactly(reader, writer, body, count)


async def _carry_chunks(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: Count, *, unpack: bool
) -> None:
    while size := await _read_size(reader):
        if not unpack:
            writer.write(b"%x\r\n" % size)
        await _carry_exactly(reader, writer, size, count)
        if await _read_line(reader) != b"\r\n":
            raise _malformed()
        if not unpack:
            writer.write(b"\r\n")
    for _ in range(MAX_TRAILERS):
        if await _read_line(reader) == b"\r\n":
            break
    else:
        raise _malformed()
    if not unpack:
        writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _read_size(reader: asyncio.StreamReader) -> int:
    match = _CHUNK_LINE.fullmatch(await _read_line(reader))
    if match is None:
        raise _malformed()
    return int(match[1], 16)


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    try:
        line = await reader.readuntil(b"\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise _malformed() from None
    if len(line) > MAX_CHUNK_LINE:
        raise _malformed()
    return line


async def _carry_exactly(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int, count: Count
) -> None:
    while size:
        data = await reader.read(min(size, CHUNK_BYTES))
        if not data:
            raise EgressError("bad_request", "a body ends too early")
        size -= len(data)
        await _write(writer, data, count)


async def _write(writer: asyncio.StreamWriter, data: bytes, count: Count) -> None:
    writer.write(data)
    count(len(data))
    await writer.drain()


def _malformed() -> EgressError:
    return EgressError("bad_request", "the chunks of a body are malformed")
