"""The bytes of one pipe → whole lines. Pure.

Bytes come in chunks that end anywhere. What is given out are blocks of whole lines, as large as they
can be: who works on a block at a time is ten times as fast as who works on a line at a time.
"""

from __future__ import annotations

from typing import NamedTuple


class Block(NamedTuple):
    """Lines that are complete.

    Attributes:
        data: whole lines, each with its newline; of an over-long line its beginning, without one.
        cut_bytes: how many bytes of an over-long line are beyond the limit; 0 for whole lines.
    """

    data: bytes
    cut_bytes: int = 0


class LineCutter:
    """Cuts a stream of bytes into blocks of whole lines.

    Args:
        limit_bytes: the longest line, its newline not counted.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._rest = b""
        self._is_long = False
        self._long_bytes = 0

    def feed(self, data: bytes, margin: int = 0) -> list[Block]:
        """Take a chunk and return what it completes.

        Args:
            data: the next bytes.
            margin: how many bytes to give beyond the limit of a line that is cut. `trim` takes them
                off again when the secrets are out.
        """
        blocks: list[Block] = []
        if self._is_long:
            data = self._skip_long(data, blocks)
        if self._is_long:
            return blocks
        text = self._rest + data
        self._cut(text, margin, blocks)
        return blocks

    def finish(self) -> list[Block]:
        """Return the last line, which came without a newline."""
        rest, self._rest = self._rest, b""
        size = self._long_bytes if self._is_long else len(rest)
        self._is_long = False
        if size > self._limit:
            return [Block(rest, size - self._limit)]
        return [Block(rest + b"\n")] if rest else []

    def _cut(self, text: bytes, margin: int, blocks: list[Block]) -> None:
        start = position = 0
        while len(text) - position > self._limit:
            newline = text.rfind(b"\n", position, position + self._limit + 1)
            if newline >= 0:
                position = newline + 1
                continue
            if position > start:
                blocks.append(Block(text[start:position]))
            end = text.find(b"\n", position)
            line = text[position : position + self._limit + margin]
            if end < 0 and len(text) - position <= self._limit + margin:
                self._rest = line
                return
            if end < 0:
                self._rest, self._is_long = line, True
                self._long_bytes = len(text) - position
                return
            blocks.append(Block(line[: end - position], end - position - self._limit))
            start = position = end + 1
        end = text.rfind(b"\n", position) + 1 or position
        if end > start:
            blocks.append(Block(text[start:end]))
        self._rest = text[end:]

    def _skip_long(self, data: bytes, blocks: list[Block]) -> bytes:
        """Pass over the rest of an over-long line; return what is behind it."""
        end = data.find(b"\n")
        if end < 0:
            self._long_bytes += len(data)
            return b""
        cut_bytes = self._long_bytes + end - self._limit
        blocks.append(Block(self._rest, cut_bytes))
        self._rest, self._is_long = b"", False
        return data[end + 1 :]


def trim(text: bytes, block: Block, limit_bytes: int, margin: int) -> bytes:
    """Return what may be shown of an over-long line whose secrets were taken out.

    At the end of what was kept may stand the beginning of a secret, which nobody can know for one.
    So as many bytes as a secret can have are left out there.

    Args:
        text: the block's data without secrets.
        block: as it was cut.
        limit_bytes: the longest line.
        margin: of the longest secret.
    """
    is_torn = len(block.data) < block.cut_bytes + limit_bytes
    end = min(limit_bytes, max(0, len(text) - margin) if is_torn else len(text))
    while 0 < end < len(text) and text[end] & 0xC0 == 0x80:
        end -= 1  # not within a character of UTF-8
    return text[:end]
