"""The port through which snapshots are kept; `destination` knows the implementations."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

MAX_LISTED = 10_000

OnBytes = Callable[[int], None]
"""Told of bytes that went over the network; may raise, to give up."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A snapshot that is kept."""

    name: str
    size_bytes: int


class Destination(Protocol):
    """Keeps snapshots by name. All methods block: use them in a thread."""

    def partial(self) -> AbstractContextManager[tuple[BinaryIO, Path]]:
        """Give a file to write a snapshot into; what is not kept is gone afterwards."""
        ...

    def keep(self, partial: Path, name: str, on_bytes: OnBytes) -> None:
        """Keep a file that is written and synced under a name.

        Raises:
            SnapshotError: it is not kept.
        """
        ...

    def prune(self, agent: str, keep: int, spare: str) -> None:
        """Remove what is beyond the newest ``keep`` of an agent, never ``spare``."""
        ...

    def list(self) -> list[Stored]:
        """Return what is kept, by name.

        Raises:
            SnapshotError: it cannot be known.
        """
        ...

    def fetch(self, name: str, max_bytes: int, on_bytes: OnBytes) -> AbstractContextManager[Path]:
        """Give a file with a snapshot that is kept.

        Raises:
            SnapshotError: there is none, or it cannot be read.
        """
        ...
