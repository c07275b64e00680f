"""The client's side of a connection: reading requests, answering them, and knowing when it is gone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

from kagent_sdk.errors import EgressError
from kagent_sdk.sandbox.egress.heads import MAX_HEAD_BYTES, RequestHead, parse_request, write_head
from kagent_sdk.sandbox.egress.means import CHUNK_BYTES

LINGER_S = 2.0
LINGER_BYTES = 1024 * 1024
"""So long and so much is read and thrown away behind an answer: closing a socket that holds unread
bytes resets the connection, and the client would lose the answer (RFC 9112, 9.6)."""

MAX_REASON = 400
"""Characters of a status line's text."""

_CHALLENGE = ("Proxy-Authenticate", 'Basic realm="egress"')


class _Protocol(asyncio.StreamReaderProtocol):
    """Tells when the client says no more, which a `StreamReader` tells only who reads."""

    on_end: Callable[[], object] | None = None

    def eof_received(self) -> bool | None:
        if self.on_end is not None:
            self.on_end()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.on_end is not None:
            self.on_end()
        super().connection_lost(exc)


class Client:
    """A connection that was accepted.

    Attributes:
        reader, writer: its two directions.
    """

    def __init__(
        self, protocol: _Protocol, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._protocol = protocol
        self.reader = reader
        self.writer = writer

    def when_gone(self, step: Callable[[], object] | None) -> None:
        """Have a step done when the client ends its side; None: no step any more."""
        self._protocol.on_end = step

    async def read_head(self, within_s: float) -> RequestHead | None:
        """Return the head of the next request; None when there is none in time.

        Raises:
            EgressError: it is malformed or too long.
        """
        try:
            async with asyncio.timeout(within_s):
                data = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            data = b""
        except (asyncio.IncompleteReadError, TimeoutError, OSError):
            return None
        if not 0 < len(data) <= MAX_HEAD_BYTES:
            raise EgressError("bad_request", f"a head of more than {MAX_HEAD_BYTES} bytes", 431)
        return parse_request(data)

    async def refuse(self, error: EgressError) -> None:
        """Answer with an error, the whole of it in the status line, which is what clients show."""
        with suppress(OSError):
            self.writer.write(refusal_answer(error))
            async with asyncio.timeout(LINGER_S):
                await self.writer.drain()
                self.writer.write_eof()
                left = LINGER_BYTES
                while left > 0 and (data := await self.reader.read(CHUNK_BYTES)):
                    left -= len(data)

    def close(self) -> None:
        """Close it once what was written has gone out."""
        self._protocol.on_end = None
        self.writer.close()

    def abort(self) -> None:
        """Cut it: what was written may be lost."""
        self._protocol.on_end = None
        self.writer.transport.abort()


async def accept_client(connection: socket.socket) -> Client:
    """Return the client of a socket that was accepted."""
    loop = asyncio.get_running_loop()
    if connection.family != socket.AF_UNIX:
        # asyncio does it only where the listening socket names its protocol; without it the last piece
        # of a message waits for an acknowledgement, up to 40 ms.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    reader = asyncio.StreamReader(CHUNK_BYTES, loop)
    protocol = _Protocol(reader, loop=loop)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection)
    return Client(protocol, reader, asyncio.StreamWriter(transport, protocol, reader, loop))


def refusal_answer(error: EgressError) -> bytes:
    """Return the response that tells of an error."""
    text = str(error).encode("ascii", "replace").decode()
    body = f"{text}\n".encode()
    headers = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("X-Egress-Reason", error.reason),
        ("Connection", "close"),
    ]
    if error.status == 407:
        headers.append(_CHALLENGE)
    line = "".join(c if c.isprintable() else "?" for c in text)[:MAX_REASON]
    return write_head(f"HTTP/1.1 {error.status} {line}", headers) + body
