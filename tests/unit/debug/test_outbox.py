"""What goes to a client: bounded in memory, and in time."""

from __future__ import annotations

import asyncio
import socket

import pytest

from kagent_sdk.debug import outbox
from kagent_sdk.debug.outbox import Outbox
from kagent_sdk.protocol.debug import MAX_PAYLOAD_BYTES, FrameReader, Kind


async def test_a_large_text_is_cut_into_frames() -> None:
    """A frame has a limit; a text has none."""
    ours, theirs = socket.socketpair()
    _, writer = await asyncio.open_unix_connection(sock=ours)
    box = Outbox()
    text = b"x" * (MAX_PAYLOAD_BYTES + 1)
    box.put(Kind.OUTPUT, text)
    box.finish(258)
    reading = asyncio.ensure_future(asyncio.to_thread(_read, theirs))
    await box.pump(writer)
    writer.close()
    await writer.wait_closed()
    frames = FrameReader().feed(await reading)

    assert b"".join(payload for kind, payload in frames if kind is Kind.OUTPUT) == text
    assert frames[-1] == (Kind.EXIT, b"\x02")


async def test_what_the_terminal_draws_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's thread cannot wait for a client that types and does not read."""
    monkeypatch.setattr(outbox, "HARD_BYTES", 100)
    ours, theirs = socket.socketpair()
    _, writer = await asyncio.open_unix_connection(sock=ours)
    box = Outbox()
    for _ in range(10):
        box.put(Kind.OUTPUT, b"x" * 60)
    with pytest.raises(TimeoutError):
        await box.pump(writer)
    writer.close()
    await writer.wait_closed()
    theirs.close()

    assert box._size < 200


async def test_a_command_writes_to_nobody_once_it_is_closed() -> None:
    """Its thread gets an error; prompt_toolkit, which draws in the server's, does not."""
    box = Outbox()
    box.put(Kind.OUTPUT, b"x")
    box.close()
    box.put(Kind.OUTPUT, b"x")
    box.finish(0)

    with pytest.raises(BrokenPipeError):
        await asyncio.to_thread(box.put, Kind.OUTPUT, b"x")
    assert box._size == 0


def _read(connection: socket.socket) -> bytes:
    with connection:
        parts = []
        while data := connection.recv(65536):
            parts.append(data)
        return b"".join(parts)
