"""What the kernel and the C library know of this process's memory."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROLLUP = Path("/proc/self/smaps_rollup")
STATUS = Path("/proc/self/status")
KIB = 1024


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """Bytes; None where the system does not say.

    Attributes:
        rss: pages in memory, shared ones too.
        uss: pages that nobody else has: what would be free if the process ended.
        anonymous: pages in memory that belong to no file: heaps, stacks.
        malloc: what the C library has handed out and not got back (glibc's ``mallinfo2``). Python's
            own small objects (up to 512 bytes) are not in it: they lie in arenas from ``mmap``.
    """

    rss: int | None
    uss: int | None
    anonymous: int | None
    malloc: int | None


def read_memory(rollup: Path = ROLLUP, status: Path = STATUS) -> ProcessMemory:
    """Measure now."""
    fields = _read_fields(rollup)
    rss = fields.get("Rss")
    if rss is None:
        rss = _read_fields(status).get("VmRSS")
    private = [fields.get("Private_Clean"), fields.get("Private_Dirty")]
    uss = sum(part for part in private if part is not None) if None not in private else None
    return ProcessMemory(rss, uss, fields.get("Anonymous"), malloc_bytes())


def malloc_bytes() -> int | None:
    """Return what the C library's heaps have handed out; None where it does not tell.

    Takes the locks of those heaps in turn, for microseconds.
    """
    ask = _mallinfo()
    return None if ask is None else ask()


@functools.lru_cache(maxsize=1)
def _mallinfo() -> Callable[[], int] | None:
    try:
        import ctypes  # noqa: PLC0415 - loaded when it is asked for
    except ImportError:
        return None
    # struct mallinfo2 (mallinfo(3), glibc 2.33): ten size_t.
    names = [
        "arena",
        "ordblks",
        "smblks",
        "hblks",
        "hblkhd",
        "usmblks",
        "fsmblks",
        "uordblks",
        "fordblks",
        "keepcost",
    ]

    class Mallinfo(ctypes.Structure):
        _fields_ = [(name, ctypes.c_size_t) for name in names]

    try:
        call: Any = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return None  # another C library: musl
    call.restype = Mallinfo

    def ask() -> int:
        found = call()
        return int(found.uordblks + found.hblkhd)

    return ask


def _read_fields(path: Path) -> dict[str, int]:
    """Read lines such as ``Rss:   1234 kB`` (proc_pid_smaps(5)) into bytes."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    fields: dict[str, int] = {}
    for line in lines:
        words = line.split()
        if len(words) == 3 and words[2] == "kB" and words[1].isdigit():
            fields[words[0].rstrip(":")] = int(words[1]) * KIB
    return fields
