"""What worker and host say to each other about the state, and the rules for keys and values.

======== ========= ==================================================================
kind     to        payload
======== ========= ==================================================================
STATE    host      number = the worker's own; a head as JSON, a newline, raw values: `encode_get`,
                   `encode_items` or `encode_commit`
COMMIT   host      number = the task's; `encode_transaction`: what the task read and wrote. Comes
                   right before the task's RESULT and is committed with it, or not at all
STATE_ANSWER worker number = the STATE's number; a head as JSON, a newline, raw values
======== ========= ==================================================================

Every key that is there has a version, a number that grows with every change of the state; a key
that is not there has version 0. A transaction names the versions that it has seen, and the host
commits it only while they are still true.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from kagent_sdk.errors import (
    ProtocolError,
    StateConflictError,
    StateError,
    StateKeyError,
    StateQuotaError,
    StateValueError,
)
from kagent_sdk.protocol.messages import decode_object

MAX_KEY_BYTES = 512
MAX_KEY_DEPTH = 32
MAX_VALUE_BYTES = 1024 * 1024
MAX_TRANSACTION_BYTES = 4 * 1024 * 1024
"""Keys and values that one transaction writes."""

MAX_PAYLOAD_BYTES = 7 * 1024 * 1024
"""Of a transaction's frame, with the keys that it has read: under the smallest limit for a frame of
the worker's (8 MiB), beyond which the host takes the worker for broken."""

MAX_TRANSACTION_KEYS = 10_000
MAX_PAGE_ITEMS = 1000
MAX_PAGE_BYTES = 1024 * 1024
"""Of one answer to `encode_items`; a single larger value comes alone."""

MAX_TTL_S = 1e9
MAX_ERROR_KEYS = 5
"""How many of the keys of a conflict are told."""

CONFLICT = "state_conflict"
QUOTA_EXCEEDED = "state_quota_exceeded"
UNAVAILABLE = "state_unavailable"
"""The codes of what was not done."""

KEY_RULE = (
    f"1 to {MAX_KEY_BYTES} bytes of text without control characters, in up to {MAX_KEY_DEPTH} parts "
    "separated by single slashes, and not beginning with `$`; such as `users/42/name`"
)

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def check_key(key: object) -> str:
    """Return the key.

    Raises:
        StateKeyError: it is none; see `KEY_RULE`.
    """
    if not isinstance(key, str):
        raise StateKeyError(f"a key of the state is a string, not {type(key).__name__}")
    if not is_key(key):
        raise StateKeyError(f"{key!r:.100} is no key: a key has {KEY_RULE}")
    return key


def check_prefix(prefix: object) -> str:
    """Return what keys are to begin with.

    Raises:
        StateKeyError: no key can begin so; see `KEY_RULE`.
    """
    if not isinstance(prefix, str) or not is_prefix(prefix):
        raise StateKeyError(f"no key begins with {prefix!r:.100}: a key has {KEY_RULE}")
    return prefix


def is_key(text: str) -> bool:
    """Tell whether a text can be a key."""
    if not text or text[0] == "$" or not is_prefix(text):
        return False
    parts = text.split("/")
    return len(parts) <= MAX_KEY_DEPTH and all(parts)


