"""Put lines together to records: a head line and what belongs to it, such as a traceback."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .formats import Head, HeadReader, LogClock
from .levels import Level, guess_level

MAX_EXTRA_LINES = 200
"""Lines kept after a head line; a longer stack is cut, and the line that ends it still counts."""

# ECMA-48 control sequences (colours), OSC strings (titles), then every other control character.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROLS = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")

_TRACE_START = re.compile(r"\s*(?:Traceback \(most recent call last\):|goroutine \d+ \[)")
_TRACE_LINK = re.compile(
    r"(?:Caused by: |\.\.\. \d+ more|During handling of the above exception"
    r"|The above exception was the direct cause|goroutine \d+ \[|Suppressed: )"
)
_JAVA_EXCEPTION = re.compile(r"(?:[\w$]+\.)+[A-Z][\w$]*(?:Exception|Error|Throwable)(?:: |$)")
_EXCEPTION = re.compile(r"(?:Caused by: )?((?:[\w$]+\.)*[A-Z][\w$]*)(?:: (.*)|$)")


@dataclass(slots=True)
class Record:
    """One thing that was logged.

    Attributes:
        line_number: of its first line, from 1 on.
        at: seconds since the epoch, its own or of the record before it; None if there is none.
        level: what the line states, else what its words suggest.
        is_guess: whether the level is only suggested by the words.
        source: the program or module; empty if unknown.
        message: the message, with the exception's last line added if a traceback follows.
        text: the first line as it stands in the file, made safe to print.
        format: name of the line's format; ``text`` for a line without a known head.
        extra: the lines that belong to it.
    """

    line_number: int
    at: float | None
    level: Level
    source: str
    message: str
    text: str
    format: str
    is_guess: bool = False
    extra: list[str] = field(default_factory=list)


def sanitise(line: str) -> str:
    """Return a line as a terminal would leave it standing, without anything a terminal obeys.

    A carriage return starts the line anew, as in progress displays; colours and other controls go.
    """
    text = line.rstrip("\r\n")
    if "\r" in text:
        text = text.rpartition("\r")[2] or text.rstrip("\r").rpartition("\r")[2]
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    return _CONTROLS.sub("", text).rstrip()


class RecordAssembler:
    """Cut the lines of one file into records.

    A record is complete when the next one begins, so `feed` returns the one before; `flush`
    returns the last. Holds one record of at most `MAX_EXTRA_LINES` lines.
    """

    __slots__ = ("_at", "_in_trace", "_open", "_reader", "line_number")

    def __init__(self, clock: LogClock) -> None:
        self._reader = HeadReader(clock)
        self._open: Record | None = None
        self._in_trace = False
        self._at: float | None = None
        self.line_number = 0

    def feed(self, line: str) -> Record | None:
        """Take the next line and return the record that it completes, if any."""
        self.line_number += 1
        text = sanitise(line)
        if not text:
            return None
        if self._open is not None and self._belongs(text):
            self._append(text)
            return None
        done = self.flush()
        self._begin(text)
        return done

    def flush(self) -> Record | None:
        """Return the record that is open, if any: at the end, or when a follower waits."""
        record, self._open = self._open, None
        self._in_trace = False
        return _finish(record) if record else None

    def _belongs(self, text: str) -> bool:
        if _TRACE_START.match(text):
            # A traceback below a line that was logged belongs to it; two in a row are two.
            return not self._in_trace or _is_link(self._open)
        if text[0] in " \t":
            return True
        if self._in_trace and self._open is not None:
            return _TRACE_LINK.match(text) is not None or _expects_exception(self._open, text)
        return (
            _TRACE_LINK.match(text) is not None or _JAVA_EXCEPTION.match(text) is not None
        ) and _has_head(self._open)

    def _append(self, text: str) -> None:
        assert self._open is not None
        if _TRACE_START.match(text) or _is_frame(text):
            self._in_trace = True
        extra = self._open.extra
        if len(extra) < MAX_EXTRA_LINES:
            extra.append(text)
        else:
            extra[-1] = text

    def _begin(self, text: str) -> None:
        head = self._reader.read(text) or Head(None, Level.UNKNOWN, "", text.strip(), "text")
        if head.at is not None:
            self._at = head.at
        self._in_trace = _TRACE_START.match(text) is not None
        self._open = Record(
            self.line_number,
            self._at,
            head.level,
            head.source,
            head.message.strip() or text.strip(),
            text,
            head.format,
        )


def _has_head(record: Record | None) -> bool:
    return record is not None and record.format != "text"


def _is_frame(text: str) -> bool:
    return text.lstrip().startswith(("at ", 'File "', "... "))


def _is_link(record: Record | None) -> bool:
    """Tell whether the record's last line announces one more traceback of the same failure."""
    if record is None:
        return False
    return bool(record.extra) and _TRACE_LINK.match(record.extra[-1]) is not None


def _expects_exception(record: Record, text: str) -> bool:
    """Tell whether this line is the one that ends a traceback: ``ValueError: no such thing``."""
    last = record.extra[-1] if record.extra else record.text
    return (last[0] in " \t" or _TRACE_START.match(last) is not None) and (
        _EXCEPTION.match(text) is not None
    )


def _finish(record: Record) -> Record:
    exception = _find_exception(record)
    if exception:
        is_bare = _TRACE_START.match(record.text) is not None
        record.message = exception if is_bare else f"{record.message} | {exception}"
        record.level = max(record.level, Level.ERROR)
    elif record.level is Level.UNKNOWN:
        record.level = guess_level(record.message)
        record.is_guess = True
    return record


def _find_exception(record: Record) -> str | None:
    """Return the line that names the failure: Python's last, Java's last ``Caused by``."""
    if not record.extra:
        return None
    for text in reversed(record.extra):
        if text.startswith("Caused by: "):
            return text.removeprefix("Caused by: ")
    if not any(_TRACE_START.match(text) for text in (record.text, *record.extra)):
        return None
    for text in reversed(record.extra):
        if text[0] not in " \t" and _EXCEPTION.match(text):
            return text
    return None
