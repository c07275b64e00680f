"""The state in the database, held against a dictionary that does the same."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kagent_sdk.errors import StateConflictError, StateQuotaError
from kagent_sdk.protocol.state import (
    MAX_PAGE_BYTES,
    MAX_PAGE_ITEMS,
    MAX_VALUE_BYTES,
    Item,
    Scan,
    Transaction,
    Write,
)
from kagent_sdk.state.store import (
    Usage,
    apply,
    expire,
    get,
    next_expiry,
    page,
    recount,
    usage,
)
from tests.unit.state.databases import NOW_S, PLENTY_BYTES, in_memory, opened, put


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A new database."""
    with opened(tmp_path / "journal.db") as connection:
        yield connection


# One key


def test_a_value_comes_back_as_it_was_written(database: sqlite3.Connection) -> None:
    """Nothing is done to an author's value on the way."""
    raw = b'{"a":  1.10, "b": "\\u00e4"}'
    version = put(database, {"users/1": raw})

    assert get(database, "users/1", NOW_S) == Item("users/1", version, raw)
    assert get(database, "users/2", NOW_S) is None


def test_a_key_is_gone_the_moment_that_its_time_is_over(database: sqlite3.Connection) -> None:
    """Swept or not: nobody reads what should not be there."""
    put(database, {"session": b"1"}, ttl_s=10)

    assert get(database, "session", NOW_S + 9.9) == Item("session", 1, b"1", NOW_S + 10)
    assert get(database, "session", NOW_S + 10) is None
    assert page(database, "", None, 10, NOW_S + 10).items == ()


def test_a_key_that_is_written_without_a_lifetime_stays(database: sqlite3.Connection) -> None:
    """The lifetime belongs to the write, not to the key."""
    put(database, {"session": b"1"}, ttl_s=10)
    put(database, {"session": b"2"})

    assert get(database, "session", NOW_S + 99) == Item("session", 2, b"2")
    assert next_expiry(database) is None


# Pages

KEYS = ["a", "a/b", "a/b/c", "a/c", "ab", "b", "ä", "\ud7ff", "\ue000", "\U0001f600", "\U0010ffff"]


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("", KEYS),
        ("a", ["a", "a/b", "a/b/c", "a/c", "ab"]),
        ("a/", ["a/b", "a/b/c", "a/c"]),
        ("a/b", ["a/b", "a/b/c"]),
        ("c", []),
        ("ä", ["ä"]),
        ("\ud7ff", ["\ud7ff"]),
        ("\ue000", ["\ue000"]),
        ("\U0010ffff", ["\U0010ffff"]),
        ("a\U0010ffff", []),
        ("%", []),
        ("_", []),
    ],
)
def test_a_prefix_is_a_plain_beginning(
    database: sqlite3.Connection, prefix: str, expected: list[str]
) -> None:
    """No wildcard, no separator: what `str.startswith` says, in the order of the bytes."""
    put(database, dict.fromkeys(KEYS, b"1"))

    found = page(database, prefix, None, 100, NOW_S)

    assert [item.key for item in found.items] == expected
    assert not found.has_more


def test_pages_add_up_to_all_keys(database: sqlite3.Connection) -> None:
    """Whoever asks on behind the last key misses none and sees none twice."""
    put(database, dict.fromkeys(KEYS, b"1"))
    seen: list[str] = []
    after = None
    while True:
        found = page(database, "", after, 2, NOW_S)
        seen += [item.key for item in found.items]
        if not found.has_more:
            break
        after = seen[-1]

    assert seen == KEYS


def test_a_place_to_go_on_may_lie_outside_of_the_prefix(database: sqlite3.Connection) -> None:
    """Any key may be named, also one that is not there any more."""
    put(database, dict.fromkeys(KEYS, b"1"))

    assert [item.key for item in page(database, "a/", "A", 9, NOW_S).items] == [
        "a/b",
        "a/b/c",
        "a/c",
    ]
    assert page(database, "a/", "b", 9, NOW_S).items == ()


def test_a_page_is_bounded_in_number(database: sqlite3.Connection) -> None:
    """A list of a million keys must not become one answer."""
    put(database, {f"{number:05}": b"1" for number in range(MAX_PAGE_ITEMS + 1)})

    found = page(database, "", None, MAX_PAGE_ITEMS * 9, NOW_S)

    assert len(found.items) == MAX_PAGE_ITEMS
    assert found.has_more


