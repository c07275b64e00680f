"""Request headers, task ids and times: pure parsing and writing.

A header that is not there is None; one that we know and do not understand raises `HeaderError`,
except where its standard says to go on without it (``traceparent``, unknown preferences).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from kagent_sdk.protocol.problem import RequestError
from kagent_sdk.protocol.problems import invalid_header

# No dot at the beginning: clients and proxies drop the path segments "." and ".." (RFC 3986, 5.2.4).
_TASK_ID = "[A-Za-z0-9_:-][A-Za-z0-9._:-]{0,127}"
TASK_ID_PATTERN = f"^{_TASK_ID}$"
TASK_ID_RULE = "1 to 128 letters, digits and . _ : - without a dot at the beginning"
IDEMPOTENCY_KEY_PATTERN = f'^(?:{_TASK_ID}|"{_TASK_ID}")$'
LAST_EVENT_ID_PATTERN = "^[0-9]{0,15}$"

KLINK_LEASE = "Klink-Lease"
"""Of an offer, see `kagent_sdk.protocol.link`; here because every request is looked at for it."""

MISSED_BEATS = 2
"""So many beats of an agent in a row (`kagent_sdk.protocol.link`) do not name a task, and it does not
have it: the first may have been on its way when the offer came. The agent for its part takes no offer
after it has sent so many."""

MAX_WAIT_S = 3600
"""The longest that one request may ask to wait; a longer wish is cut, as RFC 7240 allows."""


class HeaderError(RequestError):
    """A header that we know has a value that we do not understand (400)."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(invalid_header(name, reason))


is_task_id = re.compile(_TASK_ID).fullmatch
"""Whether a text may be a task's id: a match, or None."""


def parse_idempotency_key(value: str | None) -> str | None:
    """Return the task id that the header Idempotency-Key names, bare or in double quotes.

    The quoted form is the standard's (draft-ietf-httpapi-idempotency-key-header), the bare one what
    most clients send; both name the same task.

    Raises:
        HeaderError: it is no task id.
    """
    if value is None:
        return None
    bare = value
    if len(value) > 1 and value[0] == value[-1] == '"':
        bare = value[1:-1]
    if not is_task_id(bare):
        raise HeaderError("Idempotency-Key", f"must be {TASK_ID_RULE}")
    return bare


_is_event_id = re.compile(r"[0-9]{1,15}").fullmatch


def parse_last_event_id(value: str | None) -> int | None:
    """Return the number of the last event that a client has; None when it has none.

    Raises:
        HeaderError: it is no number that we gave out.
    """
    if not value:
        return None
    if not _is_event_id(value):
        raise HeaderError(
            "Last-Event-ID", "must be the id of an event of this task, a whole number"
        )
    return int(value)


_match_bearer = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)").fullmatch


def parse_bearer(value: str | None) -> str | None:
    """Return the token of ``Authorization: Bearer TOKEN`` (RFC 6750, 2.1); None for all else."""
    found = _match_bearer(value) if value else None
    return found[1] if found else None


_split_list = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+').findall
_match_type = re.compile(
    r"\s*([!#$%&'*+.^_`|~0-9a-z-]+/[!#$%&'*+.^_`|~0-9a-z-]+)\s*(;.*)?", re.DOTALL
).fullmatch
_find_quality = re.compile(r";\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*(?:;|$)").search


def accepts_events(accept: str | None) -> bool:
    """Whether the client asks for an event stream (RFC 9110, 12.5.1).

    It must name ``text/event-stream``; a wild card means that any answer will do, and gets JSON. If
    it names ``application/json`` too the greater quality wins, and then the one named first.
    """
    if accept is None or "event-stream" not in accept.lower():
        return False
    stream = json = 0.0
    is_stream_first = True
    for item in _split_list(accept.lower()):
        found = _match_type(item)
        if found is None:
            continue
        if found[1] == "text/event-stream":
            stream = _quality(found[2])
            is_stream_first = not json
        elif found[1] == "application/json":
            json = _quality(found[2])
    return stream > 0 and (stream > json or (stream == json and is_stream_first))


def _quality(parameters: str | None) -> float:
    found = _find_quality(parameters) if parameters else None
    return float(found[1]) if found else 1.0


@dataclass(frozen=True, slots=True)
class Preference:
    """What the header Prefer asks for (RFC 7240).

    Attributes:
        respond_async: do not wait for the end of the task.
        wait_s: wait this long at the most; None: no wish.
    """

    respond_async: bool = False
    wait_s: int | None = None

    @property
    def applied(self) -> str:
        """The value of the header Preference-Applied; empty when nothing was asked for."""
        wishes = ["respond-async"] if self.respond_async else []
        if self.wait_s is not None:
            wishes.append(f"wait={self.wait_s}")
        return ", ".join(wishes)


