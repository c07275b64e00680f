"""Read the head of a log line: when, how serious, which program, and what is left: the message.

Every reader takes a line and the clock that dates it, and returns a `Head`, or None when the line
is not of its format. `HeadReader` tries them, the last one that fitted first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

from .levels import Level, find_level, level_of_name, level_of_priority, level_of_status

_MONTH_NAMES = ("Jan Feb Mar", "Apr May Jun", "Jul Aug Sep", "Oct Nov Dec")
MONTHS = {name: number for number, name in enumerate(" ".join(_MONTH_NAMES).split(), 1)}


@dataclass(frozen=True, slots=True)
class Head:
    """What stands before the message, and the message.

    Attributes:
        at: seconds since the epoch; None if the line has no time.
        level: what the line states; UNKNOWN if it states none.
        source: the program or module that wrote it; empty if unknown.
        message: the rest of the line.
        format: name of the format.
    """

    at: float | None
    level: Level
    source: str
    message: str
    format: str


@dataclass(frozen=True, slots=True)
class LogClock:
    """How times without a year or a zone are read.

    Attributes:
        reference: a time not before the last line, such as the file's modification time.
        zone: zone of times that name none; None is the machine's own.
    """

    reference: datetime
    zone: tzinfo | None = None

    def seconds(self, moment: datetime) -> float:
        """Return seconds since the epoch."""
        if moment.tzinfo is None and self.zone is not None:
            moment = moment.replace(tzinfo=self.zone)
        return moment.timestamp()

    def in_year(self, month: int, day: int, clock: str) -> float | None:
        """Date a time that has no year: the last such day up to a day after the reference."""
        for year in (self.reference.year + 1, self.reference.year, self.reference.year - 1):
            moment = parse_iso(f"{year:04}-{month:02}-{day:02}T{clock}")
            if moment is None:  # February 29th
                continue
            seconds = self.seconds(moment)
            if seconds <= (self.reference + timedelta(days=1)).timestamp():
                return seconds
        return None


@lru_cache(maxsize=4096)
def parse_iso(text: str) -> datetime | None:
    """Parse ISO 8601 and its usual misspellings (two spaces, a comma, ``UTC``)."""
    tidy = " ".join(text.split()).replace(",", ".").replace(" UTC", "Z").replace(" GMT", "Z")
    tidy = re.sub(r" (?=[+-]\d\d:?\d\d$)", "", tidy)
    tidy = re.sub(r"(\.\d{6})\d+", r"\1", tidy)
    try:
        return datetime.fromisoformat(tidy)
    except ValueError:
        return None


@lru_cache(maxsize=4096)
def parse_as(text: str, layout: str) -> datetime | None:
    """Parse by a `strptime` layout."""
    try:
        return datetime.strptime(text, layout)  # noqa: DTZ007 - LogClock adds the zone
    except ValueError:
        return None


_STAMP = r"\d{4}-\d\d-\d\d[T ]{1,2}\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z| ?[+-]\d\d:?\d\d| UTC| GMT)?"
_ISO = re.compile(rf"[\[(]?({_STAMP})[\])]?(?: [A-Z]{{3,4}}(?= \[))?[\s:,|-]*(.*)", re.DOTALL)
_PROGRAM = re.compile(r"(\S+) ([A-Za-z_][\w./@-]*)(?:\[(\d+)\])?: (.*)", re.DOTALL)
_DPKG = re.compile(
    r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:(status|startup) (\S+) ?"
    r"|(?=(?:install|upgrade|configure|trigproc|remove|purge|disappear|conffile) ))(.*)"
)
_NAMED = re.compile(rf"([A-Za-z][\w. -]{{0,30}}?):? ({_STAMP})(?:: ?(.*))?$", re.DOTALL)
_SYSLOG = re.compile(
    r"(?:<(\d{1,3})>)?([A-Z][a-z]{2}) ([ \d]\d) (\d\d:\d\d:\d\d(?:\.\d+)?) (\S+) "
    r"([^\s:\[]+)(?:\[([^\]]*)\])?: ?(.*)",
    re.DOTALL,
)
_RFC5424 = re.compile(
    r"<(\d{1,3})>1 (\S+) (\S+) (\S+) (\S+) (\S+) (?:-|(?:\[(?:[^\]\\]|\\.)*\])+) ?\ufeff?(.*)",
    re.DOTALL,
)
_ACCESS = re.compile(
    r"(\S+) \S+ .{1,64}? ?\[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] "
    r'"((?:[^"\\]|\\.)*)" (\d{3}) (\S+)'
)
_NGINX_ERROR = re.compile(
    r"(\d{4})/(\d\d)/(\d\d) (\d\d:\d\d:\d\d) \[(\w+)\] \d+#\d+: (?:\*\d+ )?(.*)", re.DOTALL
)
_APACHE_ERROR = re.compile(
    r"\[[A-Z][a-z]{2} ([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d)(?:\.\d+)? (\d{4})\] "
    r"\[(?:([\w-]*):)?(\w+)\] (?:\[pid [^\]]*\] )?(?:\[client [^\]]*\] )?(.*)",
    re.DOTALL,
)
_KLOG = re.compile(
    r"([IWEF])(\d\d)(\d\d) (\d\d:\d\d:\d\d\.\d+)\s+\d+ ([\w./-]+:\d+)\] ?(.*)", re.DOTALL
)
_HADOOP = re.compile(r"(\d{6} \d{6}) \d+ ([A-Z]+) ([\w.$-]+): ?(.*)", re.DOTALL)
_EPOCH = re.compile(r"\[?(1\d{9}(?:\.\d+)?)\]?[\s:]+(.*)", re.DOTALL)
_KERNEL = re.compile(r"\[ *\d+\.\d{3,}\] (.*)", re.DOTALL)
_PAIR = re.compile(r'([A-Za-z_][\w.]*)=("(?:[^"\\]|\\.)*"|\S*)')

_TIME_KEYS = ("time", "timestamp", "ts", "@timestamp", "t", "date", "datetime", "asctime")
_LEVEL_KEYS = ("level", "severity", "lvl", "levelname", "log.level", "PRIORITY")
_MESSAGE_KEYS = ("msg", "message", "event", "MESSAGE", "log")
_SOURCE_KEYS = ("logger", "name", "app", "service", "component", "module", "SYSLOG_IDENTIFIER")
_ERROR_KEYS = ("error", "err", "exception", "exc_info", "reason")


def read_iso(line: str, clock: LogClock) -> Head | None:
    """``2025-06-24T14:36:25.1Z …``, with rsyslog's host and program after it or without."""
    match = _ISO.match(line)
    moment = parse_iso(match[1]) if match else None
    if match is None or moment is None:
        return None
    message, source = match[2], ""
    level = find_level(message)
    if "T" in match[1] and (program := _PROGRAM.match(message)):
        source, message = program[2], program[4]
    return Head(clock.seconds(moment), level, source, message, "iso8601")


