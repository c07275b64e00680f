"""What kernel and C library say."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from kagent_sdk.debug.probes import native
from kagent_sdk.debug.probes.heap import HeapView
from kagent_sdk.debug.probes.native import ProcessMemory, malloc_bytes, read_memory
from kagent_sdk.debug.probes.usage import explain

ROLLUP = """\
55d0c0000000-7ffd00000000 ---p 00000000 00:00 0                          [rollup]
Rss:               30000 kB
Pss:               20000 kB
Private_Clean:      1000 kB
Private_Dirty:     14000 kB
Anonymous:         13000 kB
"""


def test_the_kernels_numbers_are_read(tmp_path: Path) -> None:
    """From the one file that the kernel sums up itself."""
    rollup, status = tmp_path / "rollup", tmp_path / "status"
    rollup.write_text(ROLLUP)
    status.write_text("VmRSS:\t   20000 kB\nThreads:\t3\n")
    found = read_memory(rollup, status)
    without = read_memory(tmp_path / "none", status)
    nothing = read_memory(tmp_path / "none", tmp_path / "none")

    assert (found.rss, found.uss, found.anonymous) == (30_000 << 10, 15_000 << 10, 13_000 << 10)
    assert (without.rss, without.uss, without.anonymous) == (20_000 << 10, None, None)
    assert nothing.rss is None


def test_this_process_can_be_measured() -> None:
    """Without psutil, which the worker does without."""
    found = read_memory()

    assert found.rss is not None
    assert found.uss is not None
    assert found.anonymous is not None
    assert 0 < found.uss <= found.rss


def test_what_malloc_hands_out_is_counted_to_the_byte() -> None:
    """Small blocks and large ones, which are maps of their own."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    before = malloc_bytes()
    blocks = [libc.malloc(ctypes.c_size_t(size)) for size in (10_000, 5 << 20)]
    during = malloc_bytes()
    for block in blocks:
        libc.free(ctypes.c_void_p(block))

    assert before is not None
    assert during is not None
    assert during - before == pytest.approx((5 << 20) + 10_000, abs=100_000)


def test_another_c_library_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the kernel's numbers are all there is (musl)."""

    def no_library(_name: object) -> None:
        raise OSError

    native._mallinfo.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", no_library)
    try:
        assert malloc_bytes() is None
    finally:
        native._mallinfo.cache_clear()


def test_what_is_left_is_outside_of_python() -> None:
    """Of malloc where it tells, of the pages where it does not, and of nothing nothing."""
    heap = HeapView(total_bytes=400, large_bytes=100, buffer_bytes=50)

    exact = explain(ProcessMemory(2000, 1500, 1200, 600), heap, 200)
    assert (exact.outside_bytes, exact.rest_bytes) == (300, 1100)
    rough = explain(ProcessMemory(2000, None, 1200, None), heap, 200)
    assert (rough.outside_bytes, rough.rest_bytes) == (600, 800)
    unknown = explain(ProcessMemory(None, None, None, None), heap, 0)
    assert (unknown.outside_bytes, unknown.rest_bytes) == (None, None)
    assert exact.as_json()["buffers_bytes"] == 50
