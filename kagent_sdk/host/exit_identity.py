"""What tells one run of a host from another, and what such a run leaves for the next."""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kagent_sdk.errors import CrashLoopError
from kagent_sdk.host.exit_files import ExitFiles, read_boot_id, read_start_ticks
from kagent_sdk.host.postmortem import (
    CLEAN,
    Witness,
    judge_error,
    judge_previous,
    tell_text,
)
from kagent_sdk.protocol.last_exit import (
    MAX_TASKS,
    HostExit,
    LastExit,
    OpenTask,
    RunningNote,
)

if TYPE_CHECKING:
    from kagent_sdk.host.oom import OomCount
    from kagent_sdk.host.task import Task
    from kagent_sdk.redaction.redactor import Redactor

MAX_HOW_CHARS = 2000


class Identity:
    """What tells this run of a host from every other one.

    Args:
        boot_id: of the running kernel.
        start_ticks: when the process started, in ticks since the boot.
    """

    def __init__(self, boot_id: str, start_ticks: int | None) -> None:
        self.boot_id = boot_id
        self.start_ticks = start_ticks
        self.pid = os.getpid()
        self.run = f"{boot_id}:{self.pid}:{start_ticks}"

    @classmethod
    def read(cls) -> Identity:
        """Return that of this process."""
        return cls(read_boot_id(), read_start_ticks(os.getpid()))

    def is_other_running(self, note: RunningNote | None) -> bool:
        """Say whether the host of a note still runs, and is not this one."""
        if note is None or note.run == self.run or note.boot_id != self.boot_id:
            return False
        return note.start_ticks is not None and read_start_ticks(note.pid) == note.start_ticks

    def note(
        self,
        started_at: datetime,
        count: OomCount | None,
        tasks: Sequence[Task],
        stopping: str = "",
    ) -> RunningNote:
        """Return what is noted of this host now."""
        return RunningNote(
            run=self.run,
            pid=self.pid,
            start_ticks=self.start_ticks,
            boot_id=self.boot_id,
            started_at=started_at,
            written_at=datetime.now(UTC),
            cgroup=None if count is None else count.cgroup,
            oom_kills=None if count is None else count.kills,
            stopping=stopping,
            tasks=list_tasks(tasks),
            tasks_running=len(tasks),
        )

    def exit(
        self,
        started_at: datetime | None,
        error: BaseException | None,
        why: str,
        redactor: Redactor,
    ) -> HostExit:
        """Return the end of this host."""
        cause, code, how, told = CLEAN, 0, f"stopped: {why or 'nobody asked for it'}", ""
        if error is not None:
            cause, code = judge_error(error)
            how = tell_text(str(error) or type(error).__name__, redactor)[:MAX_HOW_CHARS]
        if isinstance(error, CrashLoopError):
            told = error.traceback_text
        elif error is not None and cause == "internal_error":
            told = "".join(traceback.format_exception(error))
        return HostExit(
            cause=cause,
            how=how,
            at=datetime.now(UTC),
            pid=self.pid,
            exit_code=code,
            traceback=tell_text(told, redactor) or None,
            started_at=started_at,
            run=self.run,
        )


@dataclass(frozen=True, slots=True)
class Before:
    """What the host before this one left.

    Attributes:
        last: how it and its last worker ended.
        is_written: whether ``last_exit.json`` says just that.
        is_other_running: it still runs, in the same folder.
        faults: what is wrong with the files, by their names.
    """

    last: LastExit
    is_written: bool
    is_other_running: bool
    faults: dict[str, str]


def read_before(files: ExitFiles, me: Identity, count: OomCount | None) -> Before:
    """Read what the host before this one left; ``count`` is what our cgroup counts now."""
    last, fault = files.read_last()
    note = files.read_note()
    faults = {files.last_exit.name: fault, files.running.name: note.fault}
    faults = {name: reason for name, reason in faults.items() if reason}
    if me.is_other_running(note.content):
        return Before(last, is_written=True, is_other_running=True, faults=faults)
    witness = Witness(
        now=datetime.now(UTC),
        boot_id=me.boot_id,
        cgroup=None if count is None else count.cgroup,
        oom_kills=None if count is None else count.kills,
        note_seen_at=note.seen_at,
    )
    judged = judge_previous(note.content, last, witness)
    return Before(judged, is_written=judged == last, is_other_running=False, faults=faults)


def list_tasks(tasks: Sequence[Task]) -> tuple[OpenTask, ...]:
    """Return the first `MAX_TASKS` of these tasks as the files hold them."""
    return tuple(
        OpenTask(
            id=task.id,
            capability=task.capability.name,
            attempt=task.attempt,
            started_at=None
            if task.started_at is None
            else datetime.fromtimestamp(task.started_at, UTC),
        )
        for task in tasks[:MAX_TASKS]
    )
