"""Letters from threads into the loop."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from kagent_sdk.errors import TaskInterrupted
from kagent_sdk.worker.mailbox import Mailbox


async def test_letters_of_a_thread_arrive_in_order() -> None:
    """Events come before the result that follows them."""
    mailbox = Mailbox(asyncio.get_running_loop())
    arrived: list[int] = []
    done = asyncio.Event()

    def write() -> None:
        for number in range(1000):
            mailbox.post(arrived.append, number)
        mailbox.post(done.set)

    thread = threading.Thread(target=write)
    thread.start()
    await done.wait()
    thread.join()

    assert arrived == list(range(1000))


async def test_it_knows_the_loops_thread() -> None:
    """`emit` waits in one way here and in another there."""
    mailbox = Mailbox(asyncio.get_running_loop())
    elsewhere = await asyncio.to_thread(lambda: mailbox.is_here)

    assert mailbox.is_here
    assert not elsewhere


async def test_a_letter_posted_by_a_letter_is_opened_in_a_later_turn() -> None:
    """A letter that answers itself must not hold the loop."""
    mailbox = Mailbox(asyncio.get_running_loop())
    arrived: list[str] = []
    mailbox.post(lambda: mailbox.post(arrived.append, "later"))
    mailbox.post(arrived.append, "first")
    for _ in range(3):
        await asyncio.sleep(0)

    assert arrived == ["first", "later"]


async def test_an_interrupt_that_lands_here_does_not_silence_the_mailbox() -> None:
    """The next letter must call the loop again."""
    loop = InterruptedLoop()
    mailbox = Mailbox(loop)
    arrived: list[int] = []
    with pytest.raises(TaskInterrupted):
        mailbox.post(arrived.append, 1)
    mailbox.post(arrived.append, 2)
    loop.call_soon(loop.stop)
    await asyncio.to_thread(loop.run_forever)
    loop.close()

    assert arrived == [1, 2]


class InterruptedLoop(asyncio.SelectorEventLoop):
    """An interrupt lands in the first call from a thread."""

    is_interrupted = False

    def call_soon_threadsafe(  # type: ignore[override]
        self, *args: Any, **options: Any
    ) -> asyncio.Handle:
        """Be interrupted once."""
        if not self.is_interrupted:
            self.is_interrupted = True
            raise TaskInterrupted
        return super().call_soon_threadsafe(*args, **options)


def test_letters_to_a_closed_loop_are_dropped() -> None:
    """The worker is ending; a thread that is late must not fail for that."""
    loop = asyncio.new_event_loop()
    mailbox = Mailbox(loop)
    loop.close()
    for _ in range(2):
        mailbox.post(print)
