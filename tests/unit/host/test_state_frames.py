"""Frames about the state, from workers that may say anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kagent_sdk.config.models import AgentConfig, StateConfig
from kagent_sdk.errors import ProtocolError
from kagent_sdk.host import state_frames
from kagent_sdk.host.state_frames import StateFrames
from kagent_sdk.host.state_keeper import StateKeeper
from kagent_sdk.host.worker_connection import WorkerConnection
from kagent_sdk.protocol.frames import Kind, encode
from kagent_sdk.protocol.state import (
    Answer,
    Scan,
    Transaction,
    Write,
    decode_answer,
    encode_commit,
    encode_get,
    encode_items,
    encode_transaction,
)
from kagent_sdk.storage.thread import Storage
from tests.unit.host.test_reception import Wire

LARGE = b'"' + b"x" * 40_000 + b'"'


class Rig:
    """A worker's connection, and the host's side of the state behind it."""

    def __init__(self, folder: Path, quota_bytes: int) -> None:
        self.storage = Storage(None, "none")
        config = AgentConfig(name="hello", state=StateConfig(quota_bytes=quota_bytes))
        self.keeper = StateKeeper(
            self.storage,
            folder,
            config,
            pump=cast("Any", SimpleNamespace(log=lambda *_args, **_values: None)),
            is_idle=lambda: True,
        )
        self.frames = StateFrames(self.keeper)
        self.error: ProtocolError | None = None
        self.lost = asyncio.Event()
        self.connection = WorkerConnection(
            limit_bytes=1 << 23,
            places=1,
            handlers=self.frames.handlers(),
            on_room=lambda: None,
            on_lost=self._note_lost,
        )
        self.wire = PausingWire(self.connection)
        self.connection.connection_made(self.wire)

    def _note_lost(self, _connection: WorkerConnection, error: ProtocolError | None) -> None:
        self.error = error
        self.lost.set()

    async def open(self) -> None:
        """Open the state."""
        await self.keeper.open(await self.storage.open())

    def say(self, *frames: tuple[int, int, bytes]) -> None:
        """Let the worker send frames, all in one piece."""
        data = b"".join(encode(*frame) for frame in frames)
        for start in range(0, len(data), 65536):
            part = data[start : start + 65536]
            self.connection.get_buffer(0)[: len(part)] = part
            self.connection.buffer_updated(len(part))

    async def answers(self, count: int) -> dict[int, Answer]:
        """Wait for so many answers, by the number of what was asked."""
        found: dict[int, Answer] = {}
        async with asyncio.timeout(20):
            while len(found) < count:
                await self.wire.written_soon.wait()
                self.wire.written_soon.clear()
                for kind, number, payload in await self.wire.frames():
                    assert kind == Kind.STATE_ANSWER
                    found[number] = decode_answer(payload)
        return found

    async def ask(self, payload: bytes) -> Answer:
        """Ask one thing."""
        self.say((Kind.STATE, 1, payload))
        return (await self.answers(1))[1]


class PausingWire(Wire):
    """A transport that tells of what is written, and of reading that was paused."""

    def __init__(self, connection: WorkerConnection) -> None:
        super().__init__()
        self.connection = connection
        self.written_soon = asyncio.Event()
        self.pauses = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep the bytes, and say so."""
        super().write(data)
        self.written_soon.set()

    def pause_reading(self) -> None:
        """Count it."""
        self.pauses += 1

    def abort(self) -> None:
        """Lose the connection, as a socket does."""
        asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)


@asynccontextmanager
async def rigged(folder: Path, *, quota_bytes: int = 1 << 20) -> AsyncIterator[Rig]:
    """Open the state for one worker."""
    rig = Rig(folder, quota_bytes)
    await rig.open()
    try:
        yield rig
    finally:
        await rig.storage.aclose()


def write(key: str, value: bytes | None, ttl_s: float | None = None) -> bytes:
    """Return the frame that writes one key."""
    return encode_commit(Transaction(writes=(Write(key, value, ttl_s),)))


