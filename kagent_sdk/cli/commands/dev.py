"""kos-agent dev: run the agent and reload it when a file changes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from kagent_sdk.cli.launch import MAX_PORT, MAX_WORKERS, split_entrypoint


@click.command("dev")
@click.argument("directory", metavar="[DIR]", type=click.Path(path_type=Path), default=".")
@click.option("--host", metavar="ADDRESS", help="Address to listen on (http.host).")
@click.option(
    "--port", type=click.IntRange(0, MAX_PORT), help="Port; 0 takes a free one (http.port)."
)
@click.option(
    "--workers", type=click.IntRange(1, MAX_WORKERS), help="How many workers (worker.count)."
)
def command(directory: Path, host: str | None, port: int | None, workers: int | None) -> int:
    """Run the agent in DIR as run does, and reload it when one of its files changes.

    A change that does not work leaves the agent as it was, and says what is wrong. When the agent
    cannot even start, it is started again with the next change. Ctrl-C stops it.
    """
    from kagent_sdk.cli.development import Development  # noqa: PLC0415 - watchfiles

    folder, _ = split_entrypoint(directory)
    words = [str(directory.resolve())]
    for name, value in (("--host", host), ("--port", port), ("--workers", workers)):
        if value is not None:
            words += [name, str(value)]

    async def develop() -> int:
        return await Development(folder.resolve(), words).run()

    return asyncio.run(develop())