_NO_PREFERENCE = Preference()
_RESPOND_ASYNC = Preference(respond_async=True)
_match_preference = re.compile(
    r'\s*([!#$%&\'*+.^_`|~0-9a-z-]+)\s*(?:=\s*("(?:[^"\\]|\\.)*"|[^;\s"]*)\s*)?(?:;.*)?', re.DOTALL
).fullmatch


def parse_prefer(value: str | None) -> Preference:
    """Read the header Prefer: ``respond-async`` and ``wait=SECONDS``; others are ignored.

    Of a preference that comes twice the first one counts (RFC 7240, 2).

    Raises:
        HeaderError: ``wait`` is no whole number of seconds.
    """
    if value is None:
        return _NO_PREFERENCE
    if value == "respond-async":
        return _RESPOND_ASYNC
    wishes: dict[str, str] = {}
    for item in _split_list(value.lower()):
        found = _match_preference(item)
        if found is not None:
            wishes.setdefault(found[1], (found[2] or "").strip('"'))
    wait = wishes.get("wait")
    return Preference(
        respond_async="respond-async" in wishes, wait_s=None if wait is None else _seconds(wait)
    )


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise HeaderError("Prefer", "wait must be a whole number of seconds, such as wait=10")
    return min(int(text[:9]), MAX_WAIT_S)


@dataclass(frozen=True, slots=True)
class Trace:
    """A place in a distributed trace (W3C Trace Context).

    Attributes:
        trace_id: of the whole trace, 32 hexadecimal digits.
        parent_id: of the span that called, 16 hexadecimal digits.
        flags: bit 0: sampled; bit 1: the trace id is random (level 2).
    """

    trace_id: str
    parent_id: str
    flags: int

    @property
    def traceparent(self) -> str:
        """The header that says so, in version 00."""
        return f"00-{self.trace_id}-{self.parent_id}-{self.flags:02x}"


KNOWN_TRACE_FLAGS = 0b11
_match_traceparent = re.compile(
    r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL
).fullmatch
_NO_TRACE_ID = "0" * 32
_NO_PARENT_ID = "0" * 16


def parse_traceparent(value: str | None) -> Trace | None:
    """Read the header traceparent; None when there is none or it is not valid.

    An invalid one is to be ignored, and a new trace begun (W3C Trace Context, 3.2.2.3).
    """
    found = _match_traceparent(value) if value else None
    if found is None:
        return None
    version, trace_id, parent_id, flags, rest = found.groups()
    if version == "ff" or (version == "00" and rest is not None):
        return None
    if trace_id == _NO_TRACE_ID or parent_id == _NO_PARENT_ID:
        return None
    return Trace(trace_id, parent_id, int(flags, 16) & KNOWN_TRACE_FLAGS)


_BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's alphabet: in the order of ASCII, and nothing that looks alike."""
_DIGIT_BITS = 5
_PAIRS = [high + low for high in _BASE32 for low in _BASE32]
_STARTED_DIGITS = 7
_RANDOM_DIGITS = 12
_COUNT_DIGITS = 6


def to_base32(number: int, digits: int) -> str:
    """Return the lowest ``5 * digits`` bits of a number, so that texts sort as the numbers do."""
    return "".join(_BASE32[number >> _DIGIT_BITS * place & 31] for place in reversed(range(digits)))


class TaskIds:
    """Gives out task ids: unique, in the order of their making, not to be guessed from outside.

    An id is the second at which the process started, 60 random bits of the process, and a count to
    2^40: 27 characters.

    Args:
        started_at_s: seconds since the epoch.
        randomness: at least 8 random bytes.
    """

    __slots__ = ("_block", "_next", "_prefix")

    def __init__(self, started_at_s: float, randomness: bytes) -> None:
        number = int.from_bytes(randomness[:8], "big")
        self._prefix = (
            f"{to_base32(int(started_at_s), _STARTED_DIGITS)}{to_base32(number, _RANDOM_DIGITS)}"
        )
        self._next = 0
        self._block = ""

    def new(self) -> str:
        """Return the next id."""
        number = self._next
        self._next = number + 1
        low = number & 1023
        if not low:
            self._block = self._prefix + to_base32(number >> 10, _COUNT_DIGITS)
        return self._block + _PAIRS[low]


@lru_cache(maxsize=64)
def _format_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def format_time(at_s: float) -> str:
    """Return seconds since the epoch as RFC 3339 in UTC with microseconds."""
    second, microsecond = divmod(round(at_s * 1_000_000), 1_000_000)
    return f"{_format_second(second)}.{microsecond:06d}Z"
