"""How host and worker ended: ``runtime/last_exit.json``, ``/status``, and the host's running note.

Readers ignore members that they do not know. This module costs a pydantic import and is therefore
kept off the host's start path.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

MAX_TASKS = 100
"""So many of the tasks that were running are named; the others are only counted."""

MAX_TRACEBACK_CHARS = 16 * 1024

_Word = Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}$")]


class Part(BaseModel):
    """A part of the documents: frozen, and tolerant of members that a newer host adds."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class OpenTask(Part):
    """A task that ran when the process ended."""

    id: str
    capability: str
    attempt: int = 1
    started_at: AwareDatetime | None = Field(None, description="Of this attempt.")


class Exit(Part):
    """How a process ended; what is not known is null."""

    cause: _Word = "unknown"
    at: AwareDatetime = Field(
        description="When; of a host that was killed, when it was last known to run."
    )
    how: str = Field(description="In a few words, such as 'SIGSEGV', 'exit code 1', 'OOM'.")
    pid: int | None = None
    exit_code: int | None = None
    signal: str | None = Field(None, description="The signal that ended it, where that is known.")
    oom: bool | None = Field(
        None, description="The kernel killed a process of its cgroup for memory at that time."
    )
    traceback: str | None = Field(
        None, description="Its last lines on stderr, or where it hung; secrets are replaced."
    )
    tasks: tuple[OpenTask, ...] = Field(
        (), max_length=MAX_TASKS, description="Those that ran, the first hundred of them."
    )
    tasks_running: int = Field(0, description="How many ran.")


class HostExit(Exit):
    """How a host ended."""

    cause: _Word = Field(
        "unknown",
        description="clean, start_failed, config_invalid, crash_loop or internal_error, as the "
        "host wrote itself; killed, oom, machine_restarted or unknown, as the next host found out.",
    )
    started_at: AwareDatetime | None = None
    run: str = Field("", description="Tells this run of a host from every other one.")


class WorkerExit(Exit):
    """How a worker ended."""

    worker: int = Field(0, description="Its index.")
    cause: _Word = Field(
        "unknown",
        description="clean; exit, exception, signal or oom, when it ended by itself; start_failed, "
        "stall, protocol_error or killed, when the host ended it; shutdown, when it did not stop "
        "in time.",
    )
    ready_s: float | None = Field(None, description="For how long it was ready; null: never.")
    rss_bytes: int | None = Field(None, description="Its resident memory a second before, or less.")


class LastExit(Part):
    """The document ``runtime/last_exit.json``, and the part ``last_exit`` of ``/status``."""

    host: HostExit | None = Field(None, description="How the host before this one ended.")
    worker: WorkerExit | None = Field(None, description="How the last worker ended.")


class RunningNote(Part):
    """The document ``runtime/running.json``: what a host leaves for the case that it is killed."""

    run: str
    pid: int
    start_ticks: int | None = Field(
        None, description="When it started: proc_pid_stat(5), field 22."
    )
    boot_id: str = ""
    started_at: AwareDatetime
    written_at: AwareDatetime
    cgroup: str | None = Field(None, description="Tells its memory cgroup from every other one.")
    oom_kills: int | None = Field(None, description="What the cgroup had counted.")
    stopping: str = Field("", description="Who has told it to stop, if anybody has.")
    tasks: tuple[OpenTask, ...] = Field((), max_length=MAX_TASKS)
    tasks_running: int = 0
