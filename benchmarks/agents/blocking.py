"""An agent whose capability blocks in the ways that authors' code does."""

import asyncio
import ctypes
import time
import timeit
from typing import Literal

from kagent_sdk import Agent

agent = Agent()


def hold_gil(seconds: float) -> None:
    """Wait in C without giving the GIL up, as a badly written extension does."""
    # A mutex that is locked already: unlike a sleep, no signal handler cuts this wait short.
    mutex = ctypes.create_string_buffer(64)
    until = (ctypes.c_long * 2)(int(time.time() + seconds), 0)
    libc = ctypes.PyDLL(None)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_timedlock(mutex, until)


def burn_gil(seconds: float) -> None:
    """Compute in one C call that keeps the GIL and a core, for at least so long."""
    # The fastest of some samples: a sample that was disturbed would make the call too short.
    sample_s = min(timeit.repeat(lambda: sum(range(200_000)), repeat=20, number=1))
    sum(range(int(200_000 * seconds / sample_s)))


@agent.capability
async def block(mode: Literal["loop", "gil", "burn"], seconds: float) -> bool:
    """Block in the way and for the time that the caller names."""
    match mode:
        case "loop":
            time.sleep(seconds)  # noqa: ASYNC251 - the mistake that is measured
        case "gil":
            await asyncio.to_thread(hold_gil, seconds)
        case "burn":
            await asyncio.to_thread(burn_gil, seconds)
    return True


@agent.capability
def block_thread(seconds: float) -> bool:
    """Block a thread of the pool that runs sync capabilities."""
    time.sleep(seconds)
    return True


if __name__ == "__main__":
    agent.run()
