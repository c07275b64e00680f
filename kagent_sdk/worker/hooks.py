"""Run an author's ``on_startup`` and ``on_shutdown`` functions."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import isawaitable

from kagent_sdk.worker.parts import Hook
from kagent_sdk.worker.tracebacks import print_exception


async def run_startup(hooks: Iterable[Hook]) -> None:
    """Run them in order, in the event loop; what one raises ends it."""
    for hook in hooks:
        await _run(hook)


async def run_shutdown(hooks: Iterable[Hook]) -> None:
    """Run them all in order, in the event loop; one that raises is logged and does not stop the rest."""
    for hook in hooks:
        try:
            await _run(hook)
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - the boundary: logged
            name = getattr(hook, "__qualname__", repr(hook))
            print_exception(f"on_shutdown function {name!r} failed:", exc)


async def _run(hook: Hook) -> None:
    result = hook()
    if isawaitable(result):
        await result
