"""Receipts tell what became of a write, once, to everyone, in order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kagent_sdk.errors import StorageError
from kagent_sdk.storage.receipt import Receipt


async def test_everyone_is_told_in_order_and_late_ones_at_once() -> None:
    """Who asks after the fact must not wait for ever."""
    receipt, told = Receipt(), list[tuple[str, BaseException | None]]()
    receipt.tell(lambda error: told.append(("first", error)))
    receipt.tell(lambda error: told.append(("second", error)))
    assert told == []

    receipt.settle(None)
    receipt.tell(lambda error: told.append(("late", error)))

    assert receipt.is_settled
    assert told == [("first", None), ("second", None), ("late", None)]


async def test_the_first_word_counts() -> None:
    """A thread that ends by a bug refuses what may have been told already."""
    receipt, told = Receipt(), list[BaseException | None]()
    receipt.tell(told.append)

    receipt.settle(None)
    receipt.settle(StorageError("too late"))
    await receipt

    assert told == [None]


async def test_one_who_raises_does_not_keep_the_others_from_hearing() -> None:
    """A bug in one part of the host must not leave callers of another waiting."""
    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, fault: faults.append(fault))
    receipt, told = Receipt(), list[BaseException | None]()

    def fail(_error: BaseException | None) -> None:
        raise RuntimeError("a bug")

    receipt.tell(fail)
    receipt.tell(told.append)
    receipt.settle(None)

    assert told == [None]
    assert [str(fault["exception"]) for fault in faults] == ["a bug"]


async def test_it_can_be_awaited_with_its_error() -> None:
    """Before it is settled and after."""
    receipt = Receipt()

    async def wait() -> None:
        await receipt

    waiting = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    receipt.settle(StorageError("full"))

    with pytest.raises(StorageError, match="full"):
        await waiting
    with pytest.raises(StorageError, match="full"):
        await receipt


async def test_one_who_gives_up_waiting_changes_nothing() -> None:
    """A client that is gone does not take the write back."""
    receipt, told = Receipt(), list[BaseException | None]()

    async def wait() -> None:
        await receipt

    waiting = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    receipt.tell(told.append)

    receipt.settle(None)

    assert told == [None]
