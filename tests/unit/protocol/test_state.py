"""What worker and host say about the state arrives as it was sent; the rest is a protocol error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.errors import (
    ProtocolError,
    StateConflictError,
    StateError,
    StateKeyError,
    StateQuotaError,
    StateValueError,
)
from kagent_sdk.protocol.state import (
    MAX_KEY_BYTES,
    MAX_PAGE_ITEMS,
    MAX_PAYLOAD_BYTES,
    MAX_TRANSACTION_BYTES,
    MAX_TRANSACTION_KEYS,
    MAX_TTL_S,
    MAX_VALUE_BYTES,
    Answer,
    Get,
    Item,
    Items,
    Page,
    Scan,
    Transaction,
    Write,
    check_key,
    check_prefix,
    decode_answer,
    decode_request,
    decode_transaction,
    describe_error,
    encode_commit,
    encode_committed,
    encode_get,
    encode_items,
    encode_page,
    encode_refused,
    encode_transaction,
    error_of,
    is_key,
    is_prefix,
)

PARTS = st.text(
    st.characters(codec="utf-8", exclude_characters="/$", exclude_categories=("Cc", "Cs")),
    min_size=1,
    max_size=20,
)
KEYS = st.lists(PARTS, min_size=1, max_size=4).map("/".join).filter(is_key)
COUNTS = st.integers(0, (1 << 63) - 1)
TTLS = st.none() | st.floats(0, MAX_TTL_S, exclude_min=True)
WRITES = st.builds(Write, KEYS, st.binary(), TTLS) | st.builds(Write, KEYS, st.none())
TRANSACTIONS = st.builds(
    Transaction,
    st.dictionaries(KEYS, COUNTS, max_size=5),
    st.lists(st.builds(Scan, KEYS, COUNTS, COUNTS), max_size=3).map(tuple),
    st.lists(WRITES, max_size=5, unique_by=lambda write: write.key).map(tuple),
)
ITEMS = st.builds(Item, KEYS, COUNTS, st.binary(), st.none() | st.floats(0, 1e12))


@pytest.mark.parametrize(
    "key", ["a", "users/42/name", "ä/日本", "a b", "a/$b", "x" * 512, "a/" * 31 + "a"]
)
def test_a_key_is_a_path(key: str) -> None:
    """Whatever people call their things, in any language."""
    assert check_key(key) == key
    assert check_prefix(key) == key


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        "$a",
        "a\n",
        "\x00",
        "\x7f",
        "a\x9f",
        "\ud800",
        "x" * 513,
        "ä" * 257,
        "a/" * 32 + "a",
    ],
)
def test_what_is_no_key_is_refused_with_the_rule(key: str) -> None:
    """It would not survive a log line, a file, or a second look."""
    assert not is_key(key)
    with pytest.raises(StateKeyError, match="a key has 1 to 512 bytes of text"):
        check_key(key)


@pytest.mark.parametrize("key", [1, None, b"a", ["a"]])
def test_a_key_is_a_string(key: object) -> None:
    """A number that becomes a text by itself is another key the next time."""
    with pytest.raises(StateKeyError, match="a key of the state is a string, not "):
        check_key(key)
    with pytest.raises(StateKeyError, match="no key begins with"):
        check_prefix(key)


@pytest.mark.parametrize("prefix", ["", "a", "a/", "users/4"])
def test_a_prefix_may_end_anywhere(prefix: str) -> None:
    """``users/`` is no key, but all of them begin so."""
    assert check_prefix(prefix) == prefix


@pytest.mark.parametrize("prefix", ["\n", "\ud800", "x" * 513])
def test_what_no_key_can_begin_with_is_no_prefix(prefix: str) -> None:
    """Better an error than an empty list."""
    assert not is_prefix(prefix)
    with pytest.raises(StateKeyError):
        check_prefix(prefix)


@given(KEYS, st.none() | KEYS, st.integers(1, MAX_PAGE_ITEMS))
def test_questions_arrive(key: str, after: str | None, limit: int) -> None:
    """Get and items."""
    assert decode_request(encode_get(key)) == Get(key)
    assert decode_request(encode_items(key, after, limit)) == Items(key, after, limit)


@given(TRANSACTIONS)
def test_a_transaction_arrives(transaction: Transaction) -> None:
    """Alone and in a STATE frame; values are raw bytes, whatever they are."""
    assert decode_transaction(encode_transaction(transaction)) == transaction
    assert decode_request(encode_commit(transaction)) == transaction


@given(st.lists(ITEMS, max_size=5).map(tuple), st.booleans(), COUNTS)
def test_a_page_arrives(items: tuple[Item, ...], has_more: bool, used_bytes: int) -> None:
    """With what the state takes beside it."""
    page = Page(items, has_more)

    assert decode_answer(encode_page(page, used_bytes)) == Answer(page, None, None, used_bytes)


@given(COUNTS, COUNTS)
def test_a_commit_is_answered(version: int, used_bytes: int) -> None:
    """By the version that it has made."""
    answer = decode_answer(encode_committed(version, used_bytes))

    assert answer == Answer(None, version, None, used_bytes)


def test_an_error_arrives_as_the_same_error() -> None:
    """The author's `except` must catch what the store has raised."""
    conflict = _sent(StateConflictError(tuple("abcdefg")))
    quota = _sent(StateQuotaError(7, 5))
    other = _sent(StateError("the disk is full"))

    assert isinstance(conflict, StateConflictError)
    assert conflict.keys == tuple("abcde")
    assert isinstance(quota, StateQuotaError)
    assert (quota.used_bytes, quota.quota_bytes) == (7, 5)
    assert type(other) is StateError
    assert str(other) == "the disk is full"


