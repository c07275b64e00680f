"""kos-agent run: the host, for the command lines that `kagent_sdk.cli.launch` leaves to click.

With ``--isolation container`` it is the engine's `run`, and the host is inside.
"""

from __future__ import annotations

from pathlib import Path

import click

from kagent_sdk.cli.boundary import UsageError
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
@click.option(
    "--isolation",
    type=click.Choice(["process", "container"]),
    default="process",
    help="container: in the image that kos-agent build makes, with every flag of the policy.",
)
@click.option("--image", metavar="IMAGE", help="container: another image than NAME:VERSION.")
@click.option("--engine", type=click.Choice(["podman", "docker"]), help="container: with which.")
@click.option("--network", metavar="NAME", help="container: a network of the engine.")
@click.option("--name", metavar="NAME", help="container: its name, if not the agent's.")
def command(
    directory: Path,
    host: str | None,
    port: int | None,
    workers: int | None,
    isolation: str,
    **wishes: str | None,
) -> int:
    """Run the agent in DIR until it is told to stop.

    DIR is the folder with entrypoint.py and config.yaml; the current one if it is not given. It may
    also be the path of an entrypoint. The options win over config.yaml and the environment.
    """
    launch = Launch(directory, host, port, workers)
    if isolation == "container":
        from kagent_sdk.cli.container_run import Wishes, run_container  # noqa: PLC0415 - few need it

        return run_container(launch, Wishes(**wishes))
    for option, value in wishes.items():
        if value is not None:
            raise UsageError(f"--{option} is for --isolation container")
    return start(launch)
