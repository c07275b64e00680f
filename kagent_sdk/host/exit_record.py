"""What the recording thread does: judge the host before, note this one, write down its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kagent_sdk.host.exit_files import ExitFiles
from kagent_sdk.host.exit_identity import Identity, list_tasks, read_before
from kagent_sdk.host.oom_watch import OomWatch
from kagent_sdk.host.postmortem import CLEAN, judge_worker, tell_output, tell_text
from kagent_sdk.protocol.headers import format_time
from kagent_sdk.protocol.last_exit import HostExit, LastExit, RunningNote, WorkerExit

if TYPE_CHECKING:
    from kagent_sdk.host.logs.pump import LogPump
    from kagent_sdk.host.place import Remains
    from kagent_sdk.host.task import Task
    from kagent_sdk.redaction.redactor import Redactor


class ExitRecord:
    """Reads and writes the record of one host. Every method blocks.

    Args:
        directory: the agent's folder.
        pump: told what was found, and what cannot be written.
        started_at: of this host, in seconds since the epoch.
    """

    def __init__(self, directory: Path, pump: LogPump, *, started_at: float) -> None:
        self._files = ExitFiles(directory)
        self._pump = pump
        self._started_at = datetime.fromtimestamp(started_at, UTC)
        self._me = Identity.read()
        self._watch = OomWatch()
        self._noted: RunningNote | None = None
        self._written: LastExit | None = None
        self._faults: dict[str, str] = {}
        self._is_guest = False

    def read_before(self) -> LastExit:
        """Return how the host before this one and its last worker ended."""
        before = read_before(self._files, self._me, self._watch.sample(()))
        for file, fault in before.faults.items():
            self._pump.log("warning", "exit_file_ignored", file=file, reason=fault)
        self._is_guest = before.is_other_running
        if self._is_guest:
            self._pump.log("warning", "another_host_runs", detail="in the same folder")
        elif before.last.host is not None:
            self._tell(before.last.host)
        self._written = before.last if before.is_written else None
        return before.last

    def keep(
        self, last: LastExit, tasks: Sequence[Task], pids: Iterable[int], *, stopping: str
    ) -> None:
        """Bring both files up to date, where they are not.

        Args:
            last: how the host before this one and the last worker ended.
            tasks: what runs now.
            pids: of the workers.
            stopping: who has told this host to stop, if anybody has.
        """
        count = self._watch.sample(pids)
        if self._is_guest:
            return
        if last not in (self._written, LastExit()) and self._try(
            self._files.last_exit, partial(self._files.write_last, last)
        ):
            self._written = last
        note = self._me.note(self._started_at, count, tasks, stopping)
        known = self._noted and self._noted.model_copy(update={"written_at": note.written_at})
        if note != known and self._try(self._files.running, partial(self._files.write_note, note)):
            self._noted = note

    def touch(self) -> None:
        """Show that this host still runs; a note that somebody has removed is written again."""
        if self._noted is not None and not self._try(self._files.running, self._files.touch_note):
            self._noted = None

    def examine(self, remains: Remains, redactor: Redactor, *, tail_bytes: int) -> WorkerExit:
        """Say how a worker ended."""
        oom = self._watch.claim(remains.pid)
        last_lines = tell_output(remains.tail, redactor, kept_bytes=tail_bytes)
        cause, how = judge_worker(
            remains.returncode,
            remains.how,
            kill_reason=remains.kill_reason,
            was_asked=remains.was_asked,
            oom=oom,
            last_lines=last_lines,
        )
        has_signal = remains.returncode < 0
        return WorkerExit(
            at=datetime.now(UTC),
            worker=remains.worker,
            pid=remains.pid,
            cause=cause,
            how=how,
            exit_code=None if has_signal else remains.returncode,
            signal=remains.how if has_signal else None,
            oom=oom,
            ready_s=remains.ready_s,
            rss_bytes=self._watch.take_rss_bytes(remains.pid),
            traceback=None if cause == CLEAN else _trace(remains.stack, last_lines, redactor),
            tasks=list_tasks(remains.tasks),
            tasks_running=len(remains.tasks),
        )

    def end(
        self,
        error: BaseException | None,
        why: str,
        tasks: Sequence[Task],
        worker: WorkerExit | None,
    ) -> None:
        """Write down how this host ends."""
        if self._is_guest:
            return
        host = self._me.exit(self._started_at, error, why, self._pump.redactor).model_copy(
            update={"tasks": list_tasks(tasks), "tasks_running": len(tasks)}
        )
        if self._try(
            self._files.last_exit,
            partial(self._files.write_last, LastExit(host=host, worker=worker)),
        ):
            self._try(self._files.running, self._files.drop_note)

    def _tell(self, host: HostExit) -> None:
        self._pump.log(
            "info" if host.cause == CLEAN else "warning",
            "previous_exit",
            cause=host.cause,
            how=host.how,
            at=format_time(host.at.timestamp()),
            oom=host.oom,
            tasks=[task.id for task in host.tasks],
            tasks_running=host.tasks_running,
        )

    def _try(self, path: Path, write: Callable[[], None]) -> bool:
        """Write a file, and say when that does not work; once for each reason."""
        fault = self._faults.pop(path.name, "")
        try:
            write()
        except OSError as exc:
            self._faults[path.name] = reason = exc.strerror or str(exc)
            if reason != fault:
                self._pump.log("error", "exit_not_written", file=path.name, error=reason)
            return False
        if fault:
            self._pump.log("info", "exit_written_again", file=path.name)
        return True


def _trace(stack: str | None, last_lines: str, redactor: Redactor) -> str | None:
    return (tell_text(stack, redactor) if stack else last_lines) or None
