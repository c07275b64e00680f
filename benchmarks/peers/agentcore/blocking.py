"""Handlers that block, on bedrock-agentcore: `python blocking.py PORT MODE`.

An app has one entrypoint, async or plain, so the mode is chosen when it starts.
"""

# mypy: disable-error-code="import-not-found, no-untyped-call"

import ctypes
import sys
import time
import timeit
from typing import Any

from bedrock_agentcore.runtime import BedrockAgentCoreApp


async def block_loop(payload: dict[str, Any]) -> bool:
    """Block the loop that runs async entrypoints."""
    time.sleep(float(payload["seconds"]))  # noqa: ASYNC251 - the mistake that is measured
    return True


def block_thread(payload: dict[str, Any]) -> bool:
    """Block a thread of the pool that runs plain entrypoints."""
    time.sleep(float(payload["seconds"]))
    return True


def hold_gil(payload: dict[str, Any]) -> bool:
    """Wait in C without giving the GIL up, as a badly written extension does."""
    # A mutex that is locked already: unlike a sleep, no signal handler cuts this wait short.
    mutex = ctypes.create_string_buffer(64)
    until = (ctypes.c_long * 2)(int(time.time() + float(payload["seconds"])), 0)
    libc = ctypes.PyDLL(None)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_timedlock(mutex, until)
    return True


def burn_gil(payload: dict[str, Any]) -> bool:
    """Compute in one C call that keeps the GIL and a core, for at least so long."""
    # The fastest of some samples: a sample that was disturbed would make the call too short.
    sample_s = min(timeit.repeat(lambda: sum(range(200_000)), repeat=20, number=1))
    sum(range(int(200_000 * float(payload["seconds"]) / sample_s)))
    return True


MODES = {"loop": block_loop, "threads": block_thread, "gil": hold_gil, "burn": burn_gil}

if __name__ == "__main__":
    app = BedrockAgentCoreApp()
    app.entrypoint(MODES[sys.argv[2]])
    app.run(port=int(sys.argv[1]), host="127.0.0.1")
