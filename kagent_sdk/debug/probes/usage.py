"""What a process's memory is made of, as far as it can be told from inside. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

from kagent_sdk.debug.probes.heap import HeapView
from kagent_sdk.debug.probes.native import ProcessMemory


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes; None where the system does not say.

    Attributes:
        rss_bytes, uss_bytes: of the process, as `ProcessMemory` has them.
        python_bytes: objects that were measured.
        buffers_bytes: of those, what bytearrays, arrays, numpy and ctypes hold in C memory.
        malloc_bytes: what the C library has handed out, to Python and to others.
        tracer_bytes: what tracemalloc has noted, also in malloc.
        outside_bytes: what C code holds beside Python's objects: of malloc, where it tells, what the
            large objects do not explain; else the anonymous pages that no object explains.
        rest_bytes: the remainder of RSS: interpreter and libraries, free space in heaps, stacks.
    """

    ROWS: ClassVar[tuple[tuple[str, str, str], ...]] = (
        ("rss_bytes", "RSS", "in memory, shared pages too"),
        ("uss_bytes", "USS", "of this process alone"),
        ("python_bytes", "Python objects", "all that was measured"),
        ("buffers_bytes", "  of that buffers", "bytearray, array, numpy, ctypes"),
        ("tracer_bytes", "notes of the tracer", "of memory start"),
        ("outside_bytes", "outside of Python", "held by C code: malloc beside the objects"),
        ("rest_bytes", "rest of RSS", "interpreter, libraries, free space in heaps"),
    )

    rss_bytes: int | None
    uss_bytes: int | None
    python_bytes: int
    buffers_bytes: int
    malloc_bytes: int | None
    tracer_bytes: int
    outside_bytes: int | None
    rest_bytes: int | None

    def as_json(self) -> dict[str, int | None]:
        """Return it with stable keys."""
        return asdict(self)


def explain(process: ProcessMemory, heap: HeapView, tracer_bytes: int) -> Usage:
    """Compare what the system says with what was measured."""
    outside = None
    if process.malloc is not None:
        outside = max(0, process.malloc - heap.large_bytes - tracer_bytes)
    elif process.anonymous is not None:
        outside = max(0, process.anonymous - heap.total_bytes - tracer_bytes)
    rest = None
    if process.rss is not None and outside is not None:
        rest = process.rss - heap.total_bytes - tracer_bytes - outside
    return Usage(
        rss_bytes=process.rss,
        uss_bytes=process.uss,
        python_bytes=heap.total_bytes,
        buffers_bytes=heap.buffer_bytes,
        malloc_bytes=process.malloc,
        tracer_bytes=tracer_bytes,
        outside_bytes=outside,
        rest_bytes=rest,
    )
