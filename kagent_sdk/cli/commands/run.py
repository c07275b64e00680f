"""kos-agent run: the host. On the start-up budget of every agent: imports nothing it can do without."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import click

from kagent_sdk.cli.boundary import UsageError
from kagent_sdk.cli.text import clean_line
from kagent_sdk.errors import KagentError


@click.command("run")
@click.argument("directory", metavar="[DIR]", type=click.Path(path_type=Path), default=".")
@click.option("--host", metavar="ADDRESS", help="Address to listen on (http.host).")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 takes a free one (http.port).")
@click.option("--workers", type=click.IntRange(1, 64), help="How many workers (worker.count).")
def command(directory: Path, host: str | None, port: int | None, workers: int | None) -> int:
    """Run the agent in DIR until it is told to stop.

    DIR is the folder with entrypoint.py and config.yaml; the current one if it is not given. It may
    also be the path of an entrypoint. The options win over config.yaml and the environment.
    """
    folder, entrypoint = split_entrypoint(directory)
    chosen = overrides(host=host, port=port, workers=workers, entrypoint=entrypoint)
    from kagent_sdk.host.main import run  # noqa: PLC0415 - help and usage errors need no host

    try:
        return run(folder, chosen)
    except (KagentError, click.ClickException):
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
    raise UsageError(
        f"there is no agent at {clean_line(path)}; make one with: kos-agent init {clean_line(path)}"
    )


def overrides(
    *, host: str | None, port: int | None, workers: int | None, entrypoint: str | None
) -> dict[str, Any]:
    """Return the keys of the configuration that the command line sets, with dots."""
    chosen = {
        "http.host": host,
        "http.port": port,
        "worker.count": workers,
        "entrypoint": entrypoint,
    }
    return {key: value for key, value in chosen.items() if value is not None}
