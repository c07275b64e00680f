"""Server-sent events (WHATWG HTML, 9.2): the encoder, and a Sans-I/O parser for clients.

The data of an event stays bytes: it is the raw JSON of the task's item. A line break inside it
arrives as a line feed, whatever it was; in JSON it stands between tokens only, so nothing changes.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from kagent_sdk.errors import ProtocolError

SSE_CONTENT_TYPE = "text/event-stream"
KEEP_ALIVE = b": keep-alive\n\n"
DEFAULT_LIMIT_BYTES = 16 * 1024 * 1024
LINE_OVERHEAD_BYTES = 8
"""What a line of data costs beside its bytes: a pointer."""

_BOM = b"\xef\xbb\xbf"
_LINE_BREAK = re.compile(rb"\r\n|\r|\n")
_NOT_IN_A_FIELD = re.compile(r"[\r\n\x00]")


class SseEvent(NamedTuple):
    """One event as a client sees it.

    Attributes:
        id: the last id that the stream named, as text; empty when it named none.
        event: its kind; ``message`` when the stream does not say.
        data: the lines of its data, joined by line feeds.
    """

    id: str
    event: str
    data: bytes


def encode_event(
    data: bytes, *, event: str | None = None, event_id: str | int | None = None
) -> bytes:
    """Return one event as it goes over the wire.

    Raises:
        ValueError: ``event`` or ``event_id`` holds a line break or NUL, which would forge other fields.
    """
    head = ""
    if event_id is not None:
        head = f"id: {_checked(str(event_id))}\n"
    if event is not None:
        head += f"event: {_checked(event)}\n"
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(_LINE_BREAK.split(data))
    return b"%bdata: %b\n\n" % (head.encode(), data)


def _checked(text: str) -> str:
    if _NOT_IN_A_FIELD.search(text):
        raise ValueError(f"a field of an event must not hold a line break or NUL: {text!r}")
    return text


class SseParser:
    """Turn chunks of a stream into events.

    Holds at most one unfinished event: never more than ``limit_bytes`` and one chunk.

    Args:
        limit_bytes: the largest event to accept, and the longest line.
    """

    __slots__ = (
        "_data",
        "_event",
        "_limit_bytes",
        "_seen_start",
        "_size_bytes",
        "_skip_line_feed",
        "_tail",
        "last_event_id",
        "retry_ms",
    )

    def __init__(self, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._tail = bytearray()
        self._seen_start = False
        self._skip_line_feed = False
        self._data: list[bytes] = []
        self._event = ""
        self._size_bytes = 0
        self.last_event_id = ""
        self.retry_ms: int | None = None

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """Take the next chunk and return the events that it completes.

        What the stream leaves unfinished at its end is no event and is to be forgotten.

        Raises:
            ProtocolError: a line or an event is over the limit.
        """
        events: list[SseEvent] = []
        for line in self._lines(chunk):
            if line:
                self._take_field(line)
            elif self._data:
                events.append(self._dispatch())
            else:
                self._forget()
        return events

    def _lines(self, chunk: bytes) -> list[bytes]:
        # A line feed that follows the carriage return of the last chunk ended no other line.
        if self._skip_line_feed and chunk:
            self._skip_line_feed = False
            chunk = chunk.removeprefix(b"\n")
        if b"\n" in chunk or b"\r" in chunk:
            lines = (bytes(self._tail) + chunk).splitlines(keepends=True)
            # bytes.splitlines knows the three line breaks of SSE and no others.
            self._tail = (
                bytearray() if lines[-1].endswith((b"\r", b"\n")) else bytearray(lines.pop())
            )
            self._skip_line_feed = not self._tail and chunk.endswith(b"\r")
        else:
            lines = []
            self._tail += chunk
        self._check_size(len(self._tail))
        return [self._without_bom(line).rstrip(b"\r\n") for line in lines]

    def _without_bom(self, line: bytes) -> bytes:
        if self._seen_start:
            return line
        self._seen_start = True
        return line.removeprefix(_BOM)

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._limit_bytes:
            raise ProtocolError(f"an event of the stream is over the limit of {self._limit_bytes}")

    def _take_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._size_bytes += len(value) + LINE_OVERHEAD_BYTES
            self._check_size(self._size_bytes)
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id" and b"\x00" not in value:
            self.last_event_id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit():
            self.retry_ms = int(value[:9])

    def _dispatch(self) -> SseEvent:
        event = SseEvent(self.last_event_id, self._event or "message", b"\n".join(self._data))
        self._forget()
        return event

    def _forget(self) -> None:
        self._data = []
        self._event = ""
        self._size_bytes = 0
