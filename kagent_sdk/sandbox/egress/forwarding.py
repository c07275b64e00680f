"""Send one request to its destination, and its answer back: plain HTTP, and the injecting endpoint."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from kagent_sdk.errors import EgressError
from kagent_sdk.sandbox.egress.bodies import carry_body
from kagent_sdk.sandbox.egress.client import Client
from kagent_sdk.sandbox.egress.connecting import Stream
from kagent_sdk.sandbox.egress.dialing import dial
from kagent_sdk.sandbox.egress.heads import (
    CHUNKED,
    MAX_HEAD_BYTES,
    UNTIL_CLOSE,
    RequestHead,
    ResponseHead,
    parse_response,
    passed_on,
    write_head,
)
from kagent_sdk.sandbox.egress.means import Access, Means
from kagent_sdk.sandbox.egress.passage import Passage
from kagent_sdk.sandbox.egress.rules import show
from kagent_sdk.sandbox.egress.upstream import dial_upstream

MAX_INTERIM = 10
"""Responses of 1xx before the one that counts."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Order:
    """What to send.

    Attributes:
        head: of the client's request.
        path: with its query, as it goes to the destination.
        headers: added by the proxy, in place of the client's own of those names.
        tls: speak TLS by this.
    """

    head: RequestHead
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    tls: ssl.SSLContext | None = None


class Forwarding:
    """One request on its way.

    Args:
        client: who sent it.
        order: what to send.
        passage: where to.
        means: see there.
        on_answer: called before an answer is begun: no other can follow.
    """

    def __init__(
        self,
        client: Client,
        order: Order,
        passage: Passage,
        means: Means,
        on_answer: Callable[[], object],
    ) -> None:
        self._client = client
        self._order = order
        self._passage = passage
        self._means = means
        self._on_answer = on_answer
        self._is_given_up = False
        self._is_absolute = False

    async def run(self, access: Access) -> bool:
        """Do it; return whether the client's connection can be used again.

        Raises:
            EgressError: there is no connection, or no answer that can be passed on.
            OSError: a connection is lost.
        """
        reader, writer = await self._dial(access)
        self._client.when_gone(lambda: self._give_up(writer))
        upload = asyncio.create_task(self._send(writer), name="egress-upload")
        try:
            can_go_on = await self._receive(reader, upload)
        except EgressError:
            if self._is_given_up:
                raise ConnectionAbortedError from None
            if upload.done() and isinstance(error := upload.exception(), EgressError):
                raise error from None
            raise
        finally:
            self._client.when_gone(None)
            upload.cancel()
            await asyncio.gather(upload, return_exceptions=True)
            writer.transport.abort()
        self._passage.outcome = "done"
        return can_go_on

    async def _dial(self, access: Access) -> Stream:
        upstream = access.upstream_for(self._passage)
        if upstream is None or self._order.tls is not None:
            return await dial(access, self._passage, self._means, self._order.tls)
        # Through CONNECT it lets nothing but TLS: it forwards such a request as this proxy does.
        self._is_absolute = True
        return await dial_upstream(upstream, self._passage, self._means)

    def _give_up(self, writer: asyncio.StreamWriter) -> None:
        """Nobody is left to answer: what the destination does meanwhile is for nothing."""
        self._is_given_up = True
        writer.transport.abort()

    # To the destination

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        head = self._order.head
        try:
            writer.write(self._head())
            if head.body and (head.get("expect") or "").lower() == "100-continue":
                self._client.writer.write(_CONTINUE)
            await carry_body(self._client.reader, writer, head.body, self._count_sent)
        except EgressError:
            # The destination must not take a part of a request for the whole.
            writer.transport.abort()
            raise

    def _head(self) -> bytes:
        head, added = self._order.head, self._order.headers
        replaced = {"host", "expect", *(name.lower() for name, _ in added)}
        host = self._passage.host if self._is_default_port() else self._where()
        headers = [
            ("Host", f"[{host}]" if ":" in host and host == self._passage.host else host),
            *passed_on(head.headers, without=replaced),
            *added,
            ("Connection", "close"),
        ]
        if head.body == CHUNKED:
            headers.append(("Transfer-Encoding", "chunked"))
        return write_head(f"{head.method} {self._target()} HTTP/1.1", headers)

    def _target(self) -> str:
        path = self._order.path
        if not self._is_absolute:
            return path
        # RFC 9112, 3.2.4: what asks for a server as a whole has no path at all then.
        return f"http://{self._where()}{'' if path == '*' else path}"

    def _is_default_port(self) -> bool:
        return self._passage.port == (80 if self._order.tls is None else 443)

    def _where(self) -> str:
        return show(self._passage.host, self._passage.port)

    def _count_sent(self, size: int) -> None:
        self._passage.sent_bytes += size

    # To the client

    async def _receive(self, reader: asyncio.StreamReader, upload: asyncio.Task[None]) -> bool:
        answer = await self._read_answer(reader)
        head = self._order.head
        unpack = answer.body == CHUNKED and head.is_old
        headers = passed_on(answer.headers)
        if answer.body == CHUNKED and not unpack:
            headers.append(("Transfer-Encoding", "chunked"))
        can_go_on = not (head.wants_close or answer.body == UNTIL_CLOSE)
        headers.append(("Connection", "keep-alive" if can_go_on else "close"))
        writer = self._client.writer
        self._on_answer()
        writer.write(write_head(f"HTTP/1.1 {answer.status} {answer.reason}", headers))
        try:
            await carry_body(reader, writer, answer.body, self._count_received, unpack=unpack)
        except EgressError as exc:
            raise EgressError("bad_answer", f"the answer of {self._where()}: {exc}") from None
        await writer.drain()
        # An answer may come before the request's end: what is left of that would be read as the next.
        return can_go_on and upload.done() and upload.exception() is None

    async def _read_answer(self, reader: asyncio.StreamReader) -> ResponseHead:
        for _ in range(MAX_INTERIM):
            try:
                data = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                data = b""
            if not 0 < len(data) <= MAX_HEAD_BYTES:
                break
            answer = parse_response(data, self._order.head.method)
            if answer.status == 101:
                break
            if answer.status >= 200:
                return answer
        raise EgressError("bad_answer", f"{self._where()} gave no answer that can be passed on")

    def _count_received(self, size: int) -> None:
        self._passage.received_bytes += size
