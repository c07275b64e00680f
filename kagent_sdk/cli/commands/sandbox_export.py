"""kos-agent sandbox export."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from kagent_sdk.cli.boundary import UsageError
from kagent_sdk.cli.options import FOLDER, with_errors
from kagent_sdk.cli.text import clean_line

TARGETS = ("bwrap",)
MOVED = {
    "podman": "docker-run",
    "docker": "docker-run --set engine=docker",
    "kubernetes": "kubernetes",
    "seccomp": "seccomp",
}
"""What once stood here, and `kos-agent export` has now."""


@click.command("export")
@click.argument("directory", metavar="[DIR]", type=FOLDER, default=".")
@click.option("--for", "target", metavar="[bwrap]", default="bwrap", help="For whom.")
def command(directory: Path, *, target: str) -> None:
    """Print bubblewrap's arguments for a worker of the agent in DIR.

    For container engines and Kubernetes see: kos-agent export.
    """
    with_errors(lambda: _export(directory, target), as_json=False)


def _export(directory: Path, target: str) -> None:
    from kagent_sdk.config import read_config  # noqa: PLC0415 - pydantic, not for the help
    from kagent_sdk.host.confinement import find_confinement  # noqa: PLC0415
    from kagent_sdk.host.policy_checks import check_policy  # noqa: PLC0415
    from kagent_sdk.host.worker_start import find_link, is_folder  # noqa: PLC0415
    from kagent_sdk.sandbox.bubblewrap import make_arguments  # noqa: PLC0415

    if target in MOVED:
        raise UsageError(f"that is now: kos-agent export {MOVED[target]} {clean_line(directory)}")
    if target not in TARGETS:
        raise UsageError(f"there is nothing for '{clean_line(target)}'; only for bwrap")
    if not directory.is_dir():
        raise UsageError(f"there is no folder {clean_line(directory)}")
    loaded = read_config(directory, environ=os.environ)
    confinement = find_confinement(directory, loaded.config, os.environ)
    check_policy(loaded, confinement)
    policy = confinement.policy(loaded.config)
    arguments = make_arguments(
        policy, confinement.directory, is_folder=is_folder, find_link=find_link
    )
    click.echo(shlex.join(arguments))
