"""Run an author's ``on_startup`` and ``on_shutdown`` functions, in the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from inspect import isawaitable

from kagent_sdk.worker.parts import Hook
from kagent_sdk.worker.tracebacks import print_exception


async def run_startup(hooks: Iterable[Hook]) -> BaseException | None:
    """Run them in order up to the first that raises; return what it raised.

    A ``sys.exit()`` counts: it would otherwise leave through the event loop.
    """
    for hook in hooks:
        try:
            await _run(hook)
        except (Exception, SystemExit, asyncio.CancelledError) as exc:
            if is_cancelled_from_outside(exc):
                raise
            return exc
    return None


async def run_shutdown(hooks: Iterable[Hook]) -> None:
    """Run them all in order; one that raises is logged and does not keep the rest from running."""
    for hook in hooks:
        try:
            await _run(hook)
        except (Exception, SystemExit, asyncio.CancelledError) as exc:
            if is_cancelled_from_outside(exc):
                raise
            name = getattr(hook, "__qualname__", repr(hook))
            print_exception(f"on_shutdown function {name!r} failed:", exc)


def is_cancelled_from_outside(exc: BaseException) -> bool:
    """Tell whether this is the cancellation of the current job, not one that the author raised."""
    job = asyncio.current_task()
    return isinstance(exc, asyncio.CancelledError) and job is not None and job.cancelling() > 0


async def _run(hook: Hook) -> None:
    result = hook()
    if isawaitable(result):
        await result