def read_dpkg(line: str, clock: LogClock) -> Head | None:
    """dpkg.log: ``2025-06-24 14:36:25 status installed libc6:amd64 2.36-9``.

    The message begins with one word, ``status=installed``: it tells the states apart.
    """
    match = _DPKG.match(line)
    moment = parse_iso(match[1]) if match else None
    if match is None or moment is None:
        return None
    message = match[4] if match[2] is None else f"{match[2]}={match[3]} {match[4]}"
    return Head(clock.seconds(moment), Level.UNKNOWN, "dpkg", message.rstrip(), "dpkg")


def read_named(line: str, clock: LogClock) -> Head | None:
    """``update-alternatives 2025-06-24 14:36:53: …`` and apt's ``Start-Date: 2025-06-24  14:36:25``."""
    match = _NAMED.match(line)
    moment = parse_iso(match[2]) if match else None
    if match is None or moment is None:
        return None
    name, message = match[1], match[3]
    if message is None:
        return Head(clock.seconds(moment), Level.UNKNOWN, "", f"{name}:", "name+time")
    return Head(clock.seconds(moment), find_level(message), name, message, "name+time")


def read_syslog(line: str, clock: LogClock) -> Head | None:
    """RFC 3164: ``Jun 24 14:36:25 host sshd[42]: …``, with ``<PRI>`` or without."""
    match = _SYSLOG.match(line)
    if match is None or match[2] not in MONTHS:
        return None
    at = clock.in_year(MONTHS[match[2]], int(match[3]), match[4])
    level = level_of_priority(int(match[1])) if match[1] else find_level(match[8])
    return Head(at, level, match[6], match[8], "syslog")


def read_rfc5424(line: str, clock: LogClock) -> Head | None:
    """RFC 5424: ``<34>1 2003-10-11T22:14:15.003Z host app pid msgid [data] …``."""
    match = _RFC5424.match(line)
    if match is None:
        return None
    moment = parse_iso(match[2])
    at = clock.seconds(moment) if moment else None
    return Head(at, level_of_priority(int(match[1])), match[4], match[7], "rfc5424")


def read_access(line: str, clock: LogClock) -> Head | None:
    """Access log of nginx or Apache; the message is ``HTTP-500 GET /path``."""
    match = _ACCESS.match(line)
    if match is None:
        return None
    moment = parse_as(match[2], "%d/%b/%Y:%H:%M:%S %z")
    method, _, rest = match[3].partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    message = f"HTTP-{match[4]} {method} {path}".rstrip()
    at = clock.seconds(moment) if moment else None
    return Head(at, level_of_status(int(match[4])), "access", message, "access")


def read_nginx_error(line: str, clock: LogClock) -> Head | None:
    """``2025/06/24 14:36:25 [error] 7#7: *1 …``."""
    match = _NGINX_ERROR.match(line)
    moment = parse_iso(f"{match[1]}-{match[2]}-{match[3]}T{match[4]}") if match else None
    if match is None or moment is None:
        return None
    return Head(clock.seconds(moment), level_of_name(match[5]), "nginx", match[6], "nginx_error")


