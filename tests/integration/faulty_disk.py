"""A disk that fails when a test says so, for one process: below SQLite, Python and all else.

::

    disk = FaultyDisk(library, tmp_path)
    process = subprocess.Popen(command, env=os.environ | disk.environment)
    with disk.failing(Fault.FAIL, Call.WRITE, error=errno.ENOSPC):
        disk.wait_injected(3)

``faults/faulty_disk.c`` does it, preloaded into that process; the two share a file. A block that
ends without a single fault fails its test: it would have proven nothing.
"""

from __future__ import annotations

import errno
import mmap
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum, IntFlag
from pathlib import Path

from tests.integration.waiting import wait_until

SOURCE = Path(__file__).parent / "faults" / "faulty_disk.c"

_FIELDS = struct.Struct("9Q184s")
"""``struct control`` of the source."""

_COUNTERS_AT = 6 * 8
_COUNTERS = struct.Struct("3Q")


class Call(IntFlag):
    """What a process asks of a disk."""

    WRITE = 1
    GROW = 2  # a write that makes the file longer
    SYNC = 4
    TRUNCATE = 8
    CREATE = 16
    RENAME = 32  # by its new name
    READ = 64
    LINK = 128  # a second name


class Fault(IntEnum):
    """How a call fails.

    A write that is torn is done by halves and then answered with an error; a short one is done by
    halves and says so. One that kills is done by halves, and the process is gone.
    """

    FAIL = 1
    SHORTEN = 2
    TEAR = 3
    KILL = 4


def build_library(folder: Path) -> Path:
    """Compile the library into a folder; return it."""
    library = folder / "faulty_disk.so"
    options = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["cc", *options, "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


class FaultyDisk:
    """The disk of one process, as the test that controls it sees it.

    Args:
        library: of `build_library`.
        folder: for the file that is shared with the process.
    """

    def __init__(self, library: Path, folder: Path) -> None:
        self._library = library
        self._path = folder / "faulty-disk"
        self._path.write_bytes(b"\0" * _FIELDS.size)
        with self._path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _FIELDS.size)

    @property
    def environment(self) -> dict[str, str]:
        """What to add to the environment of the process; its children do not inherit it."""
        return {"LD_PRELOAD": str(self._library), "KOS_FAULTY_DISK": str(self._path)}

    @property
    def process_id(self) -> int:
        """Who has loaded the library last; 0: nobody."""
        return self._counters()[2]

    @property
    def injected(self) -> int:
        """Faults since the last `arm`."""
        return self._counters()[1]

    @property
    def seen(self) -> int:
        """Calls since the last `arm` that could have failed."""
        return self._counters()[0]

    def arm(
        self,
        fault: Fault,
        calls: Call,
        *,
        error: int = errno.EIO,
        skip: int = 0,
        limit: int = 0,
        files: str = "journal.db",
    ) -> None:
        """Let calls fail from now on.

        Args:
            fault: how.
            calls: which ones.
            error: what FAIL and TEAR answer with.
            skip: how many of them succeed first.
            limit: how many fail; 0: all.
            files: part of the path of the files that are meant.
        """
        fields = (fault, calls, error, skip, limit, 0, 0, self.process_id, files.encode())
        self.heal()
        self._memory[:] = _FIELDS.pack(0, *fields)
        self._memory[:8] = struct.pack("Q", 1)

    def heal(self) -> None:
        """Let everything succeed from now on."""
        self._memory[:8] = struct.pack("Q", 0)

    @contextmanager
    def failing(
        self,
        fault: Fault,
        calls: Call,
        *,
        error: int = errno.EIO,
        files: str = "journal.db",
    ) -> Iterator[None]:
        """Let calls fail for the time of the block, and prove that at least one did."""
        self.arm(fault, calls, error=error, files=files)
        try:
            yield
            self.wait_injected(1)
        finally:
            self.heal()

    def wait_injected(self, count: int) -> None:
        """Wait until that many faults have happened since the last `arm`."""
        wait_until(lambda: self.injected >= count)

    def close(self) -> None:
        """Give the shared memory back."""
        self._memory.close()

    def _counters(self) -> tuple[int, int, int]:
        seen, injected, process_id = _COUNTERS.unpack_from(self._memory, _COUNTERS_AT)
        return seen, injected, process_id