def _sent(error: StateError) -> StateError:
    answer = decode_answer(encode_refused(describe_error(error), 3))
    assert answer.error is not None
    return error_of(answer.error)


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({}, "the host did not say why"),
        ({"code": "new", "message": "m"}, "m"),
        ({"code": "state_conflict"}, "the state was changed meanwhile, at a prefix that was read"),
        ({"code": "state_quota_exceeded", "used_bytes": "x"}, "the state would take 0 bytes"),
    ],
)
def test_an_error_that_says_little_is_one_all_the_same(document: dict[str, Any], text: str) -> None:
    """The kind is what code decides by."""
    assert text in str(error_of(document))


def test_a_transaction_that_does_not_fit_a_frame_is_not_sent() -> None:
    """The host would take the worker for broken and kill it, with all its tasks."""
    key = '"' * MAX_KEY_BYTES  # twice as long in JSON
    reads = {f"{key[8:]}{number:08}": 1 for number in range(7500)}

    for encode in (encode_transaction, encode_commit):
        with pytest.raises(StateValueError, match="with the keys that it has read, over the limit"):
            encode(Transaction(reads))


def test_the_largest_transaction_fits() -> None:
    """Keys that are long in any alphabet take as many bytes on the wire as they have."""
    key = "語" * 160
    writes = tuple(Write(f"{key}{number}", b"1" * MAX_VALUE_BYTES) for number in range(3))
    reads = {f"{key}{number}": (1 << 63) - 1 for number in range(MAX_TRANSACTION_KEYS - 3 - 4000)}
    transaction = Transaction(reads, (), writes)

    payload = encode_transaction(transaction)

    assert len(payload) <= MAX_PAYLOAD_BYTES
    assert decode_transaction(payload) == transaction


BAD_TTLS: list[Any] = [0, -1, 1e10, True, "1", [], 10**400, float("nan")]


def commit(**changes: Any) -> bytes:
    """Return a COMMIT frame with these members."""
    document: dict[str, Any] = {"reads": {}, "scans": [], "writes": [], **changes}
    body = document.pop("body", b"")
    return json.dumps(document).encode() + b"\n" + bytes(body)


BAD_TRANSACTIONS = [
    b"",
    b"{}",
    b"\n",
    b"[]\n",
    b"{}\n",
    b"\xff\n",
    commit()[:-2] + b"\n",
    commit(reads=[]),
    commit(scans={}),
    commit(writes=None),
    commit(reads={"": 1}),
    commit(reads={"a": -1}),
    commit(reads={"a": 1 << 63}),
    commit(reads={"a": True}),
    commit(reads={"a": 1.0}),
    commit(reads={"a": None}),
    commit(reads={f"{number}": 1 for number in range(MAX_TRANSACTION_KEYS + 1)}),
    commit(scans=[1]),
    commit(scans=[["a", 1]]),
    commit(scans=[["\n", 1, 1]]),
    commit(scans=[[1, 1, 1]]),
    commit(scans=[["a", "1", 1]]),
    commit(scans=[["a", 1, -1]]),
    commit(writes=["a"]),
    commit(writes=[["a", -1]]),
    commit(writes=[[1, -1, None]]),
    commit(writes=[["a", -2, None]]),
    commit(writes=[["a", None, None]]),
    commit(writes=[["a", 1, None]]),
    commit(writes=[["a", 1, None]], body=b"12"),
    commit(writes=[["a", -1, None]], body=b"1"),
    commit(writes=[["a", 1 << 62, None]], body=b"1"),
    commit(writes=[["a", MAX_VALUE_BYTES + 1, None]], body=b"1" * (MAX_VALUE_BYTES + 1)),
    commit(writes=[["a", -1, None], ["a", 1, None]], body=b"1"),
    commit(
        writes=[[f"{number}", MAX_VALUE_BYTES, None] for number in range(4)],
        body=b"1" * MAX_TRANSACTION_BYTES,
    ),
    *(commit(writes=[["a", 1, ttl]], body=b"1") for ttl in BAD_TTLS),
]


