"""Why a host or a worker ended, from the traces that it left. Pure: no file, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kagent_sdk.errors import ConfigError, CrashLoopError, StartupError
from kagent_sdk.protocol.last_exit import MAX_TRACEBACK_CHARS, HostExit, LastExit, RunningNote
from kagent_sdk.protocol.log_tags import split_tag

if TYPE_CHECKING:
    from datetime import datetime

    from kagent_sdk.redaction.redactor import Redactor

EXIT_INTERNAL = 70  # EX_SOFTWARE, sysexits.h
EXIT_UNCAUGHT = 1
"""What Python ends with after an uncaught exception; ``sys.exit`` may say the same."""

CLEAN = "clean"
SIGKILL = 9
KILLED_BY_HOST = {
    "stuck": "stall",
    "start_timed_out": "start_failed",
    "protocol_error": "protocol_error",
}
TRACEBACK_HEADS = ("Traceback (most recent call last):", "Exception Group Traceback")


@dataclass(frozen=True, slots=True)
class Witness:
    """What the next host sees, looking back.

    Attributes:
        now: the present time.
        boot_id: of the running kernel; empty if it is not known.
        cgroup: tells our memory cgroup from every other one; None if it is not known.
        oom_kills: what that cgroup has counted; None if it is not known.
        note_seen_at: when the note was last touched; None without one.
    """

    now: datetime
    boot_id: str = ""
    cgroup: str | None = None
    oom_kills: int | None = None
    note_seen_at: datetime | None = None


def judge_host(note: RunningNote | None, last: LastExit, witness: Witness) -> HostExit | None:
    """Say how the host before this one ended; None when there was none.

    Args:
        note: what it left; None when it left none, or one that cannot be read.
        last: what ``last_exit.json`` says: of that host if it came to its end by itself, else of
            one before.
        witness: what is so now.
    """
    seen_at = witness.note_seen_at
    if note is None and seen_at is None:
        return last.host
    if note is None:
        return HostExit(
            cause="unknown",
            how="ended unexpectedly; what it noted cannot be read",
            at=min(seen_at or witness.now, witness.now),
        )
    if last.host is not None and last.host.run == note.run:
        return last.host
    cause, how, oom = _judge_kill(note, witness)
    if note.stopping:
        how = f"{how}, while it was stopping: {note.stopping}"
    return HostExit(
        cause=cause,
        how=how,
        at=min(max(note.written_at, seen_at or note.written_at), witness.now),
        pid=note.pid,
        signal="SIGKILL" if oom else None,
        oom=oom,
        tasks=note.tasks,
        tasks_running=note.tasks_running,
        started_at=note.started_at,
        run=note.run,
    )


def _judge_kill(note: RunningNote, witness: Witness) -> tuple[str, str, bool | None]:
    if note.boot_id != witness.boot_id:
        return "machine_restarted", "the machine restarted, or the agent moved to another", None
    if note.cgroup is None or note.cgroup != witness.cgroup:
        # A new container: its cgroup counts from zero, and the old one's counter is gone.
        return "killed", "killed, perhaps for memory", None
    if note.oom_kills is None or witness.oom_kills is None:
        return "killed", "killed, perhaps for memory", None
    if witness.oom_kills > note.oom_kills:
        return "oom", "OOM", True
    return "killed", "killed", False


def judge_previous(note: RunningNote | None, last: LastExit, witness: Witness) -> LastExit:
    """Say how the host before this one and its last worker ended; arguments as of `judge_host`.

    The workers of a host that was killed die with it. What the file says of a worker is then
    only true when it is from that same run.
    """
    host = judge_host(note, last, witness)
    worker = last.worker
    if host is not last.host and worker is not None:
        began = None if host is None else host.started_at
        if began is None or worker.at < began:
            worker = None
    return LastExit(host=host, worker=worker)


def judge_error(error: BaseException) -> tuple[str, int]:
    """Return the cause and the exit code of a host that an exception ends."""
    if isinstance(error, CrashLoopError):
        return "crash_loop", error.exit_code
    if isinstance(error, ConfigError):
        return "config_invalid", error.exit_code
    if isinstance(error, StartupError):
        return "start_failed", error.exit_code
    return "internal_error", EXIT_INTERNAL


def judge_worker(
    returncode: int,
    how: str,
    *,
    kill_reason: str | None,
    was_asked: bool,
    oom: bool | None,
    last_lines: str,
) -> tuple[str, str]:
    """Say why a worker ended: the cause in a word, and how in a few words for people.

    Args:
        returncode: as `subprocess` has it, negative for a signal.
        how: the same for people.
        kill_reason: why the host killed it, if it did.
        was_asked: whether it had been asked to stop.
        oom: whether the kernel killed a process of its cgroup for memory just then.
        last_lines: what it wrote to stderr.
    """
    if was_asked:
        return (CLEAN if returncode == 0 else "shutdown"), kill_reason or how
    if kill_reason is not None:
        return KILLED_BY_HOST.get(kill_reason, "killed"), kill_reason
    if returncode == -SIGKILL and oom:
        return "oom", "OOM"
    if returncode < 0:
        return "signal", how
    if returncode == EXIT_UNCAUGHT and any(head in last_lines for head in TRACEBACK_HEADS):
        return "exception", how
    return "exit", how


def tell_output(tail: str, redactor: Redactor, *, kept_bytes: int) -> str:
    """Return the last lines of a worker's output as they may be shown.

    Args:
        tail: the end of what it wrote.
        redactor: takes out the secrets.
        kept_bytes: so much is kept of an output; a tail of that size may begin amid a secret.
    """
    data = tail.encode(errors="backslashreplace")
    is_cut = len(data) >= kept_bytes
    data = b"\n".join(split_tag(line)[1] for line in data.split(b"\n"))
    data = redactor.redact(data)
    if is_cut:
        # What is left of a secret that the cut went through is shorter than the longest one.
        data = data[redactor.longest_bytes :].partition(b"\n")[2]
    return data.decode(errors="replace")


def tell_text(text: str, redactor: Redactor) -> str:
    """Return the end of a traceback or a stack as it may be shown: without secrets, bounded."""
    told = redactor.redact(text.encode(errors="backslashreplace")).decode(errors="replace")
    return told[-MAX_TRACEBACK_CHARS:]
