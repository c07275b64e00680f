"""Callbacks of tasks: taken here, and delivered by what is imported with the first reason for it.

Most agents have none. They pay for this module alone, and for one look into the outbox.
"""

from __future__ import annotations

import asyncio
import sqlite3
from importlib import import_module
from typing import TYPE_CHECKING

from kagent_sdk.errors import StorageError
from kagent_sdk.protocol.problems import callback_refused

if TYPE_CHECKING:
    from kagent_sdk.config.models import CallbacksConfig
    from kagent_sdk.host.logs.pump import LogPump
    from kagent_sdk.host.vault_keeper import VaultKeeper
    from kagent_sdk.host.webhooks import Webhooks
    from kagent_sdk.journal.outbox import Message
    from kagent_sdk.protocol.problem import Problem
    from kagent_sdk.storage.thread import Storage

NONE_ALLOWED = "no callbacks are allowed: say where they may go in callbacks.allow of config.yaml"


class Callbacks:
    """Lives in the host's loop; none of its methods blocks.

    Args:
        storage: has the outbox.
        config: the section ``callbacks``.
        keeper: has the vault.
        pump: told of every delivery.

    Attributes:
        webhooks: what delivers; None as long as there is no reason to have it.
        has_none: the outbox was looked into, and nothing is known to have come since.
    """

    def __init__(
        self, storage: Storage, config: CallbacksConfig, keeper: VaultKeeper, pump: LogPump
    ) -> None:
        self._storage = storage
        self._config = config
        self._keeper = keeper
        self._pump = pump
        self._needed = asyncio.Event()
        self.webhooks: Webhooks | None = None
        self.has_none = False
        self._note_need()

    def refuse(self, url: str) -> Problem | None:
        """Return why a task with this callback is not taken; None when it may be."""
        if not self._config.allow:
            return callback_refused(NONE_ALLOWED)
        return self._build().refuse(url)

    def added(self, message: Message) -> None:
        """Take note of a message that is on disk now."""
        self._needed.set()
        self.has_none = False
        self._build().added(message)

    def configure(self, config: CallbacksConfig) -> None:
        """Judge and deliver by this configuration from now on."""
        self._config = config
        self._note_need()
        if self.webhooks is not None:
            self.webhooks.configure(config)

    def reconsider(self) -> None:
        """Try everything again now: the vault has changed."""
        if self.webhooks is not None:
            self.webhooks.reconsider()

    async def sample(self) -> None:
        """Bring up to date what ``/status`` tells."""
        if self.webhooks is not None:
            await self.webhooks.sample()

    async def run(self) -> None:
        """Deliver until cancelled; the database is open."""
        self.has_none = not await self._has_messages()
        if not self.has_none:
            self._needed.set()
        await self._needed.wait()
        await asyncio.to_thread(import_module, "kagent_sdk.host.webhooks")
        await self._build().run()

    async def finish(self, within_s: float) -> None:
        """Begin nothing more, and give what is under way so long at the most."""
        if self.webhooks is not None:
            await self.webhooks.finish(within_s)

    def _note_need(self) -> None:
        if self._config.allow:
            self._needed.set()

    async def _has_messages(self) -> bool:
        try:
            return await self._storage.read(_has_messages)
        except StorageError:
            return True  # then there is more to be found out

    def _build(self) -> Webhooks:
        if self.webhooks is None:
            from kagent_sdk.host.webhook_policy import WebhookPolicy  # noqa: PLC0415 - see above
            from kagent_sdk.host.webhooks import Webhooks  # noqa: PLC0415

            policy = WebhookPolicy(self._config, self._keeper)
            self.webhooks = Webhooks(self._storage, policy, self._pump)
        return self.webhooks


def _has_messages(connection: sqlite3.Connection) -> bool:
    query = "SELECT EXISTS (SELECT 1 FROM outbox WHERE channel = 'webhook')"
    (found,) = connection.execute(query).fetchone()
    return bool(found)