def is_prefix(text: str) -> bool:
    """Tell whether keys could begin with a text; the empty one begins all of them."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return False
    return size <= MAX_KEY_BYTES and _CONTROL.search(text) is None


@dataclass(frozen=True, slots=True)
class Write:
    """One change: ``value`` is raw JSON, None deletes; ``ttl_s`` is from the commit on."""

    key: str
    value: bytes | None
    ttl_s: float | None = None


@dataclass(frozen=True, slots=True)
class Scan:
    """All keys with a prefix as they were seen: how many, and the highest of their versions."""

    prefix: str
    count: int
    max_version: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """What was read, and what is to be written if all of that is still so.

    Attributes:
        reads: the version that each key had; 0 for one that was not there.
        scans: prefixes that were listed.
        writes: at most one for each key.
    """

    reads: dict[str, int] = field(default_factory=dict)
    scans: tuple[Scan, ...] = ()
    writes: tuple[Write, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """One key as it is now; ``value`` is raw JSON, None when there is no such key.

    Attributes:
        expires_at: seconds since the epoch; None: it stays.
    """

    key: str
    version: int
    value: bytes | None
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Get:
    """A STATE frame that asks for one key."""

    key: str


@dataclass(frozen=True, slots=True)
class Items:
    """A STATE frame that asks for the keys with a prefix, those after ``after``, in order of bytes."""

    prefix: str
    after: str | None
    limit: int


@dataclass(frozen=True, slots=True)
class Page:
    """The answer to `Items`; with ``has_more`` ask again after the last key."""

    items: tuple[Item, ...]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """A STATE_ANSWER frame, decoded: exactly one of the first three is given.

    Attributes:
        page: for `Get` (one item, or none if there is no such key) and `Items`.
        version: of a commit that was done.
        error: of what was not done, as `describe_error` makes it: ``code`` is `CONFLICT`,
            `QUOTA_EXCEEDED` or `UNAVAILABLE`; beside it ``message`` and, by code, ``keys``, or
            ``used_bytes`` and ``quota_bytes``. `error_of` makes an exception of it again.
        used_bytes: what all keys and values take now.
    """

    page: Page | None
    version: int | None
    error: dict[str, Any] | None
    used_bytes: int


def encode_get(key: str) -> bytes:
    """Return the STATE frame that asks for one key."""
    return _join({"op": "get", "key": key})


def encode_items(prefix: str, after: str | None, limit: int) -> bytes:
    """Return the STATE frame that asks for a page of keys."""
    return _join({"op": "items", "prefix": prefix, "after": after, "limit": limit})


def encode_commit(transaction: Transaction) -> bytes:
    """Return the STATE frame that commits a transaction outside a task.

    Raises:
        StateValueError: it is over `MAX_PAYLOAD_BYTES`.
    """
    head, values = _transaction_parts(transaction)
    return _check_payload(_join({"op": "commit", **head}, values))


def encode_transaction(transaction: Transaction) -> bytes:
    """Return the payload of a COMMIT frame.

    Raises:
        StateValueError: it is over `MAX_PAYLOAD_BYTES`.
    """
    return _check_payload(_join(*_transaction_parts(transaction)))


def _transaction_parts(transaction: Transaction) -> tuple[dict[str, Any], list[bytes]]:
    values = [write.value for write in transaction.writes if write.value is not None]
    writes = [
        [write.key, -1 if write.value is None else len(write.value), write.ttl_s]
        for write in transaction.writes
    ]
    scans = [[scan.prefix, scan.count, scan.max_version] for scan in transaction.scans]
    return {"reads": transaction.reads, "scans": scans, "writes": writes}, values


def _join(head: dict[str, Any], values: list[bytes] | None = None) -> bytes:
    # As UTF-8: a key of 512 bytes must not become 1.5 KiB of escapes.
    text = json.dumps(head, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()
    return b"\n".join((text, b"".join(values or ())))


def _check_payload(payload: bytes) -> bytes:
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise StateValueError(
            f"the transaction takes {len(payload)} bytes with the keys that it has read, over the "
            f"limit of {MAX_PAYLOAD_BYTES}: read and write less in one transaction"
        )
    return payload


def decode_request(payload: bytes) -> Get | Items | Transaction:
    """Read a STATE frame, trusting nothing in it; values are not checked to be JSON.

    Raises:
        ProtocolError: it is none.
    """
    head, body = _split(payload)
    match head.get("op"):
        case "get":
            return Get(_key(head.get("key")))
        case "items":
            after, limit = head.get("after"), head.get("limit")
            if type(limit) is not int or not 1 <= limit <= MAX_PAGE_ITEMS:
                raise ProtocolError("malformed STATE frame: limit")
            return Items(_prefix(head.get("prefix")), None if after is None else _key(after), limit)
        case "commit":
            return _transaction(head, body)
        case _:
            raise ProtocolError("malformed STATE frame: op")


def decode_transaction(payload: bytes) -> Transaction:
    """Read a COMMIT frame, trusting nothing in it; values are not checked to be JSON.

    Raises:
        ProtocolError: it is none.
    """
    return _transaction(*_split(payload))


def _split(payload: bytes) -> tuple[dict[str, Any], bytes]:
    text, separator, body = payload.partition(b"\n")
    if not separator:
        raise ProtocolError("malformed STATE frame: no end of its head")
    return decode_object(text), body


def _transaction(head: dict[str, Any], body: bytes) -> Transaction:
    reads, scans, writes = head.get("reads"), head.get("scans"), head.get("writes")
    if not (isinstance(reads, dict) and isinstance(scans, list) and isinstance(writes, list)):
        raise ProtocolError("malformed transaction")
    if len(reads) + len(scans) + len(writes) > MAX_TRANSACTION_KEYS:
        raise ProtocolError("malformed transaction: too many keys")
    transaction = Transaction(
        {_key(key): _count(version) for key, version in reads.items()},
        tuple(_scan(scan) for scan in scans),
        _writes(writes, body),
    )
    if len({write.key for write in transaction.writes}) != len(writes):
        raise ProtocolError("malformed transaction: two writes of one key")
    return transaction


def _scan(raw: object) -> Scan:
    if not isinstance(raw, list) or len(raw) != 3:
        raise ProtocolError("malformed transaction: scan")
    return Scan(_prefix(raw[0]), _count(raw[1]), _count(raw[2]))


def _writes(raw: list[object], body: bytes) -> tuple[Write, ...]:
    writes: list[Write] = []
    position = total = 0
    for entry in raw:
        if not isinstance(entry, list) or len(entry) != 3:
            raise ProtocolError("malformed transaction: write")
        key, size, ttl_s = _key(entry[0]), entry[1], _ttl(entry[2])
        if size == -1:
            writes.append(Write(key, None))
            continue
        if _count(size) > MAX_VALUE_BYTES:
            raise ProtocolError("malformed transaction: a value is too large")
        writes.append(Write(key, body[position : position + size], ttl_s))
        position += size
        total += size + len(key.encode())
    if position != len(body) or total > MAX_TRANSACTION_BYTES:
        raise ProtocolError("malformed transaction: sizes")
    return tuple(writes)


def _key(raw: object) -> str:
    if not isinstance(raw, str) or not is_key(raw):
        raise ProtocolError("malformed STATE frame: key")
    return raw


def _prefix(raw: object) -> str:
    if not isinstance(raw, str) or not is_prefix(raw):
        raise ProtocolError("malformed STATE frame: prefix")
    return raw


def _count(raw: object) -> int:
    if type(raw) is not int or not 0 <= raw < 1 << 63:
        raise ProtocolError("malformed STATE frame: number")
    return raw


def _ttl(raw: object) -> float | None:
    if raw is None:
        return None
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not 0 < raw <= MAX_TTL_S:
        raise ProtocolError("malformed transaction: ttl_s")
    return float(raw)


def encode_page(page: Page, used_bytes: int) -> bytes:
    """Return the STATE_ANSWER to a `Get` or `Items`; every item has a value."""
    values = [item.value or b"" for item in page.items]
    items = [
        [item.key, item.version, len(value), item.expires_at]
        for item, value in zip(page.items, values, strict=True)
    ]
    head = {"items": items, "has_more": page.has_more, "used_bytes": used_bytes}
    return _join(head, values)


def encode_committed(version: int, used_bytes: int) -> bytes:
    """Return the STATE_ANSWER to a commit that is done."""
    return _join({"version": version, "used_bytes": used_bytes})


def encode_refused(error: dict[str, Any], used_bytes: int) -> bytes:
    """Return the STATE_ANSWER to anything that was not done; see `describe_error`."""
    return _join({"error": error, "used_bytes": used_bytes})


def describe_error(exc: StateError) -> dict[str, Any]:
    """Return an error as `encode_refused` takes it; `error_of` reads it."""
    match exc:
        case StateConflictError():
            keys = list(exc.keys[:MAX_ERROR_KEYS])
            return {"code": CONFLICT, "message": str(exc), "keys": keys}
        case StateQuotaError():
            sizes = {"used_bytes": exc.used_bytes, "quota_bytes": exc.quota_bytes}
            return {"code": QUOTA_EXCEEDED, "message": str(exc), **sizes}
        case _:
            return {"code": UNAVAILABLE, "message": str(exc)}


def error_of(error: dict[str, Any]) -> StateError:
    """Return the exception for an `Answer.error`; one that is not understood is a `StateError`."""
    code, keys = error.get("code"), error.get("keys")
    if code == CONFLICT:
        return StateConflictError(tuple(map(str, keys)) if isinstance(keys, list) else ())
    if code == QUOTA_EXCEEDED:
        return StateQuotaError(_size(error, "used_bytes"), _size(error, "quota_bytes"))
    return StateError(str(error.get("message", "the host did not say why")))


def _size(error: dict[str, Any], name: str) -> int:
    size = error.get(name)
    return size if isinstance(size, int) else 0


def decode_answer(payload: bytes) -> Answer:
    """Read a STATE_ANSWER frame of the host's.

    Raises:
        ProtocolError: it is none.
    """
    head, body = _split(payload)
    used_bytes = _count(head.get("used_bytes"))
    if isinstance(head.get("error"), dict):
        return Answer(None, None, head["error"], used_bytes)
    if "version" in head:
        return Answer(None, _count(head["version"]), None, used_bytes)
    return Answer(_page(head, body), None, None, used_bytes)


def _page(head: dict[str, Any], body: bytes) -> Page:
    raw = head.get("items")
    if not isinstance(raw, list):
        raise ProtocolError("malformed STATE_ANSWER frame: items")
    items: list[Item] = []
    position = 0
    for entry in raw:
        if not isinstance(entry, list) or len(entry) != 4:
            raise ProtocolError("malformed STATE_ANSWER frame: item")
        key, version, size, expires_at = entry
        end = position + _count(size)
        items.append(Item(_key(key), _count(version), body[position:end], _time(expires_at)))
        position = end
    if position != len(body):
        raise ProtocolError("malformed STATE_ANSWER frame: sizes")
    return Page(tuple(items), head.get("has_more") is True)


def _time(raw: object) -> float | None:
    if raw is None:
        return None
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not abs(raw) < 1 << 63:
        raise ProtocolError("malformed STATE_ANSWER frame: expires_at")
    return float(raw)
