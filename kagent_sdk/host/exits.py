"""Keeps record of how host and worker end, so that the next host can tell; in a thread of its own.

While the host runs, ``running.json`` holds what can be said of it if it is killed. When it ends by
itself it writes ``last_exit.json`` and removes the note. See `kagent_sdk.host.postmortem` for what
the next host makes of the two. What is slow here, a disk or an import, delays nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kagent_sdk.host.logs.output import TAIL_BYTES
from kagent_sdk.host.logs.pump import LogPump

if TYPE_CHECKING:
    from kagent_sdk.host.exit_record import ExitRecord
    from kagent_sdk.host.place import Place, Remains
    from kagent_sdk.host.task import Task
    from kagent_sdk.protocol.last_exit import HostExit, WorkerExit

START_AFTER_S = 0.2
"""The imports of the record take their turns on the interpreter: the first probe and the workers'
READY come first. A host that is killed sooner than this after its port was open leaves no note."""

INTERVAL_S = 1.0
TOUCH_EVERY = 10
"""Turns between two touches of a note that stays as it is: a host that is killed is then known to
have run until so many seconds before."""


class Exits:
    """The record of one host.

    Args:
        directory: the agent's folder.
        pump: told how the host before ended; its redactor is used.
        places: of the pool; looked at from the thread.
        started_at: seconds since the epoch.

    Attributes:
        host: how the host before this one ended; None until it is read, or if there was none.
        worker: how the last worker ended.
    """

    def __init__(
        self,
        directory: Path,
        *,
        pump: LogPump,
        places: Callable[[], Sequence[Place]],
        started_at: float,
    ) -> None:
        self._directory = directory
        self._pump = pump
        self._places = places
        self._started_at = started_at
        self._thread = threading.Thread(target=self._run, name="kagent-exits", daemon=True)
        self._is_started = False
        self._is_read = threading.Event()
        self._wake = threading.Event()
        self._record: ExitRecord | None = None
        self._building = threading.Lock()
        self._error: BaseException | None = None
        self._why = ""
        self._left: Sequence[Task] = ()
        self._is_ending = False
        self.host: HostExit | None = None
        self.worker: WorkerExit | None = None

    def start(self) -> None:
        """Start the thread; it reads what the host before left, then notes what is running."""
        if self._is_started:
            return
        self._is_started = True
        try:
            self._thread.start()
        except RuntimeError as exc:  # no more threads for this user or cgroup (pthread_create(3))
            self._pump.log("error", "exits_not_recorded", error=str(exc))
            self._is_read.set()

    def wait_read(self, timeout_s: float) -> None:
        """Wait until it is known how the host before ended, or for that long."""
        self._is_read.wait(timeout_s)

    def examine(self, remains: Remains) -> WorkerExit:
        """Say how a worker ended, and put it on record; blocks for a moment."""
        worker = self._open().examine(remains, self._pump.redactor, tail_bytes=TAIL_BYTES)
        self.worker = worker
        self._wake.set()
        return worker

    def keep_tasks(self) -> None:
        """Remember the tasks that still run, if any; called before they get their ends."""
        self._left = running_tasks(self._places()) or self._left

    def note_stop(self, why: str) -> None:
        """Note who told the host to stop: it may be killed before it has stopped."""
        self._why = why
        self._wake.set()

    def end(self, error: BaseException | None, *, within_s: float) -> None:
        """Put the end of this host on record, in that time or not at all.

        Args:
            error: what ends it; None for a clean stop.
            within_s: seconds.
        """
        self._error = error
        self._is_ending = True
        self._wake.set()
        self.start()
        if self._thread.is_alive():
            self._thread.join(within_s)

    # The thread

    def _run(self) -> None:
        try:
            self._wake.wait(START_AFTER_S)
            self._begin()
            self._keep()
        except Exception as exc:  # noqa: BLE001 - the end of a thread that nobody waits for
            self._pump.log_exception("exits_not_recorded", exc)
        finally:
            self._is_read.set()

    def _open(self) -> ExitRecord:
        # Imported here: the models cost what a start must not wait for.
        from kagent_sdk.host.exit_record import ExitRecord  # noqa: PLC0415

        with self._building:
            if self._record is None:
                self._record = ExitRecord(self._directory, self._pump, started_at=self._started_at)
            return self._record

    def _begin(self) -> None:
        record = self._open()
        before = record.read_before()
        self.host = before.host
        self.worker = self.worker or before.worker
        self._is_read.set()

    def _keep(self) -> None:
        from kagent_sdk.protocol.last_exit import LastExit  # noqa: PLC0415 - as in `_open`

        record = self._open()
        turn = 0
        while not self._is_ending:
            # Worker and tasks of one moment: the loop goes on meanwhile.
            places = self._places()
            pids = [pid for pid in (place.pid for place in places) if pid is not None]
            record.keep(
                LastExit(host=self.host, worker=self.worker),
                running_tasks(places),
                pids,
                stopping=self._why,
            )
            if turn % TOUCH_EVERY == TOUCH_EVERY - 1:
                record.touch()
            turn += 1
            self._wake.wait(INTERVAL_S)
            if not self._is_ending:
                self._wake.clear()
        record.end(self._error, self._why, self._left, self.worker)


def running_tasks(places: Sequence[Place]) -> list[Task]:
    """Return the tasks that workers hold and that have not ended; for any thread."""
    # One call each, without a line of Python in between: the loop cannot change them meanwhile.
    connections = [place.connection for place in places]
    held = [tuple(connection.calls.values()) for connection in connections if connection]
    return [task for tasks in held for task in tasks if not task.is_ended]