async def test_a_worker_writes_reads_and_lists(tmp_path: Path) -> None:
    """The whole of `agent.state`, as the wire has it."""
    async with rigged(tmp_path) as rig:
        committed = await rig.ask(write("a/1", b'{"n": 1}'))
        got = await rig.ask(encode_get("a/1"))
        missed = await rig.ask(encode_get("a/2"))
        listed = await rig.ask(encode_items("a/", None, 10))

    assert committed == Answer(None, 1, None, 11)
    assert got.page is not None
    assert [(one.key, one.version, one.value) for one in got.page.items] == [
        ("a/1", 1, b'{"n": 1}')
    ]
    assert missed.page is not None
    assert missed.page.items == ()
    assert listed.page == got.page


async def test_what_was_not_done_is_told_with_its_reason(tmp_path: Path) -> None:
    """The author's code gets a typed error, with what it needs to go on."""
    async with rigged(tmp_path, quota_bytes=1024) as rig:
        await rig.ask(write("a", b"1"))
        conflict = await rig.ask(encode_commit(Transaction({"a": 7})))
        listed = await rig.ask(encode_commit(Transaction(scans=(Scan("", 2, 1),))))
        too_large = await rig.ask(write("b", b'"' + b"x" * 1100 + b'"'))

    assert conflict.error is not None
    assert (conflict.error["code"], conflict.error["keys"]) == ("state_conflict", ["a"])
    assert listed.error is not None
    assert (listed.error["code"], listed.error["keys"]) == ("state_conflict", [])
    assert too_large.error is not None
    assert too_large.error["code"] == "state_quota_exceeded"
    assert too_large.error["used_bytes"] == 2 + 1103
    assert too_large.used_bytes == 2


async def test_requests_before_the_state_is_there_wait_for_it(tmp_path: Path) -> None:
    """A worker is up before the database: `on_startup` may read the state all the same."""
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime" / "memory_store.json").write_text('{"a": 1}')
    rig = Rig(tmp_path, 1 << 20)
    rig.say((Kind.STATE, 1, write("a", b"2")), (Kind.STATE, 2, encode_get("a")))
    await rig.open()
    try:
        answers = await rig.answers(2)
    finally:
        await rig.storage.aclose()

    assert answers[1].version == 2
    assert answers[2].page is not None
    assert answers[2].page.items[0].value == b"2", "in their order"


async def test_a_large_request_keeps_its_place(tmp_path: Path) -> None:
    """It is looked at in a thread, and what comes behind it comes behind it."""
    async with rigged(tmp_path) as rig:
        rig.say((Kind.STATE, 1, write("a", LARGE)), (Kind.STATE, 2, encode_get("a")))
        answers = await rig.answers(2)

        assert rig.wire.pauses
    assert answers[2].page is not None
    assert answers[2].page.items[0].value == LARGE


async def test_a_worker_that_asks_faster_than_it_is_answered_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or one that loops over `get` would fill the host's memory with answers."""
    monkeypatch.setattr(state_frames, "MAX_OPEN_REQUESTS", 10)
    most = 0
    async with rigged(tmp_path) as rig:
        look = rig.frames._look

        def count(*args: Any) -> bytes:
            nonlocal most
            (desk,) = rig.frames._desks.values()
            most = max(most, desk.count)
            return look(*args)

        monkeypatch.setattr(rig.frames, "_look", count)
        rig.say(*((Kind.STATE, number, encode_get("a")) for number in range(500)))
        answers = await rig.answers(500)

    assert len(answers) == 500
    assert 0 < most <= 10


async def test_a_database_that_does_not_answer_is_an_error_and_no_silence(tmp_path: Path) -> None:
    """The author's code is told, instead of waiting for ever."""
    async with rigged(tmp_path) as rig:
        await rig.storage.aclose()
        answer = await rig.ask(encode_get("a"))

    assert answer.error is not None
    assert answer.error["code"] == "state_unavailable"


