"""Lines that belong together: tracebacks, dumps of faulthandler, and lines with indented ones below. Pure.

The rules, for the lines of one pipe and one task:

- A line belongs to the one above when it begins with a space or a tab. A line of closing brackets
  ends such a block.
- ``Traceback (most recent call last):`` takes all indented lines below and the line of the
  exception, with the places that a ValidationError of pydantic names. An empty line and ``During
  handling of …`` or ``The above exception …`` chain the next. A line above that announces it
  (``Exception in thread …:``, a line with ``ERROR``) belongs to it.
- ``  + Exception Group Traceback`` is indented to its end, and can be chained too.
- ``  File "…", line 1`` at the beginning is a SyntaxError of the script itself.
- ``Fatal Python error: …`` and ``Current thread 0x…`` begin a dump of faulthandler.

Any other line ends the burst, as does a burst's limit in lines or bytes.
"""

from __future__ import annotations

import re
from enum import Enum, auto

MAX_LINES = 1000
MAX_BYTES = 256 * 1024
"""A burst is ended there and the next line begins another one; nothing is lost."""

BEGINNINGS = (
    rb"Traceback \(most recent call last\):"
    rb"|Fatal Python error: "
    rb"|(?:Current thread|Thread) 0x[0-9a-f]"
    rb"|Timeout \(\d"
    rb"|Stack \(most recent call first\):"
)
"""Of lines that begin a burst though they are not indented."""

_TRACEBACK = re.compile(rb"Traceback \(most recent call last\):")
_GROUP = re.compile(rb"  \+ Exception Group Traceback \(most recent call last\):")
_DUMP = re.compile(BEGINNINGS)
_DUMP_PART = re.compile(
    rb"\s|$|Current thread|Thread 0x|Python runtime state|Extension modules: |<"
)
_SYNTAX_ERROR = re.compile(rb'  File ".*", line \d+\r?$')
_EXCEPTION = re.compile(rb"[A-Za-z_][\w.<>]*(?::(?: |$)|\r?$)")
_VALIDATION = re.compile(rb"\d validation errors? for ")
_LOCATION = re.compile(rb"\S+\r?$")
"""Of pydantic: the places of the errors stand on lines of their own, and are not indented."""
_GROUP_EXCEPTION = re.compile(rb"  \| ([A-Za-z_].*)")
_LINK = re.compile(rb"During handling of the above exception|The above exception was the direct")
_ANNOUNCEMENT = re.compile(rb"Exception (?:in|ignored)\b|\b(?:ERROR|CRITICAL|FATAL)\b|Error\b.*:$")
_CLOSING = re.compile(rb"[\])}]+[,;]?\r?$")


class _State(Enum):
    """What came last, and so what may follow."""

    PLAIN = auto()
    FRAMES = auto()
    EXCEPTION = auto()
    GROUP = auto()
    GAP = auto()
    LINK = auto()
    DUMP = auto()
    ENDED = auto()


class Burst:
    """One line, and those that turn out to belong to it.

    Args:
        line: the first one, without its newline.
        stamp: when it came.

    Attributes:
        lines: so far.
        stamp: of the first line.
    """

    __slots__ = ("_bytes", "_exception", "_state", "lines", "stamp")

    def __init__(self, line: bytes, stamp: bytes) -> None:
        self.lines = [line]
        self.stamp = stamp
        self._bytes = len(line)
        self._exception = b""
        self._state = _begin(line)

    @property
    def is_single(self) -> bool:
        """Whether it is one plain line so far, which may well stay alone."""
        return self._state is _State.PLAIN and len(self.lines) == 1

    @property
    def is_traceback(self) -> bool:
        """Whether it tells where a program was: a traceback or a dump of faulthandler."""
        return self._state not in (_State.PLAIN, _State.ENDED)

    @property
    def is_fatal(self) -> bool:
        """Whether the interpreter itself came to its end."""
        return self.lines[0].startswith(b"Fatal Python error: ")

    @property
    def text(self) -> bytes:
        """All lines, newlines between them."""
        return b"\n".join(self.lines)

    @property
    def summary(self) -> bytes:
        """The line that says it all: of a traceback the exception, else the first one."""
        return self._exception or self.lines[0]

    def takes(self, line: bytes) -> bool:
        """Take a line if it belongs here; else this burst has ended."""
        if len(self.lines) >= MAX_LINES or self._bytes + len(line) > MAX_BYTES:
            return False
        state = self._follow(line)
        if state is None:
            return False
        if state is _State.EXCEPTION and self._state is _State.FRAMES:
            self._exception = line
        elif state is _State.GROUP:
            self._note_group(line)
        self._state = state
        self.lines.append(line)
        self._bytes += len(line) + 1
        return True

    def _note_group(self, line: bytes) -> None:
        if self._state is not _State.GROUP:
            self._exception = b""
        elif not self._exception and (match := _GROUP_EXCEPTION.match(line)):
            self._exception = match[1]

    def _follow(self, line: bytes) -> _State | None:
        """Return the state behind a line, or None when it does not belong here."""
        state, is_indented = self._state, line[:1] in (b" ", b"\t")
        if state is _State.PLAIN:
            return self._follow_plain(line, is_indented=is_indented)
        if state is _State.DUMP:
            return state if _DUMP_PART.match(line) else None
        if state in (_State.GAP, _State.LINK):
            return _follow_gap(line)
        if is_indented:
            return state if state is not _State.ENDED else None
        if state is _State.FRAMES:
            return _State.EXCEPTION if _EXCEPTION.match(line) else None
        return self._follow_exception(line) if state is not _State.ENDED else None

    def _follow_exception(self, line: bytes) -> _State | None:
        if _VALIDATION.search(self._exception) and _LOCATION.match(line):
            return _State.EXCEPTION
        return _State.GAP if not line.strip() else None

    def _follow_plain(self, line: bytes, *, is_indented: bool) -> _State | None:
        if is_indented:
            # A whole traceback of its own.
            return None if _begin(line) is not _State.PLAIN else _State.PLAIN
        if len(self.lines) > 1:
            return _State.ENDED if _CLOSING.match(line) else None
        is_announced = _TRACEBACK.match(line) and _ANNOUNCEMENT.search(self.lines[0])
        return _State.FRAMES if is_announced else None


def _begin(line: bytes) -> _State:
    if _TRACEBACK.match(line) or _SYNTAX_ERROR.match(line):
        return _State.FRAMES
    if _GROUP.match(line):
        return _State.GROUP
    return _State.DUMP if _DUMP.match(line) else _State.PLAIN


def _follow_gap(line: bytes) -> _State | None:
    if _TRACEBACK.match(line):
        return _State.FRAMES
    if _GROUP.match(line):
        return _State.GROUP
    return _State.LINK if not line.strip() or _LINK.match(line) else None
