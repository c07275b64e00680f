"""Whole lines → records: plain text, JSON and bursts, with the task they belong to. Pure.

Most lines are plain and are told alike, but for their text. So a block of them becomes records by
three replacements in one buffer, and only lines that need it are looked at one by one: those that
are indented, JSON, tagged, or begin a traceback. One regular expression finds them.

The last line of what came is held back: the next one may be indented and belong to it. `flush_quiet`
gives it out when nothing comes for a while.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from kagent_sdk.host.logs import bursts
from kagent_sdk.host.logs.bursts import Burst
from kagent_sdk.host.logs.json_lines import Source, complete, encode, escape, quote
from kagent_sdk.protocol.log_tags import decode_tag, split_tag

SLICE_BYTES = 32 * 1024
"""So much plain text becomes records at a time: an empty line becomes a hundred times as long."""

MAX_OPEN_BURSTS = 64
MAX_KNOWN_TAGS = 256

_CARE = rb"[{ \t\x1e]|" + bursts.BEGINNINGS
_NEEDS_CARE = re.compile(_CARE)
_NEXT_CARE = re.compile(rb"\n(?=%b)" % _CARE)
_FOLLOWS = re.compile(rb"[ \t\x1e]|Traceback ")
"""What may belong to the line above, or have what does behind it."""

UNTAGGED = b""


class Records(NamedTuple):
    """Finished records.

    Attributes:
        data: one line of JSON for each.
        number: how many.
    """

    data: bytes
    number: int


class Recorder:
    """Makes records of the lines of one pipe.

    Args:
        source: where the lines come from.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._bursts: dict[bytes, Burst] = {}
        self._touched: set[bytes] = set()
        self._tags: dict[bytes, bytes | None] = {}

    @property
    def is_holding(self) -> bool:
        """Whether there are lines that `flush` would give out."""
        return bool(self._bursts)

    def feed(self, block: bytes, stamp: bytes) -> Iterator[Records]:
        """Take whole lines and yield the records that they complete.

        Args:
            block: lines, each with its newline.
            stamp: the time for all of them, as it stands in a record.
        """
        position = 0
        while position < len(block):
            held = self._bursts.get(UNTAGGED)
            if _NEEDS_CARE.match(block, position) or (held and not held.is_single):
                end = block.find(b"\n", position)
                yield from self._take(block[position:end], stamp)
                position = end + 1
                continue
            yield from self._close(UNTAGGED)
            end, stop = _find_plain(block, position)
            yield from self._plain(block, position, end, stamp)
            if end < stop:
                self._hold(UNTAGGED, block[end : stop - 1], stamp)
            position = stop

    def feed_cut(self, line: bytes, cut_bytes: int, stamp: bytes) -> Iterator[Records]:
        """Take the beginning of an over-long line; it is a record of its own that says so."""
        tag, text = self._split(line)
        yield from self._close(tag)
        yield self._record(b"info", stamp, tag, [(b"event", text)], b',"cut_bytes":%d' % cut_bytes)

    def flush_quiet(self) -> Iterator[Records]:
        """Yield what was held back and to which nothing was added since the last call."""
        for tag in [tag for tag in self._bursts if tag not in self._touched]:
            yield from self._close(tag)
        self._touched.clear()

    def flush(self) -> Iterator[Records]:
        """Yield all that was held back: nothing more comes."""
        for tag in list(self._bursts):
            yield from self._close(tag)

    def _plain(self, block: bytes, start: int, end: int, stamp: bytes) -> Iterator[Records]:
        before = b'{"timestamp":"%b","level":"info","event":"' % stamp
        behind = b'",%b}\n' % self._source.text
        joint = behind + before
        while start < end:
            stop = end
            if end - start > SLICE_BYTES:
                stop = block.rfind(b"\n", start, start + SLICE_BYTES) + 1
                stop = stop or block.find(b"\n", start) + 1
            text = escape(block[start : stop - 1])
            joined = text.replace(b"\n", joint)
            number = 1 + (len(joined) - len(text)) // (len(joint) - 1)
            yield Records(b"%b%b%b" % (before, joined, behind), number)
            start = stop

    def _take(self, line: bytes, stamp: bytes) -> Iterator[Records]:
        """Take one line that may belong to others, or is JSON."""
        tag, text = self._split(line)
        if text.startswith(b"{"):
            document = complete(text, self._source, stamp=stamp, tag=tag)
            if document is not None:
                yield from self._close(tag)
                yield Records(document + b"\n", 1)
                return
        burst = self._bursts.get(tag)
        if burst is not None and burst.takes(text):
            self._touched.add(tag)
            return
        yield from self._close(tag)
        if len(self._bursts) >= MAX_OPEN_BURSTS:
            yield from self._close(next(iter(self._bursts)))
        self._hold(tag, text, stamp)

    def _hold(self, tag: bytes, line: bytes, stamp: bytes) -> None:
        self._bursts[tag] = Burst(line, stamp)
        self._touched.add(tag)

    def _close(self, tag: bytes) -> Iterator[Records]:
        burst = self._bursts.pop(tag, None)
        if burst is None:
            return
        if not burst.is_traceback:
            yield self._record(b"info", burst.stamp, tag, [(b"event", burst.text)])
            return
        level = b"critical" if burst.is_fatal else b"error"
        texts = [(b"event", burst.summary), (b"exception", burst.text)]
        yield self._record(level, burst.stamp, tag, texts)

    def _record(
        self,
        level: bytes,
        stamp: bytes,
        tag: bytes,
        texts: list[tuple[bytes, bytes]],
        more: bytes = b"",
    ) -> Records:
        told = b",".join(b'"%b":%b' % (key, quote(text)) for key, text in texts)
        more += b"," + tag[1:-1] if tag else b""
        record = b'{"timestamp":"%b","level":"%b",%b,%b%b}\n' % (
            stamp,
            level,
            told,
            self._source.text,
            more,
        )
        return Records(record, 1)

    def _split(self, line: bytes) -> tuple[bytes, bytes]:
        """Return a line's tag, written anew, and its text; a wrong tag is a part of the text."""
        raw, text = split_tag(line)
        if not raw:
            return UNTAGGED, line
        if raw not in self._tags:
            if len(self._tags) >= MAX_KNOWN_TAGS:
                self._tags.clear()
            members = decode_tag(raw)
            self._tags[raw] = None if members is None else encode(members)
        tag = self._tags[raw]
        return (UNTAGGED, line) if tag is None else (tag, text)


def _find_plain(block: bytes, start: int) -> tuple[int, int]:
    """Return where the plain lines end that are sure to stand alone, and where the next is not plain.

    Between the two is the last plain line, if what comes behind may belong to it.
    """
    match = _NEXT_CARE.search(block, start)
    stop = match.end() if match else len(block)
    if stop < len(block) and not _FOLLOWS.match(block, stop):
        return stop, stop
    return block.rfind(b"\n", start, stop - 1) + 1 or start, stop