def test_a_page_is_bounded_in_bytes_but_never_empty(database: sqlite3.Connection) -> None:
    """A value of the largest size still comes, alone."""
    large = b'"' + b"x" * (MAX_VALUE_BYTES - 2) + b'"'
    put(database, {"a": b"1", "b": large, "c": b"1"})

    assert [item.key for item in page(database, "", None, 10, NOW_S).items] == ["a"]
    assert [item.key for item in page(database, "", "a", 10, NOW_S).items] == ["b"]
    assert len(large) + 1 > MAX_PAGE_BYTES


def test_a_prefix_is_looked_up_and_not_searched_for(database: sqlite3.Connection) -> None:
    """Listing ten keys of a million costs ten."""
    put(database, dict.fromkeys(KEYS, b"1"))
    statements: list[str] = []
    database.set_trace_callback(statements.append)
    page(database, "a/", None, 10, NOW_S)
    apply(database, Transaction(scans=(Scan("a/", 3, 1),)), now_s=NOW_S, quota_bytes=PLENTY_BYTES)
    database.set_trace_callback(None)
    lists = [text for text in statements if "key >=" in text]
    plans = [row[3] for text in lists for row in database.execute(f"EXPLAIN QUERY PLAN {text}")]

    assert len(lists) == 2
    assert len(plans) == 2
    assert all("SEARCH state USING INDEX" in plan and "key>" in plan for plan in plans), plans


# Transactions


def commit(database: sqlite3.Connection, *writes: Write, quota_bytes: int = 100) -> int:
    """Commit writes that have seen nothing."""
    return apply(database, Transaction(writes=writes), now_s=NOW_S, quota_bytes=quota_bytes)


def test_all_writes_of_a_transaction_have_one_version(database: sqlite3.Connection) -> None:
    """So that a list tells by one number whether anything in it has changed."""
    version = put(database, {"a": b"1", "b": b"2"})

    assert [item.version for item in page(database, "", None, 9, NOW_S).items] == [version] * 2
    assert put(database, {"c": b"3"}) == version + 1


def test_a_transaction_without_an_effect_is_no_change(database: sqlite3.Connection) -> None:
    """Reading and deleting what is not there must not have the file written again."""
    version = put(database, {"a": b"1"})

    assert apply(database, Transaction({"a": 1}), now_s=NOW_S, quota_bytes=9) == version
    assert put(database, {"nobody": None}) == version
    assert put(database, {"a": None}) == version + 1


@pytest.mark.parametrize("seen", [0, 2, 3])
def test_a_key_that_is_not_as_it_was_read_is_a_conflict(
    database: sqlite3.Connection, seen: int
) -> None:
    """Two tasks that count one key up must not lose a count."""
    put(database, {"a": b"1"})
    transaction = Transaction({"a": seen, "nobody": 0}, writes=(Write("b", b"2"),))

    with pytest.raises(StateConflictError) as caught:
        apply(database, transaction, now_s=NOW_S, quota_bytes=PLENTY_BYTES)
    assert caught.value.keys == ("a",)
    assert usage(database) == Usage(1, 1, 2)


def test_a_key_that_has_expired_was_read_as_absent(database: sqlite3.Connection) -> None:
    """Version 0 is right, and the version that it had is wrong."""
    put(database, {"a": b"1"}, ttl_s=1)

    apply(database, Transaction({"a": 0}), now_s=NOW_S + 1, quota_bytes=9)
    with pytest.raises(StateConflictError):
        apply(database, Transaction({"a": 1}), now_s=NOW_S + 1, quota_bytes=9)


@pytest.mark.parametrize(
    "change",
    [{"a/3": b"3"}, {"a/1": None}, {"a/1": b"9"}, {"a/1": None, "a/3": b"3"}],
    ids=["added", "deleted", "changed", "exchanged"],
)
def test_a_prefix_that_is_not_as_it_was_listed_is_a_conflict(
    database: sqlite3.Connection, change: dict[str, bytes | None]
) -> None:
    """A sum over keys must not miss one that came meanwhile."""
    put(database, {"a/1": b"1", "a/2": b"2"})
    listed = Transaction(scans=(Scan("a/", 2, 1),))
    put(database, {"b": b"1"})

    apply(database, listed, now_s=NOW_S, quota_bytes=PLENTY_BYTES)
    put(database, change)
    with pytest.raises(StateConflictError, match="a prefix that was read"):
        apply(database, listed, now_s=NOW_S, quota_bytes=PLENTY_BYTES)


