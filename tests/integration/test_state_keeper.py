"""The keeper of the state on a real database and real files."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from kagent_sdk.config.models import AgentConfig, StateConfig
from kagent_sdk.errors import StorageError
from kagent_sdk.host.state_keeper import StateKeeper
from kagent_sdk.protocol.state import Transaction, Write
from kagent_sdk.state import memory_store
from kagent_sdk.state.memory_file import FileLimits, check_memory_file
from kagent_sdk.state.memory_store import MemoryStore
from kagent_sdk.storage.database import Durability
from kagent_sdk.storage.thread import Storage

NOW_S = 1_795_542_000.0
LIMITS = FileLimits("hello", 1 << 28)
DEADLINE_S = 30.0


class Log:
    """A pump that keeps what it is told, and tells of it."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.told = asyncio.Event()

    def log(self, level: str, event: str, **values: Any) -> None:
        """Keep an event."""
        self.events.append({"level": level, "event": event, **values})
        self.told.set()

    def find(self, event: str) -> list[dict[str, Any]]:
        """Return the events of that name."""
        return [one for one in self.events if one["event"] == event]


class Rig:
    """A host that has a state and nothing else."""

    def __init__(self, folder: Path, durability: Durability, export_s: float) -> None:
        self.runtime = folder / "runtime"
        self.runtime.mkdir(exist_ok=True)
        self.now_s = NOW_S
        self.is_idle = True
        self.log = Log()
        self.storage = Storage(self.runtime / "journal.db", durability, clock=lambda: self.now_s)
        self.keeper = StateKeeper(
            self.storage,
            folder,
            AgentConfig(
                name="hello", state=StateConfig(export_s=export_s, quota_bytes=LIMITS.quota_bytes)
            ),
            pump=cast("Any", self.log),
            is_idle=lambda: self.is_idle,
            clock=lambda: self.now_s,
        )
        self.path = self.runtime / "memory_store.json"
        self.previous = self.runtime / "memory_store.previous.json"

    async def put(self, key: str, value: bytes | None, ttl_s: float | None = None) -> int:
        """Commit a write, as the end of a task does."""
        transaction = Transaction(writes=(Write(key, value, ttl_s),))
        return await self.storage.write(lambda database: self.keeper.apply(database, transaction))

    async def until(self, claim: Callable[[], bool]) -> None:
        """Wait for something that the keeper does by itself; each look follows a read of its own."""
        async with asyncio.timeout(DEADLINE_S):
            while not claim():
                await self.storage.read(lambda _database: None)
                await asyncio.sleep(0.01)

    def content(self) -> dict[str, Any]:
        """Return the keys in the file."""
        values = json.loads(self.path.read_bytes())
        values.pop("$kagent", None)
        assert isinstance(values, dict)
        return values


@asynccontextmanager
async def started(
    folder: Path,
    *,
    durability: Durability = "process",
    export_s: float = 3600.0,
    is_running: bool = False,
) -> AsyncIterator[Rig]:
    """Open the state, and close it without a last export, as a host that was killed."""
    rig = Rig(folder, durability, export_s)
    await rig.keeper.open(await rig.storage.open())
    job = asyncio.create_task(rig.keeper.run()) if is_running else None
    try:
        yield rig
    finally:
        if job is not None:
            job.cancel()
            await asyncio.gather(job, return_exceptions=True)
        await rig.storage.aclose()


# Export


async def test_a_change_is_in_the_file_when_the_agent_is_quiet(tmp_path: Path) -> None:
    """Within a second or two, long before `state.export_s`."""
    async with started(tmp_path, is_running=True) as rig:
        await rig.put("a", b"1")
        await rig.until(lambda: rig.keeper.record.version == 1)

        assert rig.content() == {"a": 1}
        assert rig.keeper.usage.keys == 1


async def test_a_busy_agent_exports_in_time(tmp_path: Path) -> None:
    """Tasks that never end must not keep a change out of the file."""
    async with started(tmp_path, is_running=True, export_s=0.5) as rig:
        rig.is_idle = False
        await rig.put("a", b"1")
        await rig.until(lambda: rig.keeper.record.version == 1)

        assert rig.content() == {"a": 1}


async def test_an_agent_without_a_state_has_no_file(tmp_path: Path) -> None:
    """Nor does it get one by being stopped."""
    async with started(tmp_path, is_running=True) as rig:
        assert await rig.keeper.export_now()

        assert not rig.path.exists()


