"""Writing the state to its file, and what becomes of what lies there."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from kagent_sdk.state.memory_file import FileLimits, check_memory_file, open_memory_file
from kagent_sdk.state.memory_store import (
    ExportAbandonedError,
    MemoryStore,
    format_time,
    one_line,
)
from kagent_sdk.state.store import expire
from tests.unit.state.databases import NOW_S, opened, put

LIMITS = FileLimits("hello", 1 << 30)
NOBODY: frozenset[str] = frozenset()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A new database."""
    with opened(tmp_path / "journal.db") as connection:
        yield connection


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    """The files of an agent."""
    return MemoryStore(tmp_path, LIMITS)


def export(store: MemoryStore, database: sqlite3.Connection, now_s: float = NOW_S) -> str:
    """Write the file, and return its hash."""
    draft = store.write_draft(database, now_s)
    store.install(now_s)
    return draft.sha256


def names(store: MemoryStore) -> list[str]:
    """Return what lies in the folder, but for the database."""
    return sorted(one.name for one in store.folder.iterdir() if "journal" not in one.name)


def test_the_file_is_sorted_and_has_a_line_for_each_key(
    store: MemoryStore, database: sqlite3.Connection
) -> None:
    """People read it, and compare two of them with `diff`."""
    put(database, {"users/2": b'{\n  "name": "B",\r\n  "n": [1,\n 2]\n}', 'a"ä': b'"x"'})
    put(database, {"session": b"1"}, ttl_s=60)
    put(database, {"gone": b"1"}, ttl_s=1)
    export(store, database, NOW_S + 1)

    assert store.path.read_text() == (
        "{\n"
        '  "$kagent": {\n'
        '    "format": 1,\n'
        '    "agent": "hello",\n'
        '    "exported_at": "2026-11-24T17:40:01.250Z",\n'
        '    "expires": {\n'
        '      "session": "2026-11-24T17:41:00.250Z"\n'
        "    }\n"
        "  },\n"
        '  "a\\"ä": "x",\n'
        '  "session": 1,\n'
        '  "users/2": { "name": "B", "n": [1, 2] }\n'
        "}\n"
    )


def test_an_empty_state_is_a_valid_file(store: MemoryStore, database: sqlite3.Connection) -> None:
    """A state that was emptied is not the one before."""
    sha256 = export(store, database)

    assert check_memory_file(store.path, LIMITS) == sha256
    assert list(json.loads(store.path.read_text())) == ["$kagent"]


def test_what_is_written_is_read_back(store: MemoryStore, database: sqlite3.Connection) -> None:
    """Export and import are each other's inverse, lifetimes to the millisecond."""
    values: dict[str, bytes | None] = {f"k/{number}/é": b"[%d]" % number for number in range(3000)}
    put(database, values)
    put(database, {"ends": b"1"}, ttl_s=7.5)
    export(store, database)

    with open_memory_file(store.path, LIMITS) as file:
        assert dict(file.items()) == {**values, "ends": b"1"}
    assert file.expires == {"ends": NOW_S + 7.5}
    assert file.exported_at == format_time(NOW_S)


def test_only_the_agent_may_read_it(store: MemoryStore, database: sqlite3.Connection) -> None:
    """It holds what an agent has been told."""
    previous = os.umask(0)
    try:
        export(store, database)
    finally:
        os.umask(previous)

    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600


def test_the_version_before_is_kept(store: MemoryStore, database: sqlite3.Connection) -> None:
    """For when the present one is torn by what no rename protects from."""
    put(database, {"a": b"1"})
    first = export(store, database)
    put(database, {"a": b"2"})
    second = export(store, database)

    assert check_memory_file(store.path, LIMITS) == second
    assert check_memory_file(store.previous, LIMITS) == first
    assert names(store) == ["memory_store.json", "memory_store.previous.json"]


