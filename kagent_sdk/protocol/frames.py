"""Length-prefixed frames between host and worker, as a Sans-I/O codec.

A frame is a 13-byte header and a payload::

    | payload length: u32 | kind: u8 | number: u64 | payload ... |     (network byte order)

``number`` names the task that the frame is about (0 when it is about none). What a payload holds
depends on the kind and is described in `kagent_sdk.protocol.messages`.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from kagent_sdk.errors import FrameTooLargeError, ProtocolError

HEADER = struct.Struct("!IBQ")
HEADER_BYTES = HEADER.size

Frame = tuple[int, int, bytes]
"""(kind, number, payload): a plain tuple, because one is made for every task."""


class Kind(IntEnum):
    """What a frame says. The first group travels to the worker, the second to the host."""

    WELCOME = 1
    RUN = 2
    CANCEL = 3
    INTERRUPT = 4
    ACK = 5
    ANSWER = 6
    STOP = 7
    SECRETS = 8
    RETIRE = 9
    STATE_ANSWER = 10
    CALL_ITEM = 11

    HELLO = 33
    READY = 34
    HEARTBEAT = 35
    RESULT = 36
    ERROR = 37
    PROGRESS = 38
    EVENT = 39
    CALL = 40
    STATE = 41
    COMMIT = 42
    CALL_CANCEL = 43
    CALL_ACK = 44


TO_WORKER = frozenset(int(kind) for kind in Kind if kind < Kind.HELLO)
TO_HOST = frozenset(int(kind) for kind in Kind if kind >= Kind.HELLO)


def encode(kind: int, number: int, payload: bytes = b"") -> bytes:
    """Return one frame as bytes."""
    return HEADER.pack(len(payload), kind, number) + payload


class FrameDecoder:
    """Cut a stream of bytes into frames.

    Holds at most one unfinished frame: never more than ``limit_bytes`` plus one chunk.

    Args:
        limit_bytes: the largest payload to accept.
        kinds: the kinds that the peer may send (`TO_HOST` or `TO_WORKER`).
    """

    __slots__ = ("_buffer", "_kinds", "_limit_bytes")

    def __init__(self, *, limit_bytes: int, kinds: frozenset[int]) -> None:
        self._buffer = bytearray()
        self._limit_bytes = limit_bytes
        self._kinds = kinds

    @property
    def buffered_bytes(self) -> int:
        """How many bytes of an unfinished frame are held."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next chunk and return the frames that it completes, in order.

        Raises:
            FrameTooLargeError: a header announces a payload over the limit.
            ProtocolError: a header has a kind that the peer may not send.
        """
        buffer = self._buffer
        source: bytes | bytearray = data
        if buffer:
            buffer += data
            source = buffer
        frames: list[Frame] = []
        position = 0
        end = len(source)
        while end - position >= HEADER_BYTES:
            size, kind, number = HEADER.unpack_from(source, position)
            if size > self._limit_bytes:
                raise FrameTooLargeError(size, self._limit_bytes)
            if kind not in self._kinds:
                raise ProtocolError(f"unexpected frame kind {kind}")
            start = position + HEADER_BYTES
            stop = start + size
            if stop > end:
                break
            frames.append((kind, number, bytes(source[start:stop])))
            position = stop
        if source is buffer:
            del buffer[:position]
        else:
            buffer += source[position:]
        return frames