def identity(path: Path) -> tuple[int, int, int]:
    """Return what another file, or another content, would change; reading changes the rest."""
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


async def test_what_has_not_changed_is_not_written_again(tmp_path: Path) -> None:
    """Over restarts: the same file, not one that says the same."""
    async with started(tmp_path) as rig:
        await rig.put("a", b"1")
        await rig.keeper.export_now()
        before = identity(rig.path)
        await rig.keeper.export_now()
    async with started(tmp_path) as rig:
        assert await rig.keeper.export_now()

        assert identity(rig.path) == before
        assert not rig.previous.exists()
        assert rig.keeper.problems == ()


async def test_a_file_that_was_removed_is_written_again(tmp_path: Path) -> None:
    """It is the state's readable form, whatever became of the last one."""
    async with started(tmp_path) as rig:
        await rig.put("a", b"1")
        await rig.keeper.export_now()
        rig.path.unlink()
        await rig.keeper.export_now()

        assert rig.content() == {"a": 1}


async def test_keys_that_expire_leave_table_and_file(tmp_path: Path) -> None:
    """All of them, batch by batch, though nobody asks for them."""
    async with started(tmp_path, is_running=True) as rig:
        writes = tuple(Write(f"s/{number}", b"1", 5.0) for number in range(1200))
        transaction = Transaction(writes=(*writes, Write("stays", b"1")))
        await rig.storage.write(lambda database: rig.keeper.apply(database, transaction))
        rig.now_s += 6
        await rig.put("other", b"1")
        await rig.until(lambda: rig.keeper.usage.keys == 2)
        await rig.until(lambda: rig.keeper.record.version == rig.keeper.usage.version)

        assert rig.content() == {"other": 1, "stays": 1}


async def test_a_key_that_expires_is_swept_in_its_time(tmp_path: Path) -> None:
    """The keeper wakes for it: nothing else happens in this agent."""
    async with started(tmp_path, is_running=True) as rig:
        rig.keeper._clock = asyncio.get_running_loop().time
        await rig.put("s", b"1", 0.5)
        await rig.until(lambda: rig.keeper.usage.keys == 1)
        await rig.until(lambda: rig.keeper.usage.keys == 0)


async def test_a_disk_that_is_full_hurts_nobody_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state is in the database; the file follows when there is room again."""
    async with started(tmp_path, is_running=True) as rig:
        with monkeypatch.context() as patch:
            patch.setattr(MemoryStore, "install", _refuse)
            await rig.put("a", b"1")
            await rig.until(lambda: rig.keeper.error is not None)
            version = await rig.put("b", b"2")

            assert (
                rig.keeper.error == "memory_store.json cannot be written: No space left on device"
            )
            assert version == 2
            assert not await rig.keeper.export_now()
        await rig.until(lambda: rig.keeper.error is None)

        assert rig.content() == {"a": 1, "b": 2}
        assert len(rig.log.find("state_export_failed")) == 1, "it is told once"
        assert len(rig.log.find("state_export_recovered")) == 1


def _refuse(*_args: object) -> None:
    raise OSError(28, "No space left on device", "/secret/path")


async def test_a_stop_waits_for_the_export_that_runs_and_makes_another(tmp_path: Path) -> None:
    """What changed while the last one ran is in the file that is left behind."""
    async with started(tmp_path) as rig:
        with held_drafts() as gate:
            await rig.put("a", b"1")
            first = asyncio.create_task(rig.keeper.export_now())
            await asyncio.to_thread(gate.entered.wait, DEADLINE_S)
            await rig.put("b", b"2")
            last = asyncio.create_task(rig.keeper.export_now())
            gate.release.set()

            assert await first
            assert await last
        assert rig.content() == {"a": 1, "b": 2}


async def test_an_export_that_is_cut_off_stops_and_leaves_the_file(tmp_path: Path) -> None:
    """The shutdown's budget is over: the last whole file stays."""
    async with started(tmp_path) as rig:
        await rig.put("a", b"1")
        await rig.keeper.export_now()
        await rig.put("b", b"2")
        with held_drafts() as gate:
            job = asyncio.create_task(rig.keeper.export_now())
            await asyncio.to_thread(gate.entered.wait, DEADLINE_S)
            job.cancel()
            await asyncio.sleep(0)  # a cancelled job hears of it in the loop's next turn
            assert gate.is_abandoned()
            gate.release.set()
            with pytest.raises(asyncio.CancelledError):
                await job

        assert rig.content() == {"a": 1}
        assert await rig.keeper.export_now()
        assert rig.content() == {"a": 1, "b": 2}