def test_a_filesystem_without_hard_links_keeps_it_too(
    store: MemoryStore, database: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network and FUSE filesystems have none."""

    def refuse(*_args: object, **_options: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    first, second = export(store, database), export(store, database, NOW_S + 1)

    assert check_memory_file(store.path, LIMITS) == second
    assert check_memory_file(store.previous, LIMITS) == first


def test_leftovers_of_a_crash_are_in_nobodys_way(
    store: MemoryStore, database: sqlite3.Connection
) -> None:
    """A host that was killed in the middle leaves half a draft, and a link."""
    export(store, database)
    (store.folder / "memory_store.json.tmp").write_bytes(b"{")
    (store.folder / "memory_store.previous.json.tmp").write_bytes(b"{")
    export(store, database, NOW_S + 1)

    assert names(store) == ["memory_store.json", "memory_store.previous.json"]


def test_links_are_replaced_and_never_followed(
    store: MemoryStore, database: sqlite3.Connection, tmp_path: Path
) -> None:
    """Or whoever may write into the folder could have any file of the host's overwritten."""
    other = tmp_path / "other"
    other.write_text("mine")
    for name in ("memory_store.json.tmp", "memory_store.previous.json", "memory_store.json"):
        (tmp_path / name).symlink_to(other)
    problem = store.settle(NOBODY, NOW_S)
    export(store, database)
    export(store, database, NOW_S + 1)

    assert problem is not None
    assert problem.reason == "not a regular file, but a link"
    assert other.read_text() == "mine"
    assert not store.path.is_symlink()
    assert not store.previous.is_symlink()


def test_folders_in_the_way_are_put_aside(store: MemoryStore, database: sqlite3.Connection) -> None:
    """A volume that was mounted at the wrong place, for one."""
    store.path.mkdir()
    store.previous.mkdir()
    problem = store.settle(NOBODY, NOW_S)
    export(store, database)
    export(store, database, NOW_S + 1)

    assert problem is not None
    assert names(store) == [
        "memory_store.json",
        "memory_store.json.corrupt-20261124T174000",
        "memory_store.previous.json",
        "memory_store.previous.json.corrupt-20261124T174001",
    ]


def test_an_export_that_is_told_to_stop_leaves_all_as_it_was(
    store: MemoryStore, database: sqlite3.Connection
) -> None:
    """The end of a shutdown waits for nobody."""
    sha256 = export(store, database)

    with pytest.raises(ExportAbandonedError):
        store.write_draft(database, NOW_S + 1, is_abandoned=lambda: True)
    assert check_memory_file(store.path, LIMITS) == sha256
    assert names(store) == ["memory_store.json"]


def test_a_full_disk_leaves_all_as_it_was(
    store: MemoryStore, database: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version that is there is better than none."""
    sha256 = export(store, database)

    def refuse(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        store.write_draft(database, NOW_S + 1)
    assert check_memory_file(store.path, LIMITS) == sha256
    assert names(store) == ["memory_store.json"]


# What lies there already


def test_our_own_file_stays(store: MemoryStore, database: sqlite3.Connection) -> None:
    """Found by its hash after a start, and by its times from then on."""
    sha256 = export(store, database)
    later = MemoryStore(store.folder, LIMITS)

    assert store.settle(NOBODY, NOW_S) is None
    assert not later.is_untouched()
    assert later.settle(frozenset({sha256}), NOW_S) is None
    assert later.is_untouched()


def test_a_file_that_was_edited_by_hand_is_kept_and_not_used(
    store: MemoryStore, database: sqlite3.Connection
) -> None:
    """The database is the state; but what a person has written is not thrown away."""
    sha256 = export(store, database)
    store.path.write_bytes(b'{"mine": 1}')
    problem = store.settle(frozenset({sha256}), NOW_S)

    assert problem is not None
    assert problem.file == "memory_store.edited-20261124T174000.json"
    assert "move journal.db away" in problem.reason
    assert (store.folder / problem.file).read_bytes() == b'{"mine": 1}'
    assert not store.is_present()


def test_a_file_that_is_broken_is_kept_and_not_used(
    store: MemoryStore, database: sqlite3.Connection
) -> None:
    """Somebody may want to look at it, or mend it."""
    sha256 = export(store, database)
    store.path.write_bytes(store.path.read_bytes()[:-5])
    problem = store.settle(frozenset({sha256}), NOW_S)

    assert problem is not None
    assert problem.file == "memory_store.json.corrupt-20261124T174000"
    assert problem.reason.startswith("line 7, column 2: the text ends where")


def test_two_in_one_second_have_two_names(store: MemoryStore) -> None:
    """Nothing that was put aside is written over."""
    found = []
    for text in (b"1", b"2", b'{"a": 1}', b'{"a": 2}'):
        store.path.write_bytes(text)
        found.append(store.settle(NOBODY, NOW_S))

    assert [problem.file for problem in found if problem is not None] == [
        "memory_store.json.corrupt-20261124T174000",
        "memory_store.json.corrupt-20261124T174000-1",
        "memory_store.edited-20261124T174000.json",
        "memory_store.edited-20261124T174000.json-1",
    ]


def test_line_breaks_in_values_go_and_nothing_else() -> None:
    """One key is one line; what a string holds is never touched."""
    assert one_line(b'{ "a" :  "x  y" }') == b'{ "a" :  "x  y" }'
    assert one_line(b'{\r\n\t"a": "x  y",\n\n  "b": [1,\r2]\n}') == (
        b'{ "a": "x  y", "b": [1, 2] }'
    )


def test_what_expires_while_the_agent_rests_is_not_in_the_file(
    store: MemoryStore, database: sqlite3.Connection
) -> None:
    """Swept or not."""
    put(database, {"gone": b"1"}, ttl_s=1)
    export(store, database, NOW_S + 2)
    before = store.path.read_bytes()
    expire(database, NOW_S + 2)
    export(store, database, NOW_S + 2)

    assert b"gone" not in before
    assert store.path.read_bytes() == before
