"""From the words behind ``kos-agent run`` to a running host, without click.

Every agent starts this way, and click would be a tenth of what that takes until the first probe is
answered. So nothing here imports it before something is wrong.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kagent_sdk.errors import KagentError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_PORT = 65_535
MAX_WORKERS = 64


@dataclass(frozen=True, slots=True)
class Launch:
    """What ``kos-agent run`` is asked for.

    Attributes:
        path: the agent's folder, or its entrypoint.
        host, port, workers: of the configuration; None leaves it as it is.
    """

    path: Path = Path()
    host: str | None = None
    port: int | None = None
    workers: int | None = None


def read_launch(words: Sequence[str]) -> Launch | None:
    """Return what the words behind ``run`` ask for, or None when they are for click to read.

    Understands ``[DIR] [--host ADDRESS] [--port PORT] [--workers NUMBER]``, plainly spelled. Help,
    other spellings and all that is wrong are click's.
    """
    paths: list[str] = []
    options: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            paths.append(word)
            continue
        value = next(rest, "-")
        if word not in {"--host", "--port", "--workers"} or value.startswith("-"):
            return None
        options[word] = value
    port, workers = options.get("--port"), options.get("--workers")
    is_plain = _is_within(port, 0, MAX_PORT) and _is_within(workers, 1, MAX_WORKERS)
    if len(paths) > 1 or not is_plain:
        return None
    return Launch(
        Path(*paths),
        options.get("--host"),
        None if port is None else int(port),
        None if workers is None else int(workers),
    )


def start(launch: Launch) -> int:
    """Run the host until it is told to stop, and return the exit code.

    Raises:
        UsageError: there is nothing at the path.
        KagentError: see `kagent_sdk.host.main.run`.
    """
    folder, entrypoint = split_entrypoint(launch.path)
    chosen = {
        "http.host": launch.host,
        "http.port": launch.port,
        "worker.count": launch.workers,
        "entrypoint": entrypoint,
    }
    overrides: dict[str, Any] = {key: value for key, value in chosen.items() if value is not None}
    from kagent_sdk.host.main import run  # noqa: PLC0415 - help and usage errors need no host

    try:
        return run(folder, overrides)
    except KagentError:
        raise
    except Exception:
        # A bug of ours that may not come again: stderr is the agent's log, there it must stand.
        traceback.print_exc()
        raise


def split_entrypoint(path: Path) -> tuple[Path, str | None]:
    """Return the agent's folder, and its entrypoint when the path is one.

    Raises:
        UsageError: there is nothing at the path.
    """
    if path.is_dir():
        return path, None
    if path.is_file():
        return path.parent, path.name
    from kagent_sdk.cli.boundary import UsageError  # noqa: PLC0415 - imports click
    from kagent_sdk.cli.text import clean_line  # noqa: PLC0415

    raise UsageError(
        f"there is no agent at {clean_line(path)}; make one with: kos-agent init {clean_line(path)}"
    )


def _is_within(word: str | None, low: int, high: int) -> bool:
    if word is None:
        return True
    is_number = word.isascii() and word.isdigit() and len(word) <= len(str(high))
    return is_number and low <= int(word) <= high
