"""What happens to groups of operations when the database takes them, and when it does not."""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from kagent_sdk.errors import StorageError
from kagent_sdk.storage.database import log_bytes, suspect_mark
from kagent_sdk.storage.faults import is_damage
from kagent_sdk.storage.groups import GroupError, Work, roll_back, transact

MAX_GROUP = 256
"""A transaction takes no more once it has so many: bounds how long the first waits for the last.

All operations of one turn of the loop stay together."""

RETRY_FIRST_S = 0.1
RETRY_MAX_S = 5.0


LOG_ALARM_BYTES = 64 * 1024 * 1024
"""A write-ahead log this large is not being folded into the file: because someone looks at an old
moment, which is bounded, or because the disk fails where commits do not wait for it."""

LOOK_EVERY_GROUPS = 100


class Writer:
    """Runs groups of operations, and keeps what must be written until it is.

    Args:
        connection: in autocommit mode, used by the calling thread alone.
        path: of the file; None in memory.
        tell: told of operations that are done, one way or the other.
        on_trouble: told why the database takes no writes, and with None when it does again.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path | None,
        *,
        tell: Callable[[Sequence[Work]], None],
        on_trouble: Callable[[str | None], None],
        clock: Callable[[], float],
    ) -> None:
        self._connection = connection
        self._path = path
        self._tell = tell
        self._on_trouble = on_trouble
        self._clock = clock
        self._stuck: deque[Work] = deque()
        self._trouble: str | None = None
        self._is_damaged = False
        self._retry_s = RETRY_FIRST_S
        self._retry_at = 0.0
        self._groups = 0

    @property
    def patience_s(self) -> float | None:
        """How long to wait for work before `take` is called without; None: for ever."""
        if self._trouble is None or (self._is_damaged and not self._stuck):
            return None
        return max(self._retry_at - time.monotonic(), 0.0)

    def take(self, group: Sequence[Work], *, is_last: bool) -> None:
        """Run a group, then try what is stuck if it is time for that.

        Args:
            group: may be empty.
            is_last: there will be no more: what is stuck is tried now or never.
        """
        if self._stuck:
            # In their order: nothing that must be written may overtake what is stuck.
            self._stuck.extend(work for work in group if work.must)
            group = [work for work in group if not work.must]
        if group:
            self._run(group)
        patience_s = self.patience_s
        if patience_s is not None and (patience_s == 0.0 or is_last):
            self._recover()

    def give_up(self) -> None:
        """Refuse what must be written and could not be."""
        given_up = list(self._stuck)
        self._stuck.clear()
        for work in given_up:
            work.outcome = None
            work.error = StorageError("the journal was closed before it could be written")
        if given_up:
            self._tell(given_up)

    def _run(self, group: Sequence[Work]) -> None:
        try:
            transact(self._connection, group)
        except GroupError as error:
            if error.cause is not None:
                self._note_fault(error.cause)
            if len(group) == 1:
                self._put_off_or_refuse(group[0], error)
            elif error.is_shared:
                self._fail_together(group, error)
            else:
                self._run_each(group)
            return
        self._tell(group)
        self._groups += 1
        if self._groups % LOOK_EVERY_GROUPS == 0 and self._trouble is None:
            self._folds_log()
        if self._trouble is not None and not all(work.is_read for work in group):
            self._retry_at = 0.0  # it takes writes again: look whether that is true of all

    def _run_each(self, group: Sequence[Work]) -> None:
        for work in group:
            if work.must and self._stuck:
                self._stuck.append(work)
            else:
                self._run([work])

    def _fail_together(self, group: Sequence[Work], error: GroupError) -> None:
        """Fail what writes; what reads may still be answered."""
        for work in group:
            if not work.is_read:
                self._put_off_or_refuse(work, error)
        for work in group:
            if work.is_read:
                self._run([work])

    def _put_off_or_refuse(self, work: Work, error: GroupError) -> None:
        work.outcome = None
        if work.must:
            self._stuck.append(work)
            return
        work.error = StorageError(f"the journal did not take it: {error}")
        work.error.__cause__ = error.cause
        self._tell([work])

    def _note_fault(self, fault: sqlite3.Error) -> None:
        if is_damage(fault):
            self._is_damaged = True
            self._mark_suspect()
        if self._trouble is None:
            self._retry_s = RETRY_FIRST_S
            self._retry_at = time.monotonic() + self._retry_s
        trouble = f"the journal cannot be written or read: {fault}"
        if self._is_damaged:
            trouble += "; the next start checks it, and puts it aside if it is damaged"
        self._note_trouble(trouble)

    def _mark_suspect(self) -> None:
        if self._path is None:
            return
        try:
            suspect_mark(self._path).touch(mode=0o600)
        except OSError:
            return  # the disk may be what fails; the trouble is reported anyway

    def _recover(self) -> None:
        """Try what is stuck, or at least whether anything can be written."""
        while self._stuck:
            group = list(islice(self._stuck, MAX_GROUP))
            if not self._try(group):
                group = group[:1]
                if not self._try(group):
                    break
            for _ in group:
                self._stuck.popleft()
            self._tell(group)
        if self._stuck or not self._can_write():
            self._retry_s = min(self._retry_s * 2, RETRY_MAX_S)
            self._retry_at = time.monotonic() + self._retry_s
        elif not self._is_damaged:
            self._note_trouble(None)

    def _try(self, group: Sequence[Work]) -> bool:
        try:
            transact(self._connection, group)
        except GroupError as error:
            if error.cause is not None:
                self._note_fault(error.cause)
            return False
        return True

    def _can_write(self) -> bool:
        """Write something: otherwise nobody might, for as long as there is trouble."""
        roll_back(self._connection)
        try:
            self._connection.execute(
                "INSERT OR REPLACE INTO meta VALUES ('recovered_at', ?)", (self._clock(),)
            )
        except sqlite3.Error as error:
            self._note_fault(error)
            return False
        return self._folds_log()

    def _folds_log(self) -> bool:
        """Tell whether a log that has grown large can be folded: SQLite itself keeps silent."""
        if self._path is None or log_bytes(self._path) < LOG_ALARM_BYTES:
            return True
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            self._note_fault(error)
            return False
        return True

    def _note_trouble(self, trouble: str | None) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            self._on_trouble(trouble)
