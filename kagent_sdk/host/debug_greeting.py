"""The first words on a connection to the debug socket: who it is, and what it wants."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass

from kagent_sdk.errors import KagentError, ProtocolError
from kagent_sdk.protocol.debug import (
    MAX_LINE_BYTES,
    Hello,
    Welcome,
    encode_welcome,
    parse_hello,
)

HELLO_S = 5.0
"""For the client's first line: it is a program, which sends it at once."""

_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid (unix(7))


class RefusedError(KagentError):
    """A client is not let in; the message tells it why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, as the kernel says: what connected, and as whom."""

    pid: int
    uid: int


def find_peer(connection: socket.socket) -> Peer:
    """Return who has connected (SO_PEERCRED, unix(7))."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return Peer(pid, uid)


def check_peer(peer: Peer) -> None:
    """Let in the host's own user, and root.

    Raises:
        RefusedError: it is somebody else.
    """
    if peer.uid not in (os.geteuid(), 0):
        mine = os.geteuid()
        who = f"user {mine} or root" if mine else "root"
        raise RefusedError(f"user {peer.uid} may not look into this agent: become {who}")


async def read_hello(connection: socket.socket) -> Hello:
    """Read the client's first line, and nothing behind it.

    Raises:
        RefusedError: it is none, or none came in time.
        ConnectionError: the client is gone.
    """
    loop = asyncio.get_running_loop()
    line = b""
    try:
        async with asyncio.timeout(HELLO_S):
            while b"\n" not in line and len(line) <= MAX_LINE_BYTES:
                data = await loop.sock_recv(connection, MAX_LINE_BYTES + 1 - len(line))
                if not data:
                    raise ConnectionResetError("the client is gone")
                line += data
    except TimeoutError:
        raise RefusedError(f"nothing was asked for within {HELLO_S:g} s") from None
    first, newline, behind = line.partition(b"\n")
    try:
        hello = parse_hello(first + newline)
    except ProtocolError as exc:
        raise RefusedError(str(exc)) from None
    if behind:
        raise RefusedError("something came behind the first line, before the answer to it")
    return hello


def say_welcome(connection: socket.socket, session: int) -> None:
    """Let a client in.

    Raises:
        OSError: it is gone.
    """
    connection.send(encode_welcome(Welcome(session)), socket.MSG_NOSIGNAL)


def refuse(connection: socket.socket, reason: str) -> None:
    """Tell a client that it is not let in, if it is still there."""
    with suppress(OSError):
        connection.send(encode_welcome(Welcome(0, reason)), socket.MSG_NOSIGNAL)
