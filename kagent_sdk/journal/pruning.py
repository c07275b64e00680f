"""Removing finished tasks past their retention, and giving the disk back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from kagent_sdk.journal import rows
from kagent_sdk.journal.retention import Retention
from kagent_sdk.storage.space import settle_size, shrink
from kagent_sdk.storage.thread import Storage

SHRINK_PAGES = 256
"""Pages (1 MiB) that are given back at a time: what waits behind that must not wait for long."""

SPARE_SHARE = 8
"""An eighth of the file may be free: the next tasks take it, and moving pages costs as much as they."""


class Pruner:
    """Keeps the finished tasks on disk within their bounds.

    Args:
        storage: the database.
        retention: the bounds, and what there is.
        on_gone: told of the ids that were removed.
    """

    def __init__(
        self, storage: Storage, retention: Retention, on_gone: Callable[[list[str]], None]
    ) -> None:
        self._storage = storage
        self._retention = retention
        self._on_gone = on_gone
        self._is_pruning = False
        self._is_shrinking = False
        self._is_unsettled = False

    def prune(self, finished_before: float = 0.0) -> None:
        """Remove what is over the bounds, some at a time, and what ended before a moment."""
        if self._is_pruning:
            return
        if not self._retention.finished:
            self._settle()
            return
        self._is_pruning = True
        count, size_bytes = self._retention.excess
        step = partial(
            rows.prune, finished_before=finished_before, count=count, size_bytes=size_bytes
        )
        self._storage.write(step).add_done_callback(self._note_pruned)

    def _note_pruned(self, done: asyncio.Future[tuple[list[str], int]]) -> None:
        self._is_pruning = False
        if done.cancelled() or done.exception() is not None:
            return  # told as trouble by the storage; the next turn tries again
        gone, freed = done.result()
        self._retention.finished -= len(gone)
        self._retention.finished_bytes -= freed
        if gone:
            self._on_gone(gone)
            self.shrink()
        else:
            self._settle()

    def shrink(self) -> None:
        """Give the disk back what nothing uses any more, a little at a time."""
        if self._is_shrinking:
            return
        self._is_shrinking = True
        step = partial(shrink, max_pages=SHRINK_PAGES, spare_share=SPARE_SHARE)
        self._storage.write(step).add_done_callback(self._note_shrunk)

    def _note_shrunk(self, left: asyncio.Future[int]) -> None:
        self._is_shrinking = False
        if left.cancelled() or left.exception() is not None:
            return  # as above
        if left.result():
            self.shrink()
        else:
            self._is_unsettled = True
            self._settle()

    def _settle(self) -> None:
        """Let the file get shorter: not beside what is written, and so asked for behind it."""
        if self._is_unsettled:
            self._is_unsettled = False
            self._storage.read(settle_size).add_done_callback(self._note_settled)

    def _note_settled(self, done: asyncio.Future[bool]) -> None:
        if not done.cancelled() and done.exception() is None and not done.result():
            self._is_unsettled = True