def test_the_quota_counts_keys_and_values_in_bytes(database: sqlite3.Connection) -> None:
    """What an author is told is what a look at the file confirms."""
    commit(database, Write("ä", b"1234"), quota_bytes=6)

    with pytest.raises(StateQuotaError) as caught:
        commit(database, Write("b", b"1"), quota_bytes=7)
    assert (caught.value.used_bytes, caught.value.quota_bytes) == (8, 7)
    assert usage(database) == Usage(1, 1, 6)


def test_what_makes_the_state_smaller_is_never_refused(database: sqlite3.Connection) -> None:
    """Or a quota that was lowered would lock an agent in."""
    commit(database, Write("a", b"1" * 50), Write("b", b"2" * 50), quota_bytes=200)

    commit(database, Write("a", b"1" * 49), quota_bytes=10)
    commit(database, Write("a", None), Write("c", b"3" * 20), quota_bytes=10)
    with pytest.raises(StateQuotaError):
        commit(database, Write("c", b"3" * 21), quota_bytes=10)


def test_keys_that_have_expired_take_no_room(database: sqlite3.Connection) -> None:
    """They are gone for everybody, so they are for the quota, swept or not."""
    put(database, {"a": b"1" * 50, "b": b"1" * 20}, ttl_s=1)

    def commit_late(key: str, value: bytes) -> None:
        transaction = Transaction(writes=(Write(key, value),))
        apply(database, transaction, now_s=NOW_S + 2, quota_bytes=60)

    with pytest.raises(StateQuotaError):
        commit_late("c", b"1" * 60)
    commit_late("c", b"1" * 39)
    with pytest.raises(StateQuotaError) as caught:
        commit_late("a", b"1" * 50)  # not free either: its old value counts nowhere
    assert caught.value.used_bytes == 40 + 51


# Sweeping


def test_sweeping_is_done_in_bites_the_oldest_first(database: sqlite3.Connection) -> None:
    """A million keys that expire at once must not hold up the tasks."""
    for number in range(5):
        put(database, {f"k{number}": b"1"}, ttl_s=10 - number)
    put(database, {"stays": b"1"})

    assert next_expiry(database) == NOW_S + 6
    assert expire(database, NOW_S + 8, limit=2) == 2
    assert expire(database, NOW_S + 8, limit=2) == 1
    assert expire(database, NOW_S + 8, limit=2) == 0
    keys = [item.key for item in page(database, "", None, 9, 0).items]
    assert keys == ["k0", "k1", "stays"]
    assert usage(database) == Usage(8, 3, 6 + 6)


# Everything together


@dataclass
class Model:
    """A dictionary that keeps the same rules."""

    version: int = 0
    keys: dict[str, tuple[int, bytes, float | None]] = field(default_factory=dict)

    def alive(self, now_s: float) -> dict[str, tuple[int, bytes, float | None]]:
        """Return what has not expired."""
        return {
            key: entry for key, entry in self.keys.items() if entry[2] is None or entry[2] > now_s
        }

    def size(self, now_s: float) -> int:
        """Return the bytes of that."""
        return sum(len(key.encode()) + len(one[1]) for key, one in self.alive(now_s).items())

    def versions(self, prefix: str, now_s: float) -> list[int]:
        """Return the versions of keys with a prefix."""
        return [one[0] for key, one in self.alive(now_s).items() if key.startswith(prefix)]

    def seen(self, transaction: Transaction, now_s: float) -> bool:
        """Tell whether all that was seen is still so."""
        alive = self.alive(now_s)
        return all(
            (alive[key][0] if key in alive else 0) == version
            for key, version in transaction.reads.items()
        ) and all(
            (len(found), max(found, default=0)) == (scan.count, scan.max_version)
            for scan in transaction.scans
            for found in [self.versions(scan.prefix, now_s)]
        )

    def write(self, transaction: Transaction, now_s: float, quota_bytes: int) -> bool:
        """Do it; False: it is over the quota."""
        after = Model(self.version + 1, dict(self.keys))
        for write in transaction.writes:
            if write.value is None:
                after.keys.pop(write.key, None)
            else:
                ends = None if write.ttl_s is None else now_s + write.ttl_s
                after.keys[write.key] = (after.version, write.value, ends)
        # A lifetime that ends at once counts all the same: at the moment of the write it is there.
        if after.size(now_s) > max(quota_bytes, self.size(now_s)):
            return False
        if after.keys != self.keys:
            self.version, self.keys = after.version, after.keys
        return True


