"""A connection without a socket: what is written can be looked at, what is read is said."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from kagent_sdk.protocol.frames import TO_HOST, Frame, FrameDecoder, encode
from kagent_sdk.protocol.manifest import Welcome
from kagent_sdk.worker.connection import Connection
from kagent_sdk.worker.services import Services, make_services


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.is_closed = False
        self._protocol = protocol
        self._decoder = FrameDecoder(limit_bytes=1 << 26, kinds=TO_HOST)
        protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep the bytes."""
        self.writes.append(bytes(data))

    def close(self) -> None:
        """Tell the protocol that the connection is gone."""
        if not self.is_closed:
            self.is_closed = True
            self._protocol.connection_lost(None)

    def abort(self) -> None:
        """Close."""
        self.close()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: the test says when the buffer is full."""

    def frames(self) -> list[Frame]:
        """Return the frames that were written since the last call."""
        writes, self.writes = self.writes, []
        return self._decoder.feed(b"".join(writes))


class Bench:
    """Services on a wire.

    Attributes:
        heard: frames that the connection has handed on.
    """

    def __init__(self, **welcome: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.heard: list[Frame] = []
        self.connection = Connection(self.loop, lambda *frame: self.heard.append(frame))
        self.wire = Wire(self.connection)
        said = Welcome(agent_name="a", agent_version="1", worker_index=0, **welcome)
        self.services: Services = make_services(said, self.loop, self.connection)

    def say(self, frames: Iterable[Frame]) -> None:
        """Let frames arrive in one read."""
        self.connection.data_received(b"".join(encode(*frame) for frame in frames))

    async def frames(self) -> list[Frame]:
        """Let the loop turn until the gathered frames are written; return them."""
        for _ in range(4):
            await asyncio.sleep(0)
        return self.wire.frames()