@pytest.mark.parametrize("payload", BAD_TRANSACTIONS, ids=range(len(BAD_TRANSACTIONS)))
def test_a_transaction_that_is_none_ends_the_worker_and_nothing_else(payload: bytes) -> None:
    """The worker runs code that nobody has checked."""
    with pytest.raises(ProtocolError):
        decode_transaction(payload)
    if payload.startswith(b'{"reads"'):
        with pytest.raises(ProtocolError):
            decode_request(b'{"op":"commit",' + payload[1:])


@pytest.mark.parametrize(
    "head",
    [
        {},
        {"op": None},
        {"op": "put"},
        {"op": ["get"]},
        {"op": "get"},
        {"op": "get", "key": "a/"},
        {"op": "get", "key": 1},
        {"op": "items", "prefix": "a", "after": None},
        {"op": "items", "prefix": "a", "after": None, "limit": 0},
        {"op": "items", "prefix": "a", "after": None, "limit": MAX_PAGE_ITEMS + 1},
        {"op": "items", "prefix": "a", "after": None, "limit": True},
        {"op": "items", "prefix": None, "after": None, "limit": 1},
        {"op": "items", "prefix": "a", "after": "", "limit": 1},
        {"op": "commit"},
    ],
)
def test_a_request_that_is_none_is_a_protocol_error(head: dict[str, Any]) -> None:
    """As above."""
    with pytest.raises(ProtocolError):
        decode_request(json.dumps(head).encode() + b"\n")


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ({}, b""),
        ({"used_bytes": -1, "version": 1}, b""),
        ({"used_bytes": 1, "version": None}, b""),
        ({"used_bytes": 1, "version": -1}, b""),
        ({"used_bytes": 1}, b""),
        ({"used_bytes": 1, "error": "text"}, b""),
        ({"used_bytes": 1, "items": {}}, b""),
        ({"used_bytes": 1, "items": ["a"]}, b""),
        ({"used_bytes": 1, "items": [["a", 1, 1]]}, b"1"),
        ({"used_bytes": 1, "items": [["a", 1, 1, None]]}, b""),
        ({"used_bytes": 1, "items": [["a", 1, 1, None]]}, b"12"),
        ({"used_bytes": 1, "items": [["a", 1, -1, None]]}, b""),
        ({"used_bytes": 1, "items": [["a", "1", 1, None]]}, b"1"),
        ({"used_bytes": 1, "items": [["", 1, 1, None]]}, b"1"),
        ({"used_bytes": 1, "items": [["a", 1, 1, "soon"]]}, b"1"),
        ({"used_bytes": 1, "items": [["a", 1, 1, True]]}, b"1"),
        ({"used_bytes": 1, "items": [["a", 1, 1, 10**400]]}, b"1"),
    ],
)
def test_an_answer_that_is_none_is_a_protocol_error(head: dict[str, Any], body: bytes) -> None:
    """A host of another release."""
    with pytest.raises(ProtocolError):
        decode_answer(json.dumps(head).encode() + b"\n" + body)


@given(st.binary() | st.binary().map(lambda raw: raw + b"\n") | st.text().map(str.encode))
def test_noise_is_a_protocol_error(payload: bytes) -> None:
    """Nothing else may come out, whatever comes in."""
    for decode in (decode_request, decode_transaction, decode_answer):
        with pytest.raises(ProtocolError):
            decode(payload)


@given(TRANSACTIONS, st.data())
def test_a_damaged_transaction_is_read_or_refused(
    transaction: Transaction, data: st.DataObject
) -> None:
    """A bit may turn anywhere."""
    payload = bytearray(encode_transaction(transaction))
    place = data.draw(st.integers(0, len(payload) - 1))
    payload[place] ^= 1 << data.draw(st.integers(0, 7))

    try:
        read = decode_transaction(bytes(payload))
    except ProtocolError:
        return
    assert all(is_key(write.key) for write in read.writes)
