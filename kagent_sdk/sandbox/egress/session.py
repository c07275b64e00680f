"""One client of the proxy, from its first request to its last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from ssl import SSLContext

from kagent_sdk.errors import EgressError
from kagent_sdk.sandbox.egress.client import LINGER_S, Client
from kagent_sdk.sandbox.egress.forwarding import Forwarding, Order
from kagent_sdk.sandbox.egress.heads import RequestHead
from kagent_sdk.sandbox.egress.means import Access, Injection, Means
from kagent_sdk.sandbox.egress.passage import Passage, Way
from kagent_sdk.sandbox.egress.requests import Wish, find_access, read_wish
from kagent_sdk.sandbox.egress.rules import show
from kagent_sdk.sandbox.egress.tunnel import open_tunnel


class TlsContext:
    """The context that verifies servers, made when it is first needed: it reads some 150 files."""

    def __init__(self, make: Callable[[], SSLContext]) -> None:
        self._make = make
        self._made: SSLContext | None = None
        self._making = asyncio.Lock()

    async def get(self) -> SSLContext:
        """Return it.

        Raises:
            EgressError: the machine's certificates cannot be read.
        """
        async with self._making:
            if self._made is None:
                try:
                    self._made = await asyncio.to_thread(self._make)
                except OSError as exc:
                    raise EgressError(
                        "tls_failed", f"no certificates to verify servers by: {exc.strerror}"
                    ) from None
            return self._made


class Session:
    """Serves one client.

    Args:
        client: the connection.
        accesses: what each token gives, at any time.
        means: see there.
        tls: for injecting ways.

    Attributes:
        token: that the client has shown last.
        passage: what it uses now.
    """

    def __init__(
        self, client: Client, accesses: Mapping[str, Access], means: Means, tls: TlsContext
    ) -> None:
        self._client = client
        self._accesses = accesses
        self._means = means
        self._tls = tls
        self._is_answered = False
        self.token = ""
        self.passage: Passage | None = None
        self._idle = (-1, 0.0)

    async def serve(self) -> None:
        """Serve until one side has had enough; the connection is closed then."""
        try:
            within_s = self._means.bounds.head_s
            while await self._serve_request(within_s):
                within_s = self._means.bounds.keep_alive_s
            self._client.close()
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(LINGER_S):
                    await self._client.writer.wait_closed()
        finally:
            self._client.abort()

    def is_idle(self, now_s: float) -> bool:
        """Tell whether no byte has passed for too long; to be asked now and then."""
        if self.passage is None:
            return False
        moved = self.passage.sent_bytes + self.passage.received_bytes
        if moved != self._idle[0]:
            self._idle = moved, now_s
        return now_s - self._idle[1] >= self._means.bounds.idle_s

    async def _serve_request(self, within_s: float) -> bool:
        wish: Wish | None = None
        self._is_answered = False
        try:
            head = await self._client.read_head(within_s)
            if head is None:
                return False
            wish = read_wish(head)
            access = find_access(self._accesses, wish.token)
            self.token = wish.token
            entry = access.rules.find(wish.host, wish.port)
        except EgressError as exc:
            host, port = ("", 0) if wish is None else (wish.host, wish.port)
            self._means.observer.refused(exc, host, port)
            await self._client.refuse(exc)
            return False
        return await self._pass(head, wish, access, Passage(wish.way, entry, wish.host, wish.port))

    async def _pass(self, head: RequestHead, wish: Wish, access: Access, passage: Passage) -> bool:
        began_s = time.monotonic()
        error: EgressError | None = None
        can_go_on = False
        self.passage = passage
        self._idle = (-1, 0.0)
        self._means.observer.opened(passage)
        try:
            can_go_on = await self._take(head, wish, access, passage)
        except EgressError as exc:
            error = exc
            passage.outcome = exc.reason
        except OSError:
            passage.outcome = "lost"
        finally:
            self.passage = None
            self._means.observer.closed(passage, error, time.monotonic() - began_s)
        if error is not None and not self._is_answered:
            await self._client.refuse(error)
        return can_go_on

    async def _take(self, head: RequestHead, wish: Wish, access: Access, passage: Passage) -> bool:
        if wish.way is Way.TUNNEL:
            await open_tunnel(self._client, passage, access, self._means, self._note_answer)
            return False
        order = Order(head, wish.path)
        if wish.way is Way.INJECT:
            order = await self._inject(order, wish, access)
        forwarding = Forwarding(self._client, order, passage, self._means, self._note_answer)
        return await forwarding.run(access)

    async def _inject(self, order: Order, wish: Wish, access: Access) -> Order:
        injections = access.injections.get((wish.host, wish.port), ())
        if not injections:
            where = show(wish.host, wish.port)
            raise EgressError(
                "not_injected", f"sandbox.network.inject in config.yaml has nothing for {where}"
            )
        headers = tuple((one.header, self._value_of(one)) for one in injections)
        tls = await self._tls.get() if any(one.tls for one in injections) else None
        return Order(order.head, order.path, headers, tls)

    def _value_of(self, injection: Injection) -> str:
        secret = self._means.find_secret(injection.secret)
        value = "" if secret is None else f"{injection.prefix}{secret}"
        if secret is None or any(not " " <= c <= "~" for c in value) or value != value.strip():
            raise EgressError(
                "no_secret",
                f"the vault has no key {injection.secret} that can be the header "
                f"{injection.header} (sandbox.network.inject)",
            )
        return value

    def _note_answer(self) -> None:
        self._is_answered = True