def read_apache_error(line: str, clock: LogClock) -> Head | None:
    """``[Tue Jun 24 14:36:25.1 2025] [core:error] [pid 7] …``."""
    match = _APACHE_ERROR.match(line)
    moment = parse_as(f"{match[1]} {match[2]}", "%b %d %H:%M:%S %Y") if match else None
    if match is None or moment is None:
        return None
    level = level_of_name(match[4])
    return Head(clock.seconds(moment), level, match[3] or "apache", match[5], "apache_error")


def read_klog(line: str, clock: LogClock) -> Head | None:
    """Kubernetes' klog: ``E0624 14:36:25.123456       7 server.go:42] …``."""
    match = _KLOG.match(line)
    if match is None:
        return None
    at = clock.in_year(int(match[2]), int(match[3]), match[4])
    return Head(at, level_of_name(match[1]), match[5], match[6], "klog")


def read_hadoop(line: str, clock: LogClock) -> Head | None:
    """Hadoop's ``081109 203518 143 INFO dfs.DataNode: …``."""
    match = _HADOOP.match(line)
    moment = parse_as(match[1], "%y%m%d %H%M%S") if match else None
    if match is None or moment is None:
        return None
    return Head(clock.seconds(moment), level_of_name(match[2]), match[3], match[4], "hadoop")


def read_epoch(line: str, _clock: LogClock) -> Head | None:
    """``1750775785.123 …``: seconds since the epoch."""
    match = _EPOCH.match(line)
    return match and Head(float(match[1]), find_level(match[2]), "", match[2], "epoch")


def read_kernel(line: str, _clock: LogClock) -> Head | None:
    """``[   12.345678] …``: seconds since boot, which date nothing."""
    match = _KERNEL.match(line)
    return match and Head(None, find_level(match[1]), "kernel", match[1], "kernel")


def read_json(line: str, clock: LogClock) -> Head | None:
    """One JSON object per line, with the usual names for time, level, logger and message."""
    if not line.startswith("{"):
        return None
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return _read_pairs(entry, clock, "json") if isinstance(entry, dict) else None


def read_logfmt(line: str, clock: LogClock) -> Head | None:
    """``time=… level=… msg="…"``."""
    if "=" not in line[:40]:
        return None
    entry = {match[1]: match[2].strip('"') for match in _PAIR.finditer(line)}
    if not any(key in entry for key in _MESSAGE_KEYS) or len(entry) < 2:
        return None
    return _read_pairs(entry, clock, "logfmt")


def _read_pairs(entry: dict[str, object], clock: LogClock, name: str) -> Head:
    parts = [_first(entry, _MESSAGE_KEYS), _first(entry, _ERROR_KEYS)]
    message = ": ".join(str(part).strip() for part in parts if part not in (None, "", False))
    level = _first(entry, _LEVEL_KEYS)
    source = _first(entry, _SOURCE_KEYS)
    return Head(
        _read_time(_first(entry, _TIME_KEYS), clock),
        level_of_name(level) if level is not None else Level.UNKNOWN,
        str(source) if isinstance(source, str) else "",
        message or json.dumps(entry)[:2000],
        name,
    )


def _first(entry: dict[str, object], keys: tuple[str, ...]) -> object:
    return next((entry[key] for key in keys if entry.get(key) is not None), None)


def _read_time(value: object, clock: LogClock) -> float | None:
    if isinstance(value, str):
        moment = parse_iso(value)
        return clock.seconds(moment) if moment else None
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
        while seconds > 1e11:  # milli-, micro- and nanoseconds are in use as well
            seconds /= 1000
        return seconds if seconds > 1e8 else None
    return None


Reader = Callable[[str, LogClock], Head | None]

READERS: tuple[Reader, ...] = (
    read_json,
    read_rfc5424,
    read_syslog,
    read_dpkg,
    read_iso,
    read_access,
    read_nginx_error,
    read_apache_error,
    read_klog,
    read_hadoop,
    read_epoch,
    read_kernel,
    read_named,
    read_logfmt,
)


class HeadReader:
    """Read the heads of one file's lines, trying the format of the line before first."""

    __slots__ = ("_clock", "_readers")

    def __init__(self, clock: LogClock) -> None:
        self._clock = clock
        self._readers = list(READERS)

    def read(self, line: str) -> Head | None:
        """Return the head of a line, or None if no format fits."""
        for index, reader in enumerate(self._readers):
            head = reader(line, self._clock)
            if head is not None:
                if index:
                    self._readers.insert(0, self._readers.pop(index))
                return head
        return None


def reference_of(modified_at_s: float) -> datetime:
    """Return a file's modification time as the reference of a `LogClock`."""
    return datetime.fromtimestamp(modified_at_s, UTC)
