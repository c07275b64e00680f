"""Snapshots of the agent while it serves: one at a time, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kagent_sdk.config.models import AgentConfig
from kagent_sdk.errors import SnapshotError, StorageError
from kagent_sdk.host.logs.pump import LogPump
from kagent_sdk.host.vault_keeper import VaultKeeper
from kagent_sdk.storage.thread import Storage

if TYPE_CHECKING:
    from kagent_sdk.snapshots.creation import Made

CANCEL_S = 2.0
"""Between two chunks a snapshot looks whether it is still wanted; a disk or network may take longer
than this, and then the thread ends with the process."""


class SnapshotBusyError(SnapshotError):
    """One is being made."""


class SnapshotUnavailableError(SnapshotError):
    """None can be made yet, or any more: the agent starts or stops."""


class _AbandonedError(SnapshotError):
    """The agent stops."""


@dataclass(frozen=True, slots=True)
class SnapshotOutcome:
    """What became of a snapshot.

    Attributes:
        made: the snapshot; None when it failed.
        at: when it was over, in seconds since the epoch.
        took_s: from the moment that it was asked for.
        reason: why it failed, as one sentence without a path or a secret.
        is_abandoned: it was given up, for the agent stops.
    """

    made: Made | None
    at: float
    took_s: float
    reason: str = ""
    is_abandoned: bool = False


class Snapshots:
    """Makes snapshots.

    Args:
        storage: the agent's database.
        directory: the agent's folder.
        config: returns the configuration in force.
        keeper: knows the secrets that no snapshot may hold.
        pump: told of every outcome.

    Attributes:
        last: the last one that was made.
        last_error: why the last one was not made; None when it was.
    """

    def __init__(
        self,
        storage: Storage,
        directory: Path,
        *,
        config: Callable[[], AgentConfig],
        keeper: VaultKeeper,
        pump: LogPump,
    ) -> None:
        self._storage = storage
        self._directory = directory
        self._config = config
        self._keeper = keeper
        self._pump = pump
        self._loop = asyncio.get_running_loop()
        self._running: asyncio.Future[SnapshotOutcome] | None = None
        self._is_abandoned = threading.Event()
        self.last: SnapshotOutcome | None = None
        self.last_error: str | None = None

    @property
    def is_running(self) -> bool:
        """Whether one is being made."""
        return self._running is not None

    def ask(self, *, cache: bool | None) -> asyncio.Future[SnapshotOutcome]:
        """Begin a snapshot; the future is done when it has ended, and never fails.

        Shield it when you wait for it: the snapshot is made whoever waits.

        Args:
            cache: whether the files of ``runtime/cache`` go in; None: as configured.

        Raises:
            SnapshotBusyError: one is being made.
            SnapshotUnavailableError: the journal is not open.
        """
        if self._is_abandoned.is_set() or not self._storage.is_open:
            raise SnapshotUnavailableError("the journal is not open")
        if self._running is not None:
            raise SnapshotBusyError("a snapshot is being made")
        self._running = running = self._loop.create_future()
        began_s = self._loop.time()
        threading.Thread(
            target=self._work,
            args=(self._config(), cache, running, began_s),
            name="snapshot",
            daemon=True,
        ).start()
        return running

    def abandon(self) -> None:
        """Give up what is being made, and take nothing more: the agent stops."""
        self._is_abandoned.set()

    async def aclose(self) -> None:
        """Give up, and wait a moment for the thread to take its files away."""
        self.abandon()
        if self._running is not None:
            await asyncio.wait([self._running], timeout=CANCEL_S)

    # In the thread

    def _work(
        self,
        config: AgentConfig,
        cache: bool | None,  # noqa: FBT001 - the arguments of a thread
        running: asyncio.Future[SnapshotOutcome],
        began_s: float,
    ) -> None:
        made: Made | None = None
        error: Exception | None = None
        try:
            made = self._make(
                config, with_cache=config.snapshots.include_cache if cache is None else cache
            )
        except Exception as exc:  # noqa: BLE001 - whoever waits must be told whatever happens
            error = exc
        try:
            self._loop.call_soon_threadsafe(self._finish, running, made, error, began_s)
        except RuntimeError:
            return  # the loop is closed: nobody is left to be told

    def _make(self, config: AgentConfig, *, with_cache: bool) -> Made:
        from kagent_sdk.host.link_checks import nats_access  # noqa: PLC0415 - rare
        from kagent_sdk.snapshots.creation import Order, create  # noqa: PLC0415
        from kagent_sdk.snapshots.destination import open_destination  # noqa: PLC0415

        order = Order(
            config.name or "agent",
            config.version,
            self._directory / "runtime" / "cache" if with_cache else None,
            config.snapshots.max_bytes,
            config.snapshots.keep,
        )
        return create(
            self._storage.view,
            order,
            open_destination(
                config.snapshots.destination,
                self._directory,
                nats_access(config, self._directory, self._keeper.link_token),
            ),
            finds_secret=self._finds_secret,
            now_s=time.time(),
            check=self._check,
        )

    def _finds_secret(self, text: bytes) -> bool:
        return self._keeper.redactor.finds_in(text)  # the present one: secrets may rotate meanwhile

    def _check(self) -> None:
        if self._is_abandoned.is_set():
            raise _AbandonedError("the agent stops")

    # In the loop

    def _finish(
        self,
        running: asyncio.Future[SnapshotOutcome],
        made: Made | None,
        error: Exception | None,
        began_s: float,
    ) -> None:
        self._running = None
        reason = "" if error is None else self._explain(error)
        is_abandoned = isinstance(error, _AbandonedError)
        outcome = SnapshotOutcome(
            made, time.time(), self._loop.time() - began_s, reason, is_abandoned
        )
        if made is not None:
            self.last, self.last_error = outcome, None
            self._log_made(made, outcome.took_s)
        elif not is_abandoned:
            self.last_error = reason
        if not running.done():
            running.set_result(outcome)

    def _log_made(self, made: Made, took_s: float) -> None:
        self._pump.log(
            "info",
            "snapshot_made",
            name=made.name,
            size_bytes=made.size_bytes,
            state_keys=made.manifest.state_keys,
            open_tasks=made.manifest.open_tasks,
            cache_files=len(made.manifest.members) - 2,
            cache_skipped=made.skipped,
            took_s=round(took_s, 3),
        )

    def _explain(self, error: Exception) -> str:
        """Put an error on record, and return what may be told of it over HTTP."""
        if isinstance(error, SnapshotError | StorageError):
            # What a store says may hold an address with a signature: it stays in the log.
            cause = error.__cause__
            detail = {} if cause is None else {"detail": f"{type(cause).__name__}: {cause}"}
            self._pump.log("warning", "snapshot_failed", reason=str(error), **detail)
            return str(error)
        self._pump.log_exception("snapshot_failed", error)
        return "an internal error; the agent's log says more"
