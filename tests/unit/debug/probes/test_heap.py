"""Sizes, and the heap by type."""

from __future__ import annotations

import ctypes
import gc
import mmap
import sys
from array import array
from collections.abc import Iterator
from decimal import Decimal

import numpy as np
import pytest

from kagent_sdk.debug.probes.budget import Budget
from kagent_sdk.debug.probes.heap import measure_heap
from kagent_sdk.debug.probes.sizes import Sizer


class Owner:
    """Holds builtin things, and another."""

    def __init__(self, text: str, other: object = None) -> None:
        self.parts = [text, {"key": (text, 1)}]
        self.other = other


class Liar:
    """Says what it likes about its size."""

    def __sizeof__(self) -> int:
        raise AssertionError


class FakeArray:
    """Pretends to be something else."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """Fail."""
        raise AssertionError


@pytest.fixture(autouse=True)
def small_heap() -> Iterator[None]:
    """Hide what pytest holds."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def test_sizes_are_asked_of_c_alone() -> None:
    """A size that an author computes may be slow, wrong, or fail."""
    sizer = Sizer()
    small, view = ctypes.create_string_buffer(1000), (ctypes.c_char * 1000)
    looks_on = view.from_buffer(bytearray(1000))

    assert sizer.size(Liar()) == object.__sizeof__(Liar())
    assert sizer.size([1, 2]) == sys.getsizeof([1, 2])
    assert sizer.size(bytearray(1000)) > 1000
    assert sizer.size(np.zeros(1000)) > 8000
    assert sizer.size(small) > 1000
    assert sizer.size(looks_on) < 1000


def test_buffers_are_known() -> None:
    """What they hold lies in C memory."""
    sizer = Sizer()
    with mmap.mmap(-1, 4096) as mapped:
        kinds: list[type] = [type(mapped), bytearray, array, np.ndarray, ctypes.c_char * 3]
        assert [sizer.is_buffer(kind) for kind in kinds] == [True] * 5
        assert sizer.size(mapped) < 4096
    assert not sizer.is_buffer(list)
    assert not sizer.is_buffer(FakeArray)


def test_an_instance_counts_with_what_it_owns_once() -> None:
    """A list of a million strings is not "list": it is who holds it."""
    texts = ["".join(["x"] * 5000) for _ in range(3)]
    owners = [Owner(text) for text in texts]
    owners.append(Owner(texts[0], owners[0]))
    heap = measure_heap(Budget(60, 1_000_000))
    use = heap.types[f"{__name__}.Owner"]

    assert use.count == 4
    assert 3 * 5000 < use.bytes < 4 * 5000 + 4000
    assert heap.cut is None
    assert heap.total_bytes >= use.bytes


def test_what_the_collector_does_not_know_is_found_where_it_is_held() -> None:
    """A bytearray is no object of the collector's."""
    held = {
        "a": [bytearray(10_000), Decimal(1)],
        "b": bytearray(20_000),
        "c": FakeArray(),
        "d": Liar(),
    }
    heap = measure_heap(Budget(60, 1_000_000))

    assert heap.types["bytearray"].count == 2
    assert heap.types["bytearray"].bytes > 30_000
    assert heap.types["decimal.Decimal"].count == 1
    assert heap.buffer_bytes >= 30_000
    assert heap.large_bytes >= heap.buffer_bytes
    assert heap.types[f"{__name__}.FakeArray"].count == 1
    assert len(held) == 4


def test_it_keeps_nothing_alive() -> None:
    """What it looked at may end right after."""
    kept = Owner("x")
    before = sys.getrefcount(kept)
    measure_heap(Budget(60, 1_000_000))

    assert sys.getrefcount(kept) == before
