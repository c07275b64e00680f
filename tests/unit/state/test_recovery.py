"""Where the state comes from when an agent starts."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from kagent_sdk.errors import StateFileError
from kagent_sdk.protocol.state import Item
from kagent_sdk.state.file_record import (
    MAX_PROBLEMS,
    ExportRecord,
    Problem,
    read_problems,
    write_problems,
)
from kagent_sdk.state.memory_file import FileLimits
from kagent_sdk.state.memory_store import MemoryStore
from kagent_sdk.state.recovery import DATABASE, NOTHING, Recovery, import_file, recover
from kagent_sdk.state.store import Usage, get, page, usage
from tests.unit.state.databases import NOW_S, in_memory, opened, put

LIMITS = FileLimits("hello", 1 << 20)


def start(
    database: sqlite3.Connection, folder: Path, *, quarantined: str | None = None
) -> Recovery:
    """Do what a host does with a database that it has opened."""
    store = MemoryStore(folder, LIMITS)
    return recover(database, store, now_s=NOW_S, quarantined_database=quarantined)


def seed(folder: Path, content: str, name: str = "memory_store.json") -> None:
    """Write a file as a person would."""
    (folder / name).write_text(content)


def aside(folder: Path) -> list[str]:
    """Return the names of files that were put aside."""
    return sorted(one.name for one in folder.iterdir() if "corrupt" in one.name)


def test_a_new_agent_without_a_file_begins_empty(tmp_path: Path) -> None:
    """As nearly all do; nothing is to be told of it."""
    with in_memory() as database:
        recovery = start(database, tmp_path)

    assert recovery == Recovery(NOTHING, None, Usage(), ExportRecord(), (), found=0)


def test_a_new_agent_is_seeded_by_its_file(tmp_path: Path) -> None:
    """A hand-written file is the state that an agent begins with."""
    seed(tmp_path, '{"users/1": {"name": "Ada"}, "n": 1}')
    with in_memory() as database:
        recovery = start(database, tmp_path)

        assert get(database, "users/1", NOW_S) == Item("users/1", 1, b'{"name": "Ada"}')
        assert usage(database) == Usage(1, 2, 7 + 15 + 2)
    assert recovery.origin == "memory_store.json"
    assert recovery.record.version is None, "it is to be written anew, in the agent's own way"
    assert len(recovery.record.known) == 1, "and it becomes the version before"


def test_a_file_is_read_once(tmp_path: Path) -> None:
    """From then on the database is the state: an old file must not bring back what was deleted."""
    seed(tmp_path, '{"a": 1}')
    with opened(tmp_path / "journal.db") as database:
        start(database, tmp_path)
        put(database, {"a": None})
    with opened(tmp_path / "journal.db") as database:
        recovery = start(database, tmp_path)

        assert page(database, "", None, 9, NOW_S).items == ()
    assert recovery.origin == DATABASE


def test_an_agent_that_began_empty_stays_so(tmp_path: Path) -> None:
    """A file that comes later is no seed, or a restored one would mix with what there is."""
    with opened(tmp_path / "journal.db") as database:
        start(database, tmp_path)
    seed(tmp_path, '{"a": 1}')
    with opened(tmp_path / "journal.db") as database:
        recovery = start(database, tmp_path)

    assert (recovery.origin, recovery.usage.keys) == (DATABASE, 0)


def test_lifetimes_are_imported_too(tmp_path: Path) -> None:
    """A session that ended while the agent was away does not come back."""
    seed(
        tmp_path,
        '{"$kagent": {"format": 1, "expires": {"s": "2026-11-24T17:40:10Z", '
        '"gone": "2026-11-24T17:40:00Z", "nobody": "2026-11-24T18:00:00Z"}}, "s": 1, "gone": 2}',
    )
    with in_memory() as database:
        start(database, tmp_path)

        assert page(database, "", None, 9, 0).items == (Item("s", 1, b"1", 1_795_542_010.0),)
        assert usage(database) == Usage(1, 1, 2)


@pytest.mark.parametrize(
    "content", ['{"a": 1', '{"$kagent": {"format": 1, "agent": "other"}, "a": 1}', "[]", ""]
)
def test_a_broken_file_gives_way_to_the_version_before(tmp_path: Path, content: str) -> None:
    """Nothing of it is used, and it is kept; what it says of itself is told."""
    seed(tmp_path, content)
    seed(tmp_path, '{"a": 0, "b": 2}', "memory_store.previous.json")
    with in_memory() as database:
        recovery = start(database, tmp_path)

        assert [one.key for one in page(database, "", None, 9, NOW_S).items] == ["a", "b"]
    assert recovery.origin == "memory_store.previous.json"
    assert recovery.found == 1
    assert [problem.file for problem in recovery.problems] == aside(tmp_path)
    assert (tmp_path / recovery.problems[0].file).read_text() == content


def test_two_broken_files_leave_an_empty_state_and_say_so(tmp_path: Path) -> None:
    """The agent works, and nobody can overlook why it knows nothing."""
    seed(tmp_path, "{")
    seed(tmp_path, "}", "memory_store.previous.json")
    with in_memory() as database:
        recovery = start(database, tmp_path)

        assert usage(database) == Usage()
    assert (recovery.origin, recovery.found) == (NOTHING, 2)
    assert aside(tmp_path) == [
        "memory_store.json.corrupt-20261124T174000",
        "memory_store.previous.json.corrupt-20261124T174000",
    ]


def test_the_version_before_is_used_alone_too(tmp_path: Path) -> None:
    """A crash between two renames may leave nothing else."""
    seed(tmp_path, '{"b": 2}', "memory_store.previous.json")
    with in_memory() as database:
        assert start(database, tmp_path).origin == "memory_store.previous.json"


def test_a_database_that_was_damaged_gives_way_to_the_file(tmp_path: Path) -> None:
    """It is told what is lost, and how old the state is that the agent goes on with."""
    seed(
        tmp_path,
        '{"$kagent": {"format": 1, "exported_at": "2026-11-24T17:00:00Z"}, "a": 1}',
    )
    (tmp_path / "journal.db.corrupt-20261124T174000").write_bytes(b"?")
    with in_memory() as database:
        recovery = start(database, tmp_path, quarantined="journal.db.corrupt-20261124T174000")

        assert get(database, "a", NOW_S) is not None
        assert read_problems(database, tmp_path) == recovery.problems
    assert recovery.problems[0].reason == (
        "journal.db was damaged: its tasks are not known any more, and the state is that of "
        "memory_store.json as of 2026-11-24T17:00:00Z"
    )


@pytest.mark.parametrize("content", ['{"a": 1}', None])
def test_what_is_told_of_a_damaged_database_is_true(tmp_path: Path, content: str | None) -> None:
    """A file that a person wrote has no time, and there may be none at all."""
    if content is not None:
        seed(tmp_path, content)
    with in_memory() as database:
        reason = start(database, tmp_path, quarantined="x").problems[0].reason

    ending = "as of when a person wrote it" if content else "the state begins empty"
    assert reason.endswith(ending)


def test_a_problem_is_told_until_its_file_is_gone(tmp_path: Path) -> None:
    """Over restarts: who moves the file away has taken notice."""
    seed(tmp_path, "{")
    with opened(tmp_path / "journal.db") as database:
        problems = start(database, tmp_path).problems
    with opened(tmp_path / "journal.db") as database:
        again = start(database, tmp_path)
    (tmp_path / problems[0].file).unlink()
    with opened(tmp_path / "journal.db") as database:
        after = start(database, tmp_path)

    assert again.problems == problems
    assert again.found == 0
    assert after.problems == ()


def test_the_newest_problems_are_remembered(tmp_path: Path) -> None:
    """A file that is torn each day must not fill the database."""
    problems = tuple(Problem(f"f{number}", NOW_S, "torn") for number in range(MAX_PROBLEMS + 5))
    for problem in problems:
        (tmp_path / problem.file).touch()
    with in_memory() as database:
        write_problems(database, problems)

        assert read_problems(database, tmp_path) == problems[5:]


def test_a_file_is_taken_whole_or_not_at_all(tmp_path: Path) -> None:
    """Also where the first thousand keys were good, and inside a transaction of others."""
    keys = ", ".join(f'"{number}": 1' for number in range(1000))
    seed(tmp_path, "{" + keys + ', "5": 2}')
    with in_memory() as database:
        database.execute("BEGIN")
        database.execute("INSERT INTO meta VALUES ('other', 1)")
        with pytest.raises(StateFileError, match="twice"):
            import_file(database, tmp_path / "memory_store.json", LIMITS, now_s=NOW_S)
        database.execute("COMMIT")

        assert usage(database) == Usage()
        assert database.execute("SELECT count(*) FROM state").fetchone() == (0,)
        assert database.execute("SELECT value FROM meta WHERE name = 'other'").fetchone() == (1,)


def test_a_file_that_is_torn_anywhere_is_put_aside(tmp_path: Path) -> None:
    """At every byte: the version before is used, and the torn one is kept to the last byte."""
    with opened(tmp_path / "journal.db") as database:
        put(
            database,
            {"users/1": b'{"name": "\\u00c4da", "tags": ["x", 1.5e3, null]}', "ä": b'"\xc3\xa4"'},
        )
        put(database, {"s": b"true"}, ttl_s=3600)
        store = MemoryStore(tmp_path, LIMITS)
        store.write_draft(database, NOW_S)
        store.install(NOW_S)
    whole = store.path.read_bytes()
    store.path.unlink()
    folder = tmp_path / "torn"
    folder.mkdir()
    for size in range(len(whole)):
        (folder / "memory_store.json").write_bytes(whole[:size])
        (folder / "memory_store.previous.json").write_bytes(whole)
        with in_memory() as database:
            recovery = start(database, folder)

            assert usage(database).keys == 3, size
        if size == len(whole) - 1:
            # Only the line break behind the object is missing: that is no loss.
            assert recovery.origin == "memory_store.json"
            continue
        assert recovery.origin == "memory_store.previous.json", size
        (problem,) = recovery.problems
        assert (folder / problem.file).read_bytes() == whole[:size]
        (folder / problem.file).unlink()


def test_a_file_with_any_byte_changed_is_no_exception(tmp_path: Path) -> None:
    """It is read, or put aside: whatever stands there, the agent starts."""
    whole = b'{"$kagent": {"format": 1, "expires": {"s": "2026-11-24T18:00:00Z"}}, "s": {"a": [1]}}'
    for position in range(len(whole)):
        for byte in (0x00, 0x22, 0x2C, 0x7D, 0xFF):
            (tmp_path / "memory_store.json").write_bytes(
                whole[:position] + bytes([byte]) + whole[position + 1 :]
            )
            with in_memory() as database:
                recovery = start(database, tmp_path)

                kept = usage(database).keys
            assert (recovery.origin == NOTHING) == (recovery.found == 1) == (kept == 0)
            for problem in recovery.problems:
                (tmp_path / problem.file).unlink()
