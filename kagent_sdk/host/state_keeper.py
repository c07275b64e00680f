"""Keeps the state: takes it up at the start, writes it to its file, lets keys expire, tells of it."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from kagent_sdk.config.models import AgentConfig
from kagent_sdk.errors import StorageError
from kagent_sdk.host.state_schedule import ExportSchedule
from kagent_sdk.protocol.state import Transaction
from kagent_sdk.state.file_record import (
    MAX_PROBLEMS,
    ExportRecord,
    Problem,
    write_export,
    write_problems,
)
from kagent_sdk.state.memory_file import FileLimits
from kagent_sdk.state.memory_store import NAME, Draft, ExportAbandonedError, MemoryStore
from kagent_sdk.state.recovery import DATABASE, NOTHING, Recovery, recover
from kagent_sdk.state.store import SWEEP_KEYS, Usage, apply, expire, next_expiry, usage
from kagent_sdk.storage.thread import OpenReport, Storage

REFRESH_S = 0.25
"""The shortest time between two looks at the state's totals, however often it changes."""

SWEEP_PAUSE_S = 1.0
"""The shortest time between two sweeps of expired keys."""

BATCH_PAUSE_S = 0.01
"""Between two batches of one sweep: others want the database too."""

TROUBLE_PAUSE_S = 5.0
ABANDON_S = 0.5
"""How long a cancelled export may take to stop: a disk may stand still."""


class Log(Protocol):
    """Takes the host's own records, as `kagent_sdk.host.logs.pump.LogPump` does."""

    def log(self, level: str, event: str, **values: object) -> None:
        """Write one record."""
        ...


