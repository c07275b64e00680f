"""What becomes of a write, for those who need no future: it is told at once, without a turn of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator

Told = Callable[[BaseException | None], None]


class Receipt:
    """Settled when a write is on disk, or will not be. Belongs to the event loop.

    A future would call each of its callbacks in a turn of the loop of its own, which is most of what
    waiting for a write costs.

    Attributes:
        is_settled: whether it is known.
    """

    __slots__ = ("_error", "_told", "is_settled")

    def __init__(self) -> None:
        self._told: list[Told] = []
        self._error: BaseException | None = None
        self.is_settled = False

    def tell(self, told: Told) -> None:
        """Call this in the loop with the error, or None when the write is on disk.

        Those who are told are called in their order, inside `settle`; at once when it is known.
        """
        if self.is_settled:
            told(self._error)
        else:
            self._told.append(told)

    def settle(self, error: BaseException | None) -> None:
        """Tell everyone, once; one who raises is the loop's exception handler's business."""
        if self.is_settled:
            return
        self.is_settled = True
        self._error = error
        told, self._told = self._told, []
        for tell in told:
            try:
                tell(error)
            except Exception as fault:  # noqa: BLE001 - as for the callbacks of futures
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "a receipt of the storage was not taken well", "exception": fault}
                )

    def __await__(self) -> Generator[asyncio.Future[None], None, None]:
        """Return when the write is on disk; giving up leaves the write alone.

        Raises:
            StorageError: the database did not take it.
            Exception: what the operation raised.
        """
        if not self.is_settled:
            known: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._told.append(lambda _error: None if known.done() else known.set_result(None))
            yield from known
        if self._error is not None:
            raise self._error
