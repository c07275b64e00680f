"""Walk through the members of a large JSON object without having all of it in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator

from kagent_sdk.errors import StateFileError
from kagent_sdk.protocol.json_text import (
    JsonTextError,
    check_text,
    read_member,
    skip_blank,
)

CHUNK_BYTES = 4 * 1024 * 1024
MEMBER_BYTES = 2 * 1024 * 1024
"""What is in sight of a member at least: key, value, and the white space around them."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_string(raw: bytes) -> str:
    """Return what a valid JSON string says; most are as they stand there, which is quick."""
    if b"\\" not in raw:
        return raw[1:-1].decode()
    text: str = json.loads(raw)
    return text


class TextWindow:
    """A part of a text, moved over it from its beginning to its end.

    Args:
        read: returns the next bytes of the text, at most as many; none at its end.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._text = b""
        self._position = 0
        self._is_last = False
        self._lines = 0
        self._columns = 0
        self._refill()
        if self._text.startswith(_BYTE_ORDER_MARK):
            self._position = len(_BYTE_ORDER_MARK)

    def read_object(self, streamed: Collection[str]) -> Iterator[tuple[str, bytes | None]]:
        """Enter the object that begins here and yield its members: key and raw value.

        Args:
            streamed: keys of members that are objects and may be large. These come with None for
                the value: read them with this method before going on.

        Raises:
            StateFileError: it is no object, torn, no JSON, or a member is too large.
        """
        self._expect(b"{", "a JSON object")
        if self._take(b"}"):
            return
        while True:
            self._fill()
            key = self._peek(streamed)
            if key is None:
                yield self._member()
            else:
                yield key, None
                self._next_member()
            if self._text.startswith(b"}", self._position):
                self._position += 1
                return

    def finish(self) -> None:
        """See that nothing follows.

        Raises:
            StateFileError: something does.
        """
        while not (self._blank_only() and self._is_last):
            if not self._blank_only():
                self._position = skip_blank(self._text, self._position)
                raise self.error("something follows the object")
            self._position = len(self._text)
            self._refill()

    def error(self, reason: str, position: int | None = None) -> StateFileError:
        """Return an error that says where in the text it is: here, or at an offset of the window."""
        at = self._position if position is None else min(position, len(self._text))
        line, column = self._count(at)
        return StateFileError(f"line {line + 1}, column {column + 1}: {reason}")

    def _count(self, position: int) -> tuple[int, int]:
        lines = self._text.count(b"\n", 0, position)
        start = self._text.rfind(b"\n", 0, position) + 1
        columns = len(self._text[start:position].decode(errors="replace"))
        return self._lines + lines, columns + (0 if lines else self._columns)

    def _blank_only(self) -> bool:
        return not self._text[self._position :].strip(b" \t\r\n")

    def _fill(self) -> None:
        if not self._is_last and len(self._text) - self._position < MEMBER_BYTES:
            self._refill()

    def _refill(self) -> None:
        """Move the window on: what is behind leaves it, a chunk or what is needed is added."""
        self._lines, self._columns = self._count(self._position)
        parts = [self._text[self._position :]]
        size_bytes = len(parts[0])
        while not self._is_last:
            parts.append(self._read(CHUNK_BYTES))
            size_bytes += len(parts[-1])
            self._is_last = not parts[-1]
            if size_bytes >= MEMBER_BYTES:
                break
        self._text = b"".join(parts)
        self._position = 0

    def _member(self) -> tuple[str, bytes]:
        try:
            raw_key, value, end = read_member(self._text, self._position)
        except JsonTextError as exc:
            if not self._is_last and exc.position >= len(self._text):
                raise self.error(f"a member of more than {MEMBER_BYTES} bytes") from None
            raise self.error(exc.reason, exc.position) from None
        self._check(raw_key)
        self._check(value)
        self._position = end
        return read_string(raw_key), value

    def _check(self, part: bytes) -> None:
        if b"\\" not in part and part.isascii():
            return
        try:
            check_text(part)
        except JsonTextError as exc:
            start = self._text.index(part, self._position)
            raise self.error(exc.reason, start + exc.position) from None

    def _peek(self, streamed: Collection[str]) -> str | None:
        """Enter a member that is to be streamed; return its key, or None if it is another."""
        for key in streamed:
            raw = b'"' + key.encode() + b'"'
            if self._text.startswith(raw, self._position):
                self._position += len(raw)
                self._expect(b":", "':'")
                return key
        return None

    def _next_member(self) -> None:
        """Go on behind a member that was streamed."""
        self._fill()
        if self._take(b","):
            self._position = skip_blank(self._text, self._position)
            wanted, what = b'"', "a string"
        else:
            wanted, what = b"}", "',' or '}'"
        if self._text[self._position : self._position + 1] != wanted:
            raise self._missing(what)

    def _missing(self, what: str) -> StateFileError:
        is_end = self._position == len(self._text)
        return self.error(
            f"the text ends where {what} is expected" if is_end else f"{what} is expected"
        )

    def _expect(self, byte: bytes, what: str) -> None:
        self._fill()
        if not self._take(byte):
            raise self._missing(what)
        self._position = skip_blank(self._text, self._position)

    def _take(self, byte: bytes) -> bool:
        self._position = skip_blank(self._text, self._position)
        found = self._text[self._position : self._position + 1] == byte
        self._position += found
        return found
