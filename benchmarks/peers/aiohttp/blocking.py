"""Handlers that block, on bare aiohttp: `python blocking.py PORT`."""

import asyncio
import ctypes
import sys
import time
import timeit

from aiohttp import web


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


async def block(request: web.Request) -> web.Response:
    """Block in the way and for the time that the body names."""
    order = await request.json()
    seconds = float(order["seconds"])
    match order["mode"]:
        case "loop":
            time.sleep(seconds)  # noqa: ASYNC251 - the mistake that is measured
        case "threads":
            await asyncio.to_thread(time.sleep, seconds)
        case "gil":
            await asyncio.to_thread(hold_gil, seconds)
        case "burn":
            await asyncio.to_thread(burn_gil, seconds)
        case _:
            raise web.HTTPUnprocessableEntity
    return web.Response(text="true", content_type="application/json")


async def healthz(_request: web.Request) -> web.Response:
    """Answer a probe."""
    return web.Response(text="ok")


def main() -> None:
    """Serve on the port that the command line names."""
    app = web.Application()
    app.router.add_post("/block", block)
    app.router.add_get("/healthz", healthz)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


if __name__ == "__main__":
    main()