async def test_answers_to_a_worker_that_is_gone_go_nowhere(tmp_path: Path) -> None:
    """A crash in the middle of a request is nobody else's trouble."""
    async with rigged(tmp_path) as rig:
        rig.say((Kind.STATE, 1, write("a", b"1")))
        rig.connection.connection_lost(None)
        rig.frames.forget(rig.connection)
        await rig.keeper.export_now()

        assert rig.keeper.usage.keys in (0, 1)
        assert rig.wire.written == b""


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}\n",
        b'{"op":"get","key":"$a"}\n',
        b'{"op":"items","prefix":"","after":null,"limit":0}\n',
        write("a", b"{"),
        write("a", b"1 2"),
        write("a", b"NaN"),
        write("a", b"["),
        write("a", b'"' + b"x" * 40_000),
        write("a", b"[" * 40_000 + b"]" * 40_000),
    ],
)
async def test_nonsense_ends_the_worker(tmp_path: Path, payload: bytes) -> None:
    """What is not JSON must never reach the database, nor anyone who reads the file."""
    async with rigged(tmp_path) as rig:
        rig.say((Kind.STATE, 1, payload), (Kind.STATE, 2, write("b", b"1")))
        async with asyncio.timeout(20):
            await rig.lost.wait()
        await rig.keeper.export_now()

        assert isinstance(rig.error, ProtocolError)
        assert rig.keeper.usage.keys == 0, "nothing that came behind it was done"


# What a task leaves for its end


def hold_task(rig: Rig, *, is_ended: bool = False) -> Any:
    """Let the worker hold a task."""
    task = SimpleNamespace(is_ended=is_ended, transaction=None)
    rig.connection.calls[5] = cast("Any", task)
    return task


@pytest.mark.parametrize("value", [b"1", LARGE])
async def test_a_commit_waits_for_the_end_of_its_task(tmp_path: Path, value: bytes) -> None:
    """It is written with the result, or not at all."""
    transaction = Transaction({"a": 0}, writes=(Write("a", value),))
    async with rigged(tmp_path) as rig:
        task = hold_task(rig)
        rig.say((Kind.COMMIT, 5, encode_transaction(transaction)), (Kind.STATE, 1, encode_get("a")))
        answer = (await rig.answers(1))[1]

    assert task.transaction == transaction
    assert answer.page is not None
    assert answer.page.items == ()


@pytest.mark.parametrize("number", [5, 6])
async def test_a_commit_for_a_task_that_is_over_is_dropped(tmp_path: Path, number: int) -> None:
    """It was cancelled meanwhile, or its time was up: that is no mistake of the worker's."""
    async with rigged(tmp_path) as rig:
        task = hold_task(rig, is_ended=True)
        rig.say((Kind.COMMIT, number, encode_transaction(Transaction({"a": 0}))))
        await rig.ask(encode_get("a"))

        assert rig.error is None
    assert task.transaction is None


async def test_a_task_that_ends_while_its_commit_is_looked_at_drops_it(tmp_path: Path) -> None:
    """The look takes a thread, and the deadline does not wait."""
    async with rigged(tmp_path) as rig:
        task = hold_task(rig)
        rig.say((Kind.COMMIT, 5, encode_transaction(Transaction(writes=(Write("a", LARGE),)))))
        task.is_ended = True
        await rig.ask(encode_get("a"))

    assert task.transaction is None


@pytest.mark.parametrize("value", [b"1", LARGE])
async def test_a_second_commit_ends_the_worker(tmp_path: Path, value: bytes) -> None:
    """An attempt has one transaction; which of two would count?"""
    payload = encode_transaction(Transaction(writes=(Write("a", value),)))
    async with rigged(tmp_path) as rig:
        hold_task(rig)
        rig.say((Kind.COMMIT, 5, payload), (Kind.COMMIT, 5, payload))
        async with asyncio.timeout(20):
            await rig.lost.wait()

    assert "second COMMIT" in str(rig.error)


async def test_a_commit_that_is_not_json_ends_the_worker(tmp_path: Path) -> None:
    """And the result behind it counts for nothing."""
    payload = encode_transaction(Transaction(writes=(Write("a", b"{" + b" " * 40_000),)))
    async with rigged(tmp_path) as rig:
        task = hold_task(rig)
        rig.say((Kind.COMMIT, 5, payload))
        async with asyncio.timeout(20):
            await rig.lost.wait()

    assert task.transaction is None
    assert "not JSON" in str(rig.error)
