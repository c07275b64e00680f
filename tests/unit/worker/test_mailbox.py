"""Letters from threads into the loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

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


def test_a_failed_call_does_not_silence_the_mailbox() -> None:
    """An interrupt that lands in `post`, or a closed loop, must leave it able to call again."""
    loop = asyncio.new_event_loop()
    mailbox = Mailbox(loop)
    loop.close()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="closed"):
            mailbox.post(print)