class StateKeeper:
    """Owns the file of the state, and all that is known of the state as a whole.

    Args:
        storage: the database; opened by its owner.
        directory: the agent's folder.
        config: the agent's name, and ``state``.
        pump: told of what was imported, put aside, or could not be written.
        is_idle: whether no task runs or waits.
        clock: seconds since the epoch.

    Attributes:
        storage: for those who read and write the state.
        quota_bytes: what keys and values may take.
        usage: the state's totals, a moment ago.
        record: of the last export.
        error: why the last export did not succeed, if so.
        problems: files that were put aside and are still there, the newest last.
    """

    def __init__(
        self,
        storage: Storage,
        directory: Path,
        config: AgentConfig,
        *,
        pump: Log,
        is_idle: Callable[[], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.storage = storage
        self.quota_bytes = config.state.quota_bytes
        self.usage = Usage()
        self.record = ExportRecord()
        self.error: str | None = None
        self.problems: tuple[Problem, ...] = ()
        limits = FileLimits(config.name or "agent", self.quota_bytes)
        self._store = MemoryStore(directory / "runtime", limits)
        self._pump = pump
        self._is_idle = is_idle
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._schedule = ExportSchedule(config.state.export_s)
        self._opened = asyncio.Event()
        self._changed = asyncio.Event()
        self._exporting = asyncio.Lock()
        self._next_expiry_s: float | None = None
        self._swept_at_s = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the state is there: before, nobody may look at it."""
        return self._opened.is_set()

    async def wait_open(self) -> None:
        """Return when the state is there."""
        await self._opened.wait()

    async def open(self, report: OpenReport) -> None:
        """Take the state up, from the database or, if that is new, from a file beside it.

        Args:
            report: what opening the storage has found.

        Raises:
            StorageError: it cannot be.
        """

        def begin(connection: sqlite3.Connection) -> Recovery:
            return recover(
                connection,
                self._store,
                now_s=self._clock(),
                quarantined_database=report.quarantined,
            )

        try:
            recovery = await self.storage.write(begin)
        except OSError as exc:
            raise StorageError(
                f"a damaged file in runtime/ cannot be put aside: {exc.strerror}"
            ) from exc
        self.usage, self.record = recovery.usage, recovery.record
        self.problems = recovery.problems
        self._tell_of(recovery)
        self._opened.set()

    def apply(self, connection: sqlite3.Connection, transaction: Transaction) -> int:
        """Commit a transaction, in the thread of the storage; see `kagent_sdk.state.store.apply`.

        Returns:
            The version of the state.

        Raises:
            StateConflictError: something that was read is not so any more. Nothing was written.
            StateQuotaError: the state would grow over the quota. Nothing was written.
        """
        version = apply(connection, transaction, now_s=self._clock(), quota_bytes=self.quota_bytes)
        if transaction.writes and not self._changed.is_set():
            # What looks then reads behind this transaction, whether or not it is on disk by now.
            with suppress(RuntimeError):  # the loop is closed: nobody looks any more
                self._loop.call_soon_threadsafe(self._changed.set)
        return version

    async def run(self) -> None:
        """Export and sweep until cancelled."""
        await self._opened.wait()
        await self._export_shielded()  # what lies there may not be ours
        while True:
            pause_s = REFRESH_S
            try:
                await self._refresh()
                await self._sweep()
            except StorageError:
                pause_s = TROUBLE_PAUSE_S  # whoever owns the storage tells of it
            if self._schedule.due_at_s(self._loop.time(), is_idle=self._is_idle()) <= (
                self._loop.time()
            ):
                await self._export_shielded()
            await asyncio.sleep(pause_s)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._wake_at_s()):
                    await self._changed.wait()

    async def export_now(self) -> bool:
        """Write the file if it is not as the state is; return whether it is now.

        Never raises for a file that cannot be written: `error` says why. When cancelled it stops
        soon, and the file is as it was.
        """
        if not self.is_open:
            return False
        await self._export_shielded()
        return self.error is None

    async def _refresh(self) -> None:
        self._changed.clear()
        present, self._next_expiry_s = await self.storage.read(
            lambda connection: (usage(connection), next_expiry(connection))
        )
        if present.version != self.usage.version:
            self._schedule = self._schedule.change(self._loop.time())
        self.usage = present

    async def _sweep(self) -> None:
        if self._next_expiry_s is None or self._next_expiry_s > self._clock():
            return
        now_s = self._clock()
        swept = SWEEP_KEYS
        while swept == SWEEP_KEYS:
            swept = await self.storage.write(lambda connection: expire(connection, now_s))
            await asyncio.sleep(BATCH_PAUSE_S)
        self._swept_at_s = self._loop.time()
        await self._refresh()

    def _wake_at_s(self) -> float:
        now_s = self._loop.time()
        due_s = self._schedule.due_at_s(now_s, is_idle=self._is_idle())
        if self._next_expiry_s is not None:
            expiry_s = now_s + self._next_expiry_s - self._clock()
            due_s = min(due_s, max(expiry_s, self._swept_at_s + SWEEP_PAUSE_S))
        return min(due_s, now_s + self._schedule.export_s)

    # The file

    async def _export_shielded(self) -> None:
        """Export; when cancelled, stop it and see that it has come to an end."""
        stop = threading.Event()
        job = asyncio.create_task(self._export(stop), name="state_export")
        try:
            await asyncio.shield(job)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([job], timeout=ABANDON_S)
            raise

    async def _export(self, stop: threading.Event) -> None:
        async with self._exporting:
            began_s = self._loop.time()
            try:
                await self._write_file(stop)
            except ExportAbandonedError:
                return
            except (OSError, sqlite3.Error, StorageError) as exc:
                self._schedule = self._schedule.fail(self._loop.time())
                self._note_error(_describe(exc))
            else:
                self._schedule = self._schedule.succeed(began_s, self._loop.time())
                self._note_error(None)

    async def _write_file(self, stop: threading.Event) -> None:
        await self._settle()
        present = await self.storage.read(usage)
        if await asyncio.to_thread(self._is_current, present):
            return
        draft = await asyncio.to_thread(self._draft, stop)
        before = self.record
        # A crash between the two leaves either file, and both are known to be ours.
        await self._remember(replace(before, next_sha256=draft.sha256))
        await self._settle()
        await asyncio.to_thread(self._store.install, self._clock())
        await self._remember(ExportRecord(draft.version, draft.sha256, None, draft.at_s))

    def _is_current(self, present: Usage) -> bool:
        if present.version == 0 and not self._store.is_present():
            return True  # an agent without a state needs no file
        return present.version == self.record.version and self._store.is_untouched()

    def _draft(self, stop: threading.Event) -> Draft:
        with self.storage.view() as connection:
            return self._store.write_draft(connection, self._clock(), is_abandoned=stop.is_set)

    async def _settle(self) -> None:
        problem = await asyncio.to_thread(self._store.settle, self.record.known, self._clock())
        if problem is None:
            return
        self.problems = (*self.problems, problem)[-MAX_PROBLEMS:]
        self._tell_problem(problem)
        problems = self.problems
        await self.storage.write(lambda connection: write_problems(connection, problems))

    async def _remember(self, record: ExportRecord) -> None:
        await self.storage.write(lambda connection: write_export(connection, record))
        self.record = record

    # What is told

    def _tell_of(self, recovery: Recovery) -> None:
        for problem in recovery.problems[len(recovery.problems) - recovery.found :]:
            self._tell_problem(problem)
        if recovery.origin not in (DATABASE, NOTHING):
            self._pump.log(
                "info",
                "state_imported",
                file=f"runtime/{recovery.origin}",
                keys=recovery.usage.keys,
                exported_at=recovery.exported_at,
            )
        elif recovery.origin == NOTHING and recovery.found:
            self._pump.log("error", "state_begins_empty", why="no file could be imported")

    def _tell_problem(self, problem: Problem) -> None:
        self._pump.log(
            "error", "state_file_put_aside", file=f"runtime/{problem.file}", reason=problem.reason
        )

    def _note_error(self, error: str | None) -> None:
        if error == self.error:
            return
        self.error = error
        if error is None:
            self._pump.log("info", "state_export_recovered")
        else:
            self._pump.log("warning", "state_export_failed", error=error)


def _describe(error: OSError | sqlite3.Error | StorageError) -> str:
    """Say what is wrong without the path that an `OSError` shows."""
    if isinstance(error, OSError):
        return f"{NAME} cannot be written: {error.strerror}"
    return f"the state cannot be read: {error}"