class Gate:
    """Where an export waits."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.release = threading.Event()
        self.is_abandoned: Callable[[], bool] = self.release.is_set


@contextmanager
def held_drafts() -> Iterator[Gate]:
    """Let exports wait before they write."""
    gate, write = Gate(), MemoryStore.write_draft

    def wait(
        store: MemoryStore,
        connection: sqlite3.Connection,
        now_s: float,
        *,
        is_abandoned: Callable[[], bool],
    ) -> memory_store.Draft:
        gate.is_abandoned = is_abandoned
        gate.entered.set()
        assert gate.release.wait(DEADLINE_S)
        return write(store, connection, now_s, is_abandoned=is_abandoned)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryStore, "write_draft", wait)
        yield gate


async def test_a_state_in_memory_is_exported_too(tmp_path: Path) -> None:
    """With `tasks.durability: none` the file is all that is left of it."""
    async with started(tmp_path, durability="none") as rig:
        await rig.put("a", b"1")
        await rig.keeper.export_now()
    async with started(tmp_path, durability="none") as rig:
        assert rig.keeper.usage.keys == 1
        assert rig.log.find("state_imported")[0]["keys"] == 1


async def test_a_database_that_is_closed_is_no_end_of_the_keeper(tmp_path: Path) -> None:
    """Whoever owns the database tells of its trouble; the keeper waits for better times."""
    rig = Rig(tmp_path, "process", 3600.0)
    await rig.keeper.open(await rig.storage.open())
    await rig.put("a", b"1")
    await rig.storage.aclose()
    job = asyncio.create_task(rig.keeper.run())
    async with asyncio.timeout(DEADLINE_S):
        while not rig.log.find("state_export_failed"):
            await rig.log.told.wait()
            rig.log.told.clear()

    assert rig.keeper.error == "the state cannot be read: the journal is not open"
    assert not job.done()
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)


# Start


async def test_a_crash_between_the_two_files_is_no_edit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the rename or behind it: both files are the agent's own."""
    async with started(tmp_path) as rig:
        await rig.put("a", b"1")
        await rig.keeper.export_now()
        await rig.put("b", b"2")
        with monkeypatch.context() as patch:
            patch.setattr(MemoryStore, "install", _refuse)
            await rig.keeper.export_now()
    async with started(tmp_path) as rig:
        assert rig.keeper.record.next_sha256 is not None, "it was killed before the rename"
        await rig.keeper.export_now()
        assert rig.keeper.problems == ()
        await rig.put("c", b"3")
        install, killed = MemoryStore.install, OSError(4, "Killed")

        def install_and_die(store: MemoryStore, now_s: float) -> None:
            install(store, now_s)
            raise killed

        with monkeypatch.context() as patch:
            patch.setattr(MemoryStore, "install", install_and_die)
            await rig.keeper.export_now()
        assert rig.content() == {"a": 1, "b": 2, "c": 3}, "it was killed behind the rename"
    async with started(tmp_path, is_running=True) as rig:
        await rig.until(lambda: rig.keeper.record.version == 3)

        assert rig.keeper.problems == ()


@pytest.mark.parametrize(
    ("content", "name"), [(b'{"a": 9}', "edited"), (b'{"a": 9', "corrupt"), (b"", "corrupt")]
)
async def test_a_file_that_is_not_ours_is_put_aside_and_written_anew(
    tmp_path: Path, content: bytes, name: str
) -> None:
    """At the start, without being asked: the database is the state, and nothing is lost."""
    async with started(tmp_path) as rig:
        await rig.put("a", b"1")
        await rig.keeper.export_now()
    rig.path.write_bytes(content)
    async with started(tmp_path, is_running=True) as rig:
        await rig.until(lambda: rig.path.exists() and rig.path.read_bytes() != content)
        await rig.until(lambda: bool(rig.keeper.problems))
        (problem,) = rig.keeper.problems

        assert rig.content() == {"a": 1}
        assert f"memory_store.{name}" in problem.file.replace("json.", "")
        assert (rig.runtime / problem.file).read_bytes() == content
        assert rig.log.find("state_file_put_aside")[0]["file"] == f"runtime/{problem.file}"
    async with started(tmp_path) as rig:
        assert rig.keeper.problems == (problem,), "told until the file is gone"


