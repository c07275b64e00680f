"""Find where JSON values end, without building them.

The host passes inputs and outputs on as the bytes that came in, but it must know where they end and
that they are JSON. Parsing them would hold the loop for as long as it takes, and cost up to 25
times their size in objects: eight megabytes of ``[[],[],…]`` are 200 MB of lists. The scanner here
walks over the text in steps of some thousand tokens and holds nothing but a stack of brackets.

It is strict (RFC 8259, and RFC 7493 for surrogates): no NaN, no Infinity, no lone surrogate, no
integer over Python's digit limit, valid UTF-8, bounded depth. What it accepts, the worker's parser
(pydantic) accepts.
"""

from __future__ import annotations

import codecs
import re
from functools import cache

from pydantic_core import from_json

from kagent_sdk.errors import KagentError

MAX_DEPTH = 199
"""With the two levels that a pattern may add, where pydantic's parser stops: 201."""
MAX_DIGITS = 4300
"""Of an integer; the default of `sys.set_int_max_str_digits`, which guards against quadratic time."""

SMALL_BYTES = 32 * 1024
"""Up to here a text may be checked on the loop: it takes well under a millisecond, and at worst, in a
text made for it, 20. Over it use a thread: the scanner lets go of the interpreter lock often."""
ESCAPE_BYTES = len(r"\ud800")


class JsonTextError(KagentError):
    """The text is not JSON.

    Attributes:
        reason: what is wrong with it.
        position: the offset of the byte at which it is.
    """

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(f"{reason} at byte {position}")
        self.reason = reason
        self.position = position


# `re` holds the interpreter lock while it matches and keeps some 100 bytes per repetition of a
# group until the match ends. These bounds make that some ten thousand repetitions at the most.
_MOST_ITEMS = 16
_MOST_ESCAPES = 4
_MOST_ESCAPES_ALONE = 1000

# No pattern here backtracks far: each has one way to match, whatever follows it. Possessive
# quantifiers would say so, but are broken in Python 3.11.2, that of Debian 12 (gh-106052).
_WS = rb"[ \t\n\r]*"
_PLAIN = rb'[^"\\\x00-\x1f]*'
# The digits behind \u are looked at in `_check_escapes`: here they would cost half of the time.
_ESCAPED = rb'\\["\\/bfnrtu]%b' % _PLAIN
_STRING = rb'"%b(?:%b){0,%d}"' % (_PLAIN, _ESCAPED, _MOST_ESCAPES)
_KEY = rb"%b%b:%b" % (_STRING, _WS, _WS)
_NUMBER = rb"-?(?:0|[1-9][0-9]{0,%d}(?![0-9]))(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?" % (MAX_DIGITS - 1)
_LEAF = rb"%b|%b|true|false|null" % (_STRING, _NUMBER)


def _simple(item: bytes) -> bytes:
    """Return the pattern of an object or array of at most some items, or of a leaf."""
    # Behind an item stands a comma but then no closing bracket, or a closing bracket.
    return (
        rb"(?:\{%b(?:%b%b%b(?:,%b(?!\})|(?=\}))){0,%d}\}|\[%b(?:%b%b(?:,%b(?!\])|(?=\]))){0,%d}\]|%b)"
        % (
            *(_WS, _KEY, item, _WS, _WS, _MOST_ITEMS),
            *(_WS, item, _WS, _WS, _MOST_ITEMS),
            _LEAF,
        )
    )


class _Patterns:
    """The compiled patterns. They take some milliseconds and are not needed at the start."""

    __slots__ = ("blank", "colon", "digits", "items", "member", "members", "part", "simple")

    def __init__(self) -> None:
        simple = _simple(_simple(rb"(?:%b)" % _LEAF))
        comma = rb"%b,%b" % (_WS, _WS)
        self.simple = re.compile(simple).match
        self.items = re.compile(rb"(?:%b%b){0,%d}" % (simple, comma, _MOST_ITEMS)).match
        self.members = re.compile(rb"(?:%b%b%b){0,%d}" % (_KEY, simple, comma, _MOST_ITEMS)).match
        separator = rb'%b(?:,%b(?=")|(?=\}))' % (_WS, _WS)
        member = rb"(%b)%b:%b(%b)%b" % (_STRING, _WS, _WS, simple, separator)
        self.member = re.compile(member).match
        self.colon = re.compile(rb"%b:%b" % (_WS, _WS)).match
        self.blank = re.compile(_WS).match
        self.part = re.compile(rb"%b(?:%b){0,%d}" % (_PLAIN, _ESCAPED, _MOST_ESCAPES_ALONE)).match
        self.digits = re.compile(rb"-?[0-9]{%d}" % MAX_DIGITS).match


