"""The proxy: accepts clients, within its bounds, and ends them."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence
from contextlib import suppress

from kagent_sdk.errors import EgressError
from kagent_sdk.sandbox.egress.client import accept_client, refusal_answer
from kagent_sdk.sandbox.egress.means import Access, Means
from kagent_sdk.sandbox.egress.session import Session, TlsContext

ACCEPT_PAUSE_S = 0.1
"""After descriptors or memory were used up: they do not come back at once."""

_BUSY = EgressError("busy", "the egress proxy has no place for one more connection")


class Proxy:
    """Serves clients on sockets that listen.

    Args:
        means: see there.
    """

    def __init__(self, means: Means) -> None:
        self._means = means
        self._accesses: dict[str, Access] = {}
        self._sessions: dict[Session, asyncio.Task[None]] = {}
        self._count = 0
        self._tls = TlsContext(means.make_tls)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return self._count

    def admit(self, token: str, access: Access) -> None:
        """Let whoever shows the token have this access."""
        self._accesses[token] = access

    def revoke(self, token: str) -> None:
        """Take a token back, and cut the connections of those that have shown it."""
        self._accesses.pop(token, None)
        for session, job in self._sessions.items():
            if session.token == token:
                job.cancel()

    async def serve(self, listener: socket.socket) -> None:
        """Accept clients until cancelled; those that are connected end with it.

        Args:
            listener: a socket that listens; it stays the caller's.
        """
        listener.setblocking(False)  # noqa: FBT003 - the socket's own signature
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sweep(), name="egress-sweep")
            while True:
                await self._accept(listener, group)
                # One in each turn of the loop: a flood of connections delays nobody else.
                await asyncio.sleep(0)

    async def _accept(self, listener: socket.socket, group: asyncio.TaskGroup) -> None:
        try:
            connection, _ = await asyncio.get_running_loop().sock_accept(listener)
        except OSError as exc:
            if exc.errno == errno.EBADF:
                raise
            if exc.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                self._means.observer.refused(_BUSY, "", 0)
                await asyncio.sleep(ACCEPT_PAUSE_S)
            return
        if self._count >= self._means.bounds.connections:
            self._means.observer.refused(_BUSY, "", 0)
            with connection, suppress(OSError):
                connection.send(refusal_answer(_BUSY))
            return
        self._count += 1
        group.create_task(self._serve(connection), name="egress-session")

    async def _serve(self, connection: socket.socket) -> None:
        try:
            await self._serve_connection(connection)
        except OSError:
            return  # the client was gone before it was heard
        except Exception as exc:  # noqa: BLE001 - one client must not end the proxy
            self._means.observer.broke(exc)
        finally:
            connection.close()
            self._count -= 1

    async def _serve_connection(self, connection: socket.socket) -> None:
        client = await accept_client(connection)
        session = Session(client, self._accesses, self._means, self._tls)
        job = asyncio.current_task()
        assert job is not None
        self._sessions[session] = job
        try:
            await session.serve()
        finally:
            del self._sessions[session]

    async def _sweep(self) -> None:
        """End connections that stand still."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._means.bounds.idle_s / 4)
            self._cut([one for one in self._sessions if one.is_idle(loop.time())])

    def _cut(self, sessions: Sequence[Session]) -> None:
        for session in sessions:
            self._sessions[session].cancel()