async def test_an_edit_while_the_agent_runs_is_kept_too(tmp_path: Path) -> None:
    """The next export would have written over it."""
    async with started(tmp_path) as rig:
        await rig.put("a", b"1")
        await rig.keeper.export_now()
        rig.path.write_bytes(b'{"a": 9}')
        await rig.put("b", b"2")
        await rig.keeper.export_now()
        (problem,) = rig.keeper.problems

        assert rig.content() == {"a": 1, "b": 2}
        assert (rig.runtime / problem.file).read_bytes() == b'{"a": 9}'


async def test_a_seed_is_told_of_and_kept_as_the_version_before(tmp_path: Path) -> None:
    """An operator sees in the log that the file was taken, and finds it as it was."""
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime" / "memory_store.json").write_text('{"b": 1,\n\n\n"a": {\n"x": 1}}')
    async with started(tmp_path, is_running=True) as rig:
        await rig.until(lambda: rig.keeper.record.version == 1)

        assert rig.previous.read_text().startswith('{"b": 1,\n\n\n')
        assert '\n  "a": { "x": 1},\n  "b": 1\n}\n' in rig.path.read_text()
        assert rig.log.find("state_imported") == [
            {
                "level": "info",
                "event": "state_imported",
                "file": "runtime/memory_store.json",
                "keys": 2,
                "exported_at": None,
            }
        ]


async def test_a_state_that_begins_empty_though_there_were_files_says_so(tmp_path: Path) -> None:
    """Never silently."""
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime" / "memory_store.json").write_text("{")
    async with started(tmp_path) as rig:
        assert len(rig.keeper.problems) == 1
        assert rig.log.find("state_begins_empty")[0]["level"] == "error"


async def test_a_damaged_database_is_replaced_by_the_file(tmp_path: Path) -> None:
    """The agent goes on with the state of the last export, and tells how old that is."""
    async with started(tmp_path) as rig:
        await rig.put("a", b"1")
        await rig.keeper.export_now()
        await rig.put("lost", b"2")
    for file in rig.runtime.glob("journal.db-*"):
        file.unlink()
    (rig.runtime / "journal.db").write_bytes(b"no database at all" * 1000)
    async with started(tmp_path) as rig:
        (problem,) = rig.keeper.problems

        assert rig.keeper.usage.keys == 1
        assert problem.file.startswith("journal.db.corrupt-")
        assert "the state is that of memory_store.json as of 2026-11-24T17:40:00" in problem.reason


async def test_a_folder_that_is_not_writable_stops_the_start_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rather than begin empty: the broken file could not be put aside."""
    rig = Rig(tmp_path, "none", 30.0)
    rig.path.write_text("{")

    def refuse(*_args: object) -> None:
        raise OSError(30, "Read-only file system", "/secret/path")

    monkeypatch.setattr(Path, "rename", refuse)
    report = await rig.storage.open()
    try:
        with pytest.raises(StorageError, match=r"cannot be put aside: Read-only file system$"):
            await rig.keeper.open(report)
    finally:
        await rig.storage.aclose()


async def test_nothing_is_exported_before_the_state_is_there(tmp_path: Path) -> None:
    """A stop in the middle of the start must not write an empty file over a full one."""
    rig = Rig(tmp_path, "process", 30.0)
    rig.path.write_text('{"a": 1}')

    assert not await rig.keeper.export_now()
    assert rig.path.read_text() == '{"a": 1}'


async def test_a_hundred_thousand_keys_are_exported_and_imported(tmp_path: Path) -> None:
    """A large state passes through in pieces, and comes back the same."""
    async with started(tmp_path) as rig:
        transaction = Transaction(
            writes=tuple(Write(f"k/{number:06}", b'"%d"' % number) for number in range(100_000))
        )
        await rig.storage.write(lambda database: rig.keeper.apply(database, transaction))
        await rig.keeper.export_now()
        sha256 = check_memory_file(rig.path, LIMITS)
    (rig.runtime / "journal.db").rename(tmp_path / "away")
    for file in rig.runtime.glob("journal.db-*"):
        file.unlink()
    async with started(tmp_path) as rig:
        assert rig.keeper.usage.keys == 100_000
        assert rig.keeper.record.sha256 == sha256
