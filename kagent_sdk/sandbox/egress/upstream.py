"""The way by another egress proxy, for a host that has no route out: CONNECT, as its client.

What that proxy says is bounded in size and time and believed in one thing alone: whether bytes go on
from there. It resolves the destination's name and checks the addresses by the same allow-list.
"""

from __future__ import annotations

import asyncio
import socket
import ssl

from kagent_sdk.errors import EgressError
from kagent_sdk.sandbox.egress.connecting import Stream, explained, find_addresses, try_each
from kagent_sdk.sandbox.egress.heads import (
    MAX_HEAD_BYTES,
    ResponseHead,
    parse_response,
    write_head,
)
from kagent_sdk.sandbox.egress.means import CHUNK_BYTES, Means
from kagent_sdk.sandbox.egress.passage import Passage
from kagent_sdk.sandbox.egress.rules import show
from kagent_sdk.sandbox.policy import Destination

REASONS = frozenset({"not_listed", "address", "unresolved", "unreachable", "timeout", "busy"})
"""Of the other proxy's refusals that are passed on as they are; all others are its own trouble."""

MAX_DETAIL = 400
"""Characters of its status line that are shown."""

_END = b"\r\n\r\n"


async def open_through(
    upstream: Destination, passage: Passage, means: Means, tls: ssl.SSLContext | None
) -> Stream:
    """Return a connection to a passage's destination that another proxy has made.

    Args:
        upstream: the other proxy. Its own address is not checked: config.yaml names it.
        passage: says where to; the other proxy's address is noted in it.
        means: resolves that proxy's name, and no other.
        tls: speak TLS by this, through the other proxy, for the passage's host.

    Raises:
        EgressError: the proxy is not there, does not want to, or talks nonsense; or the server behind
            it is not who it should be.
    """
    connection = await _connect(upstream, passage, means)
    try:
        with explained(_title(upstream)):
            # It resolves and connects in bounds of its own, and knows better what went wrong.
            async with asyncio.timeout(means.bounds.resolve_s + 2 * means.bounds.connect_s):
                await _ask(connection, upstream, passage)
    except BaseException:
        connection.close()
        raise
    with explained(show(passage.host, passage.port)):
        async with asyncio.timeout(means.bounds.connect_s):
            return await _wrap(connection, tls, passage.host)


async def dial_upstream(upstream: Destination, passage: Passage, means: Means) -> Stream:
    """Return a connection to the other proxy itself, for a request that it forwards.

    Raises:
        EgressError: it is not there.
    """
    return await _wrap(await _connect(upstream, passage, means), None, "")


async def _connect(upstream: Destination, passage: Passage, means: Means) -> socket.socket:
    try:
        addresses = await find_addresses(upstream.host, upstream.port, means)
    except EgressError as exc:
        raise EgressError(exc.reason, f"{_title(upstream)}: {exc}") from None
    with explained(_title(upstream)):
        return await try_each(
            addresses,
            passage,
            means.bounds.connect_s,
            lambda address: _connect_to(address, upstream.port),
        )


async def _connect_to(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)  # noqa: FBT003 - the socket's own signature
        # As asyncio does it for connections of its own.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connection, (address, port))
    except BaseException:
        connection.close()
        raise
    return connection


async def _wrap(connection: socket.socket, tls: ssl.SSLContext | None, host: str) -> Stream:
    return await asyncio.open_connection(
        sock=connection,
        limit=CHUNK_BYTES,
        ssl=tls,
        server_hostname=None if tls is None else host,
    )


async def _ask(connection: socket.socket, upstream: Destination, passage: Passage) -> None:
    where = show(passage.host, passage.port)
    request = write_head(f"CONNECT {where} HTTP/1.1", [("Host", where)])
    await asyncio.get_running_loop().sock_sendall(connection, request)
    head, rest = await _read_head(connection, upstream)
    try:
        answer = parse_response(head, "CONNECT")
    except EgressError as exc:
        raise EgressError("bad_answer", f"{_title(upstream)}: {exc}") from None
    if not 200 <= answer.status < 300:
        raise _refusal(answer, upstream, where)
    if rest:
        # Whoever is behind the tunnel was not greeted yet, and what came before TLS is in nobody's name.
        raise EgressError("bad_answer", f"{_title(upstream)} says more than it was asked for")


async def _read_head(connection: socket.socket, upstream: Destination) -> tuple[bytes, bytes]:
    """Return the head of an answer, and what came behind it."""
    data = b""
    # On the bare socket: a stream would keep what comes behind the head, and give it out as if it had
    # come through TLS.
    while (end := data.find(_END)) < 0:
        if len(data) > MAX_HEAD_BYTES:
            raise EgressError("bad_answer", f"{_title(upstream)}: the answer is malformed")
        more = await asyncio.get_running_loop().sock_recv(connection, CHUNK_BYTES)
        if not more:
            raise EgressError("unreachable", f"{_title(upstream)} hangs up")
        data += more
    return data[: end + len(_END)], data[end + len(_END) :]


def _refusal(answer: ResponseHead, upstream: Destination, where: str) -> EgressError:
    told = [value for name, value in answer.headers if name.lower() == "x-egress-reason"]
    reason = told[0] if told and told[0] in REASONS else "unreachable"
    detail = "".join(c if " " <= c <= "~" else "?" for c in answer.reason[:MAX_DETAIL])
    return EgressError(
        reason, f"{_title(upstream)} refuses {where}: {answer.status} {detail}".rstrip()
    )


def _title(upstream: Destination) -> str:
    return f"the proxy {show(upstream.host, upstream.port)} (sandbox.network.upstream)"
