"""How serious a line is: what it says of itself, else what its words suggest."""

from __future__ import annotations

import re
from enum import IntEnum


class Level(IntEnum):
    """Seriousness of a line, comparable; the numbers are those of Python's logging."""

    UNKNOWN = 0
    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40
    CRITICAL = 50

    @property
    def label(self) -> str:
        """The name in lower case, as models and reports show it."""
        return self.name.lower()


_NAMES = {
    Level.DEBUG: "trace debug dbg verbose fine finer finest d t",
    Level.INFO: "info information notice log statement audit i",
    Level.WARNING: "warn warning w",
    Level.ERROR: "error err eror severe e",
    Level.CRITICAL: "critical crit fatal alert emerg emergency panic f c",
}
_BY_NAME = {name: level for level, names in _NAMES.items() for name in names.split()}

# RFC 5424, section 6.2.1: severities 0 (emergency) to 7 (debug).
_BY_SYSLOG_SEVERITY = (
    *(Level.CRITICAL,) * 3,
    Level.ERROR,
    Level.WARNING,
    Level.INFO,
    Level.INFO,
    Level.DEBUG,
)

# A name of a level as authors of log formats write it: in capitals, in brackets of any case, or
# as a key. Lower case without brackets is prose and is left to `guess_level`.
_EXPLICIT = re.compile(
    r"(?<![\w.-])(?:(TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|ERR|SEVERE|CRIT(?:ICAL)?|FATAL"
    r"|ALERT|EMERG(?:ENCY)?|PANIC|LOG|STATEMENT)(?![\w.=-])"
    r"|[\[<(](trace|debug|info|notice|warn|warning|error|err|crit|critical|fatal|alert|emerg)[\])>]"
    r"|(?:level|severity|lvl)=\"?(\w+))"
)
_EXPLICIT_WITHIN_CHARS = 90

# A word counts only when it stands alone: "libgpg-error0", "error.html" and "on-error" are names.
_ALONE = r"(?<![\w./@-])(?:{words})(?![\w/@-]|\.\w)"
_CRITICAL_WORDS = re.compile(
    _ALONE.format(
        words=r"panic|segfault|segmentation fault|out of memory|oom[- ]kill(?:er|ed)?|fatal"
        r"|core dumped|data loss|no space left on device|read-only file system|kernel bug|deadlock"
    ),
    re.IGNORECASE,
)
_ERROR_WORDS = re.compile(
    _ALONE.format(
        words=r"errors?|fail(?:s|ed|ure|ures|ing)?|exceptions?|traceback|refused|denied|aborted"
        r"|timed out|timeout|unable to|cannot|can't|could not|couldn't|corrupt(?:ed|ion)?|crash(?:ed)?"
        r"|unreachable|invalid user|not permitted|broken pipe|connection reset|giving up|lost"
    ),
    re.IGNORECASE,
)
# The class of an exception: "KeyError", "java.io.IOException", not the package "liberror-perl".
_EXCEPTION_NAMES = re.compile(r"\b[A-Z]\w*[a-z](?:Error|Exception)\b")
_WARNING_WORDS = re.compile(
    _ALONE.format(
        words=r"warn(?:ing|ings)?|deprecated|retry(?:ing)?|retries|slow|exceeded|throttl(?:ed|ing)"
        r"|invalid|missing|not found|possible break-in|too many|expired|skipp(?:ed|ing)|ignored"
    ),
    re.IGNORECASE,
)
# "0 errors", "no errors", "without error", "error=0", "errors: 0" report that all is well.
_NEGATED = re.compile(
    r"\b(?:0|no|without|zero)\s+(?:errors?|failures?|warnings?|failed|exceptions?)\b"
    r"|\b(?:errors?|failures?|warnings?|failed)\s*[=:]\s*(?:0|none|null|\"\")(?![\w.])",
    re.IGNORECASE,
)


def level_of_name(name: object) -> Level:
    """Return the level that a log format calls ``name``; a number is read as Python's or pino's."""
    if isinstance(name, int | float) and not isinstance(name, bool):
        return max((level for level in Level if level <= name), default=Level.UNKNOWN)
    return _BY_NAME.get(str(name).strip().lower(), Level.UNKNOWN)


def level_of_priority(priority: int) -> Level:
    """Return the level of a syslog priority (facility * 8 + severity)."""
    return _BY_SYSLOG_SEVERITY[priority % 8]


def level_of_status(status: int) -> Level:
    """Return the level of an HTTP status: the server's fault is an error, the client's a warning."""
    if status >= 500:
        return Level.ERROR
    return Level.WARNING if status >= 400 else Level.INFO


def find_level(text: str) -> Level:
    """Return the level that the beginning of a line states, or UNKNOWN."""
    match = _EXPLICIT.search(text, 0, _EXPLICIT_WITHIN_CHARS)
    if match is None:
        return Level.UNKNOWN
    return level_of_name(match[1] or match[2] or match[3])


def guess_level(message: str) -> Level:
    """Return the level that the words of a message suggest, or UNKNOWN."""
    if _CRITICAL_WORDS.search(message):
        return Level.CRITICAL
    if _NEGATED.search(message):
        message = _NEGATED.sub("", message)
    if _ERROR_WORDS.search(message) or _EXCEPTION_NAMES.search(message):
        return Level.ERROR
    return Level.WARNING if _WARNING_WORDS.search(message) else Level.UNKNOWN


def telling_word(message: str) -> str | None:
    """Return the first word that makes a message look bad; None if there is none."""
    if match := _CRITICAL_WORDS.search(message):
        return match[0].lower()
    message = _NEGATED.sub("", message)
    for pattern in (_EXCEPTION_NAMES, _ERROR_WORDS, _WARNING_WORDS):
        if match := pattern.search(message):
            return match[0] if pattern is _EXCEPTION_NAMES else match[0].lower()
    return None