_patterns = cache(_Patterns)

_find_bad_unicode = re.compile(rb"\\u(?![0-9A-Fa-f]{4})|\\u[Dd][89A-Fa-f]").search
_iterate_escapes = re.compile(rb"\\(?:u([0-9A-Fa-f]{4})|.)", re.DOTALL).finditer
_CLOSERS = {b"[": b"]", b"{": b"}"}
_HIGH_SURROGATES = range(0xD800, 0xDC00)
_LOW_SURROGATES = range(0xDC00, 0xE000)


def skip_blank(text: bytes, position: int) -> int:
    """Return the offset of the first byte that is no JSON white space."""
    return _end(_patterns().blank(text, position))


def skip_value(text: bytes, position: int, *, max_depth: int = MAX_DEPTH) -> int:
    r"""Return the offset behind the JSON value that begins at ``position``, blanks not included.

    What stands behind ``\u`` and whether the text is UTF-8 is not looked at: call `check_text` on
    the whole text first. The depth may exceed ``max_depth`` by two.

    Raises:
        JsonTextError: no valid value begins there, or it nests too deeply.
    """
    closers: list[bytes] = []
    match_simple = _patterns().simple
    while True:
        found = match_simple(text, position)
        if found is not None:
            position = found.end()
        elif (closer := _CLOSERS.get(text[position : position + 1])) is not None:
            if len(closers) == max_depth:
                raise JsonTextError(f"nested deeper than {max_depth} levels", position)
            closers.append(closer)
            position = _enter_item(text, position + 1, closer)
            continue
        else:
            position = _skip_long_leaf(text, position)
        position = _leave(text, position, closers)
        if not closers:
            return position
        position = _enter_item(text, position + 1, closers[-1])


def read_member(text: bytes, position: int) -> tuple[bytes, bytes, int]:
    """Read the member of an object whose key begins at ``position``; see `skip_value`.

    Returns:
        The key and the value, both as raw JSON, and the offset of the next key or, behind the last
        member, of the object's closing bracket.

    Raises:
        JsonTextError: no valid member begins there, or its value nests too deeply.
    """
    found = _patterns().member(text, position)
    if found is not None:
        key, value = found.groups()
        return key, value, found.end()
    key_end = _skip_string(text, position)
    start = _skip_colon(text, key_end)
    end = skip_value(text, start)
    return text[position:key_end], text[start:end], _find_next_member(text, end)


def check_text(text: bytes) -> None:
    """Check what no value can be judged by alone: UTF-8, and the escapes of its strings.

    Raises:
        JsonTextError: the text is not UTF-8, or has a malformed or lone surrogate escape.
    """
    if not text.isascii():
        _check_utf8(text)
    # Two searches at C speed; only what looks suspicious is walked over escape by escape.
    if _find_bad_unicode(text) is not None:
        _check_escapes(text)


def check_json(text: bytes) -> None:
    """Check that the text is one JSON value and nothing else.

    Raises:
        JsonTextError: it is not, and why.
    """
    check_text(text)
    end = skip_blank(text, skip_value(text, skip_blank(text, 0)))
    if end != len(text):
        raise JsonTextError("something follows the value", end)


def is_json(text: bytes) -> bool:
    """Whether the text is one JSON value, as `check_json` understands it."""
    if len(text) <= SMALL_BYTES:
        # Faster than the scanner, and a small text makes few objects.
        try:
            from_json(text, allow_inf_nan=False, cache_strings="none")
        except ValueError:
            return False
        return True
    try:
        check_json(text)
    except JsonTextError:
        return False
    return True


