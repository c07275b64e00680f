"""From a command line to a running orchestrator, with a fleet or alone: tokens, signals, the end."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from kagent_sdk.errors import ConfigError, KagentError
from kagent_sdk.host.secret_file import read_secret_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kagent_sdk.orchestrator.service import Service

MAX_TOKEN_BYTES = 4096
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""A terminal that is closed is no reason to leave agents behind."""


def read_token(path: Path | None, option: str) -> str | None:
    """Return the token in a file that somebody named; None when nobody did.

    Raises:
        ConfigError: it is none, or open to others.
    """
    if path is None:
        return None
    from kagent_sdk.host.http.auth import check_token  # noqa: PLC0415 - pydantic; few name a file

    content = read_secret_file(path, f"the file of {option}", MAX_TOKEN_BYTES)
    if content is None:
        raise ConfigError(f"the file of {option} does not exist: {path}")
    return check_token(content.decode("utf-8", "replace").strip(), f"the file of {option}")


def run_service(service: Service, *, on_hurry: Callable[[], None]) -> int:
    """Run an orchestrator until it is told to stop, and return the exit code.

    The first signal begins the shutdown, later ones hurry it more and more.

    Args:
        service: of the orchestrator.
        on_hurry: called on the loop at every signal behind the first.

    Raises:
        KagentError: it cannot start, or go on.
    """
    try:
        asyncio.run(_serve(service, on_hurry))
    except BaseExceptionGroup as group:
        # Of several errors the first of ours says it; a bug among them is worth its traceback.
        ours, others = group.split(KagentError)
        if ours is None or others is not None:
            raise
        raise _first_of(ours) from group
    return 0


async def _serve(service: Service, on_hurry: Callable[[], None]) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            on_hurry()
        stop.set()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal)
    await service.run(stop)


def _first_of(group: BaseExceptionGroup[KagentError]) -> KagentError:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, KagentError)
    return found
