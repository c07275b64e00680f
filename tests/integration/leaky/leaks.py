"""Four ways to lose memory; the tests find each by the commands of a debug session alone."""

from __future__ import annotations

import ctypes

SEEN: dict[str, Digest] = {}
"""Grows with every document, and nothing is ever taken out."""


class Digest:
    """What is remembered of a document."""

    def __init__(self, text: str) -> None:
        self.words = text.split()


class Node:
    """Half of a pair whose halves hold each other."""

    def __init__(self) -> None:
        self.peer: Node | None = None
        self.text = "x" * 1000

    def __del__(self) -> None:
        """Keep reference counting from being all that is needed."""
        self.text = ""


def remember(count: int) -> None:
    """Leak 1: put digests into a dictionary that is never emptied."""
    for _ in range(count):
        SEEN[f"document {len(SEEN)}"] = Digest("so many words " * 10)


def tie(count: int) -> None:
    """Leak 2: leave pairs behind that only the collector can free."""
    for _ in range(count):
        one, other = Node(), Node()
        one.peer, other.peer = other, one


def keep_in_c(count: int, size: int) -> None:
    """Leak 3: hand buffers to C code that never gives back its reference."""
    for _ in range(count):
        buffer = ctypes.create_string_buffer(size)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(buffer))


def allocate(count: int, size: int, kept: list[int]) -> None:
    """Leak 4: memory of which Python knows nothing; ``kept`` gets the addresses."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    for _ in range(count):
        address = libc.malloc(ctypes.c_size_t(size))
        ctypes.memset(address, 1, size)
        kept.append(address)