def _end(found: re.Match[bytes] | None) -> int:
    assert found is not None, "the pattern matches the empty text"
    return found.end()


def _enter_item(text: bytes, position: int, closer: bytes) -> int:
    """Skip a run of simple items, and the key of the next; return the offset of its value."""
    patterns = _patterns()
    position = skip_blank(text, position)
    if closer == b"]":
        return _end(patterns.items(text, position))
    return _skip_colon(text, _skip_string(text, _end(patterns.members(text, position))))


def _skip_colon(text: bytes, position: int) -> int:
    found = _patterns().colon(text, position)
    if found is None:
        raise _unexpected(text, skip_blank(text, position), "':'")
    return found.end()


def _find_next_member(text: bytes, position: int) -> int:
    position = skip_blank(text, position)
    byte = text[position : position + 1]
    if byte == b",":
        position = skip_blank(text, position + 1)
        if text[position : position + 1] != b'"':
            raise _unexpected(text, position, "a string")
    elif byte != b"}":
        raise _unexpected(text, position, "',' or '}'")
    return position


def _leave(text: bytes, position: int, closers: list[bytes]) -> int:
    """Close what closes behind a value; return the offset of the comma that goes on, or the end."""
    while closers:
        position = skip_blank(text, position)
        byte = text[position : position + 1]
        if byte == b",":
            break
        if byte != closers[-1]:
            raise _unexpected(text, position, f"',' or '{closers[-1].decode()}'")
        closers.pop()
        position += 1
    return position


def _skip_long_leaf(text: bytes, position: int) -> int:
    if text[position : position + 1] == b'"':
        return _skip_string(text, position)
    if _patterns().digits(text, position):
        raise JsonTextError(f"a number of more than {MAX_DIGITS} digits", position)
    raise _unexpected(text, position, "a value")


def _skip_string(text: bytes, position: int) -> int:
    if text[position : position + 1] != b'"':
        raise _unexpected(text, position, "a string")
    position += 1
    while True:
        end = _end(_patterns().part(text, position))
        if text[end : end + 1] == b'"':
            return end + 1
        if end == position:
            raise _wrong_in_string(text, position)
        position = end


def _unexpected(text: bytes, position: int, expected: str) -> JsonTextError:
    if position >= len(text):
        return JsonTextError(f"the text ends where {expected} is expected", position)
    if text.startswith((b"NaN", b"Infinity", b"-Infinity"), position):
        return JsonTextError("NaN and Infinity are not JSON", position)
    return JsonTextError(f"{expected} is expected", position)


def _wrong_in_string(text: bytes, position: int) -> JsonTextError:
    if position >= len(text):
        return JsonTextError("the text ends within a string", position)
    if text[position] == ord("\\"):
        return JsonTextError("an unknown escape in a string", position)
    return JsonTextError("a control character in a string must be escaped", position)


def _check_utf8(text: bytes) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    # In parts: a decoded copy of a large text would be up to four times its size.
    for start in range(0, len(text), SMALL_BYTES):
        pending = len(decoder.getstate()[0])
        stop = start + SMALL_BYTES
        try:
            decoder.decode(text[start:stop], final=stop >= len(text))
        except UnicodeDecodeError as exc:
            raise JsonTextError("the text is not UTF-8", start - pending + exc.start) from None


def _check_escapes(text: bytes) -> None:
    r"""Check every ``\u``, and that each half of a surrogate pair has the other one beside it."""
    low_expected_at = -1
    for found in _iterate_escapes(text):
        start, digits = found.start(), found.group(1)
        if digits is None and text[start + 1] == ord("u"):
            raise JsonTextError("an unknown escape in a string", start)
        unit = 0 if digits is None else int(digits, 16)
        is_low = unit in _LOW_SURROGATES
        if low_expected_at >= 0 and not (is_low and start == low_expected_at):
            break
        if is_low and low_expected_at < 0:
            raise JsonTextError("a lone surrogate escape in a string", start)
        low_expected_at = found.end() if unit in _HIGH_SURROGATES else -1
    if low_expected_at >= 0:
        raise JsonTextError("a lone surrogate escape in a string", low_expected_at - ESCAPE_BYTES)
