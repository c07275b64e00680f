"""kos-agent run: the host, for the command lines that `kagent_sdk.cli.launch` leaves to click."""

from __future__ import annotations

from pathlib import Path

import click

from kagent_sdk.cli.launch import MAX_PORT, MAX_WORKERS, Launch, start


@click.command("run")
@click.argument("directory", metavar="[DIR]", type=click.Path(path_type=Path), default=".")
@click.option("--host", metavar="ADDRESS", help="Address to listen on (http.host).")
@click.option(
    "--port", type=click.IntRange(0, MAX_PORT), help="Port; 0 takes a free one (http.port)."
)
@click.option(
    "--workers", type=click.IntRange(1, MAX_WORKERS), help="How many workers (worker.count)."
)
def command(directory: Path, host: str | None, port: int | None, workers: int | None) -> int:
    """Run the agent in DIR until it is told to stop.

    DIR is the folder with entrypoint.py and config.yaml; the current one if it is not given. It may
    also be the path of an entrypoint. The options win over config.yaml and the environment.
    """
    return start(Launch(directory, host, port, workers))
