"""The files that tell the next host how this one ended: ``last_exit.json`` and ``running.json``.

What stands in them is hostile until checked: a worker without a sandbox may have written it. Reads
are bounded and follow no link; a write puts a whole new file in the place of the old one.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from kagent_sdk.protocol.last_exit import LastExit, RunningNote

MAX_FILE_BYTES = 512 * 1024
"""A hundred tasks and two tracebacks of 16 Ki characters, each six bytes when escaped, and more."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
DEAD_STATES = frozenset("ZX")
START_TICKS_FIELD = 22 - 3  # proc_pid_stat(5) counts from one; two fields stand before the state
_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Note:
    """What a host before this one noted.

    Attributes:
        content: None when it cannot be read.
        seen_at: when the file was last touched; None without a file.
        fault: why it cannot be read; empty if it can, or is not there.
    """

    content: RunningNote | None = None
    seen_at: datetime | None = None
    fault: str = ""


class ExitFiles:
    """Reads and writes the two files of an agent. Every method blocks: call them in a thread.

    Args:
        directory: the agent's folder.
    """

    def __init__(self, directory: Path) -> None:
        self.last_exit = directory / "runtime" / "last_exit.json"
        self.running = directory / "runtime" / "running.json"

    def read_last(self) -> tuple[LastExit, str]:
        """Return how host and worker ended, and what is wrong with the file (empty: nothing)."""
        last, _, fault = _read(self.last_exit, LastExit)
        return last or LastExit(), fault

    def read_note(self) -> Note:
        """Return what the host before this one noted."""
        content, seen_at, fault = _read(self.running, RunningNote)
        return Note(content, seen_at, fault)

    def write_last(self, last: LastExit) -> None:
        """Write how host and worker ended.

        Raises:
            OSError: it cannot be written; the old file stays.
        """
        write_whole(self.last_exit, last.model_dump_json(indent=2).encode() + b"\n")

    def write_note(self, note: RunningNote) -> None:
        """Write what is noted of this host.

        Raises:
            OSError: it cannot be written; the old file stays.
        """
        write_whole(self.running, note.model_dump_json().encode() + b"\n")

    def touch_note(self) -> None:
        """Show that the host still runs.

        Raises:
            OSError: the file is gone, or not ours.
        """
        os.utime(self.running, follow_symlinks=False)

    def drop_note(self) -> None:
        """Remove the note: the end of this host stands in the other file.

        Raises:
            OSError: it cannot be removed.
        """
        self.running.unlink(missing_ok=True)


def _read(path: Path, model: type[_Model]) -> tuple[_Model | None, datetime | None, str]:
    """Return the content, when the file was last changed, and why there is no content."""
    try:
        content, seen_at = read_whole(path)
    except FileNotFoundError:
        return None, None, ""
    except (OSError, ValueError) as exc:
        with suppress(OSError):
            return None, _time(path.lstat().st_mtime), str(exc)
        return None, None, str(exc)
    try:
        return model.model_validate_json(content), seen_at, ""
    except ValidationError as exc:
        # Names the place of the fault, not what stands there.
        where = ".".join(str(part) for part in exc.errors(include_input=False)[0]["loc"])
        return None, seen_at, f"malformed at {where}" if where else "malformed"


def read_whole(path: Path) -> tuple[bytes, datetime]:
    """Return the content of a regular file and the time of its last change.

    Raises:
        OSError: it cannot be read, or is a symbolic link.
        ValueError: it is no regular file, or over `MAX_FILE_BYTES`.
    """
    # O_NONBLOCK: opening a FIFO without a writer would wait for one.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("not a regular file")
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"over {MAX_FILE_BYTES} bytes")
    return content, _time(found.st_mtime)


def write_whole(path: Path, content: bytes) -> None:
    """Put a new file in the place of the old one, on the disk before it gets its name.

    Raises:
        OSError: it cannot be written; the old file stays.
    """
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fdatasync(descriptor)
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read_boot_id() -> str:
    """Return what tells this boot of the machine from every other; empty where nothing does."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def read_start_ticks(pid: int) -> int | None:
    """Return when a living process started, in ticks since the boot; None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        # The name of the program may hold anything, parentheses too (proc_pid_stat(5)).
        state, *rest = text.rpartition(")")[2].split()
        return None if state in DEAD_STATES else int(rest[START_TICKS_FIELD - 1])
    except (OSError, ValueError, IndexError):
        return None


def _time(at_s: float) -> datetime:
    try:
        return datetime.fromtimestamp(at_s, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.now(UTC)
