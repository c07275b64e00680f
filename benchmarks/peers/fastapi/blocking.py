"""Handlers that block, on FastAPI and uvicorn: `python blocking.py PORT`."""

# mypy: disable-error-code="import-not-found, untyped-decorator"

import asyncio
import ctypes
import sys
import time
import timeit
from typing import Literal

import uvicorn
from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel


class Order(BaseModel):
    """How to block, and how long."""

    mode: Literal["loop", "threads", "gil", "burn"]
    seconds: float


app = FastAPI()


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


@app.post("/block")
async def block(order: Order) -> bool:
    """Block in the way and for the time that the body names."""
    match order.mode:
        case "loop":
            time.sleep(order.seconds)  # noqa: ASYNC251 - the mistake that is measured
        case "threads":
            await run_in_threadpool(time.sleep, order.seconds)
        case "gil":
            await asyncio.to_thread(hold_gil, order.seconds)
        case "burn":
            await asyncio.to_thread(burn_gil, order.seconds)
    return True


@app.get("/healthz")
async def healthz() -> str:
    """Answer a probe."""
    return "ok"


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False, log_level="warning")