Step = tuple[list[Write], dict[str, str], list[tuple[str, bool]], float, bool]
"""What is written, what of keys and prefixes was seen, what time passes before, and a sweep."""

names = st.sampled_from(["a", "a/1", "a/2", "b", "ä/1", "\U0001f600"])
writes = st.lists(
    st.builds(
        Write,
        names,
        st.none() | st.integers(0, 30).map(lambda size: b"7" * size),
        st.none() | st.sampled_from([1.0, 5.0]),
    ),
    max_size=3,
    unique_by=lambda write: write.key,
)
steps = st.lists(
    st.tuples(
        writes,
        st.dictionaries(names, st.sampled_from(["true", "stale", "absent"]), max_size=2),
        st.lists(st.tuples(st.sampled_from(["", "a", "a/", "z"]), st.booleans()), max_size=1),
        st.sampled_from([0.0, 0.0, 1.0, 3.0]),
        st.booleans(),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(steps=steps)
def test_it_is_what_a_dictionary_with_the_same_rules_is(steps: list[Step]) -> None:
    """Reads, conflicts, lifetimes, the quota and the totals agree after every step."""
    quota_bytes, now_s, model = 60, NOW_S, Model()
    with in_memory() as database:
        for made, reads, scans, passed_s, is_swept in steps:
            now_s += passed_s
            if is_swept:
                expire(database, now_s)
                model.keys = model.alive(now_s)
                model.version = usage(database).version
            transaction = Transaction(
                {key: claim(model, key, what, now_s) for key, what in reads.items()},
                tuple(
                    Scan(prefix, len(found) + (not is_true), max(found, default=0))
                    for prefix, is_true in scans
                    for found in [model.versions(prefix, now_s)]
                ),
                tuple(made),
            )
            compare_step(database, model, transaction, now_s, quota_bytes)


def claim(model: Model, key: str, what: str, now_s: float) -> int:
    """Return a version that somebody might have seen."""
    if what == "absent":
        return 0
    version = model.alive(now_s).get(key, (0,))[0]
    return version if what == "true" else version + 7


def compare_step(
    database: sqlite3.Connection,
    model: Model,
    transaction: Transaction,
    now_s: float,
    quota_bytes: int,
) -> None:
    """Do a transaction on both, and hold the one against the other."""
    before = usage(database)
    is_seen = model.seen(transaction, now_s)
    is_done = is_seen and model.write(transaction, now_s, quota_bytes)
    try:
        version = apply(database, transaction, now_s=now_s, quota_bytes=quota_bytes)
    except StateConflictError:
        assert not is_seen
        assert usage(database) == before
    except StateQuotaError:
        assert is_seen
        assert not is_done
        assert usage(database) == before
    else:
        assert is_done
        assert version == model.version

    found = page(database, "", None, 1000, now_s).items
    alive = model.alive(now_s)
    assert [(one.key, one.version, one.value, one.expires_at) for one in found] == [
        (key, *alive[key]) for key in sorted(alive, key=str.encode)
    ]
    present = usage(database)
    assert (present.keys, present.used_bytes) == count_rows(database)


def count_rows(database: sqlite3.Connection) -> tuple[int, int]:
    """Count what is in the table, in another way than the package does."""
    rows = database.execute("SELECT key, value FROM state").fetchall()
    return len(rows), sum(len(key.encode()) + len(value) for key, value in rows)


def test_totals_can_be_counted_anew(database: sqlite3.Connection) -> None:
    """Who writes the table by other means sets them right."""
    database.execute("INSERT INTO state VALUES ('ä', 1, NULL, CAST('12' AS BLOB))")

    assert recount(database) == Usage(1, 1, 4)
    assert usage(database) == Usage(1, 1, 4)
