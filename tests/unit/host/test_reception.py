"""Rotated secrets on their way to the workers."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

from kagent_sdk.config.models import AgentConfig, SecretsConfig
from kagent_sdk.host.counters import Counters
from kagent_sdk.host.engine import Engine
from kagent_sdk.host.health import AwakeClock
from kagent_sdk.host.place import Place
from kagent_sdk.host.reception import Keepers, Reception
from kagent_sdk.host.vault import Vault
from kagent_sdk.journal.memory import MemoryJournal
from kagent_sdk.protocol.frames import TO_WORKER, Frame, FrameDecoder, Kind
from kagent_sdk.protocol.manifest import PROTOCOL_VERSION, Hello


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = FrameDecoder(limit_bytes=1 << 26, kinds=TO_WORKER)
        self.written = b""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: the test says when the buffer is full."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep the bytes."""
        self.written += data

    def pause_reading(self) -> None:
        """Do nothing."""

    def resume_reading(self) -> None:
        """Do nothing."""

    async def frames(self) -> list[Frame]:
        """Return the frames written since the last call."""
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        written, self.written = self.written, b""
        return self.decoder.feed(written)


def make_reception(keeper: SimpleNamespace) -> Reception:
    """Return a reception with a vault that the test writes."""
    journal = MemoryJournal(retention_s=1, retention_count=1, retention_bytes=1)
    config = AgentConfig(secrets=SecretsConfig(expose=("key",)))
    return Reception(
        config,
        keepers=Keepers(cast("Any", keeper), cast("Any", None)),
        engine=Engine(config, journal, Counters(), lambda _worker, _reason: None),
        pump=cast("Any", None),
        clock=AwakeClock(0.0, 1.0),
        on_change=lambda: None,
    )


def join(reception: Reception, *, has_said_hello: bool = True) -> tuple[Place, Wire]:
    """Connect a worker."""
    place, wire = Place(0), Wire()
    reception.connect(place, lambda _error: None).connection_made(wire)
    if has_said_hello:
        place.hello = Hello(
            protocol=PROTOCOL_VERSION, sdk_version="", python_version="", pid=1, capabilities=()
        )
    return place, wire


async def test_every_worker_that_was_welcomed_is_told() -> None:
    """One that is still importing gets the new values with its WELCOME."""
    keeper = SimpleNamespace(vault=Vault({"key": "old"}))
    reception = make_reception(keeper)
    welcomed, wire = join(reception)
    importing, silent = join(reception, has_said_hello=False)

    keeper.vault = Vault({"key": "new"})
    reception.share_secrets([welcomed, importing, Place(2)])

    assert await wire.frames() == [(Kind.SECRETS, 0, b'{"key": "new"}')]
    assert await silent.frames() == []
    reception.share_secrets([welcomed, importing])
    assert await wire.frames() == []


async def test_a_worker_that_does_not_read_gets_the_last_values_when_it_does() -> None:
    """A worker that is stuck for an hour must not fill the host's memory with vaults."""
    keeper = SimpleNamespace(vault=Vault({"key": "0"}))
    reception = make_reception(keeper)
    place, wire = join(reception)
    assert place.connection is not None
    place.connection.pause_writing()
    for number in range(1, 100):
        keeper.vault = Vault({"key": str(number)})
        reception.share_secrets([place])
    assert await wire.frames() == []

    place.connection.resume_writing()

    assert [json.loads(payload) for _, _, payload in await wire.frames()] == [{"key": "99"}]
    place.connection.resume_writing()
    assert await wire.frames() == []
