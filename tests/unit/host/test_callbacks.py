"""Callbacks cost an agent that has none next to nothing, and others are ready when it counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from kagent_sdk.config.models import CallbacksConfig
from kagent_sdk.host.callbacks import Callbacks
from kagent_sdk.host.vault import Vault
from kagent_sdk.journal import outbox
from kagent_sdk.journal.outbox import Message
from kagent_sdk.storage.thread import Storage

ALLOW = CallbacksConfig(allow=("https://a.example/",))
MESSAGE = Message("msg_1", "webhook", "https://a.example:443", "t", "result", "x", b"{}", 1.0)


@pytest.fixture
async def storage() -> AsyncIterator[Storage]:
    """Give a database in memory."""
    storage = Storage(None, "none")
    await storage.open()
    yield storage
    await storage.aclose()


def make(storage: Storage, config: CallbacksConfig) -> Callbacks:
    """Return callbacks of an agent without a vault: nothing is sent."""
    keeper: Any = SimpleNamespace(vault=Vault({}))
    pump: Any = SimpleNamespace(log=lambda *_values, **_more: None)
    return Callbacks(storage, config, keeper, pump)


def is_loaded(callbacks: Callbacks) -> bool:
    """Whether the part that delivers is there."""
    return callbacks.webhooks is not None


def knows_of_none(callbacks: Callbacks) -> bool:
    """Whether the outbox was found empty."""
    return callbacks.has_none


def stats_of(callbacks: Callbacks) -> outbox.Stats | None:
    """Return what the part that delivers knows of the outbox."""
    assert callbacks.webhooks is not None
    return callbacks.webhooks.stats


async def run_until_there(callbacks: Callbacks) -> asyncio.Task[None]:
    """Run until the part that delivers is there."""
    job = asyncio.create_task(callbacks.run())
    async with asyncio.timeout(20):
        while not is_loaded(callbacks):  # noqa: ASYNC110 - an import in a thread
            await asyncio.sleep(0.002)
    return job


async def end(job: asyncio.Task[None]) -> None:
    """Cancel a job and wait for it."""
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)


async def test_without_a_reason_nothing_is_loaded(storage: Storage) -> None:
    """It would cost every agent memory, and its start time."""
    callbacks = make(storage, CallbacksConfig())
    job = asyncio.create_task(callbacks.run())
    async with asyncio.timeout(20):
        while not knows_of_none(callbacks):  # noqa: ASYNC110 - the storage's thread
            await asyncio.sleep(0.002)
    callbacks.reconsider()
    await callbacks.sample()
    await callbacks.finish(1)
    assert not is_loaded(callbacks)

    callbacks.configure(ALLOW)
    async with asyncio.timeout(20):
        while not is_loaded(callbacks):  # noqa: ASYNC110 - an import in a thread
            await asyncio.sleep(0.002)
    callbacks.configure(CallbacksConfig())
    callbacks.reconsider()
    await callbacks.sample()
    await callbacks.finish(1)
    assert await storage.read(partial(outbox.stats, channel="webhook")) == stats_of(callbacks)
    await end(job)


async def test_what_a_host_before_has_left_is_a_reason(storage: Storage) -> None:
    """Even if the configuration allows no callback any more: the status must tell of it."""
    await storage.write(partial(outbox.add, message=MESSAGE))
    callbacks = make(storage, CallbacksConfig())

    await end(await run_until_there(callbacks))
    assert not callbacks.has_none


async def test_a_message_is_a_reason(storage: Storage) -> None:
    """Of a task that was taken before the configuration changed."""
    callbacks = make(storage, CallbacksConfig())
    job = asyncio.create_task(callbacks.run())
    async with asyncio.timeout(20):
        while not knows_of_none(callbacks):  # noqa: ASYNC110 - the storage's thread
            await asyncio.sleep(0.002)
    callbacks.added(MESSAGE)

    assert not callbacks.has_none
    assert is_loaded(callbacks)
    await end(job)


async def test_a_database_that_cannot_be_read_is_a_reason() -> None:
    """Not to know is not the same as to have none."""
    callbacks = make(Storage(None, "none"), CallbacksConfig())

    await end(await run_until_there(callbacks))
    assert not callbacks.has_none
