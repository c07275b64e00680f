"""kos-agent sandbox export."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kagent_sdk.cli.boundary import UsageError
from kagent_sdk.cli.options import FOLDER, with_errors
from kagent_sdk.cli.text import clean_line, safe_json

if TYPE_CHECKING:
    from kagent_sdk.config import LoadedConfig
    from kagent_sdk.sandbox.policy import Policy

TARGETS = ("podman", "docker", "kubernetes", "seccomp", "bwrap")


@click.command("export")
@click.argument("directory", metavar="[DIR]", type=FOLDER, default=".")
@click.option("--for", "target", type=click.Choice(TARGETS), required=True, help="For whom.")
@click.option(
    "--seccomp", metavar="FILE", help="podman, docker: the profile that --for seccomp has made."
)
@click.option("--network", metavar="NAME", help="podman, docker: a network of the engine.")
def command(directory: Path, *, target: str, seccomp: str | None, network: str | None) -> None:
    """Print the policy of the agent in DIR as others are told it.

    podman and docker: flags for `run`. kubernetes: what belongs into a Pod's spec, as YAML. seccomp:
    a profile for engines, as JSON. bwrap: bubblewrap's arguments for a worker.
    """
    with_errors(lambda: _export(directory, target, seccomp, network), as_json=False)


def _export(directory: Path, target: str, seccomp: str | None, network: str | None) -> None:
    from kagent_sdk.config import read_config  # noqa: PLC0415 - pydantic, not for the help
    from kagent_sdk.host.confinement import find_confinement  # noqa: PLC0415
    from kagent_sdk.host.policy_checks import check_policy  # noqa: PLC0415

    if not directory.is_dir():
        raise UsageError(f"there is no folder {clean_line(directory)}")
    loaded = read_config(directory, environ=os.environ)
    confinement = find_confinement(directory, loaded.config, os.environ)
    check_policy(loaded, confinement)
    policy = confinement.policy(loaded.config)
    if target == "seccomp":
        from kagent_sdk.sandbox.seccomp.oci import oci_profile  # noqa: PLC0415 - for this alone

        click.echo(safe_json(oci_profile(policy, with_host=True), indent=2))
    elif target == "bwrap":
        click.echo(shlex.join(_bubblewrap(policy, confinement.directory)))
    else:
        _tell_engine(loaded, policy, confinement.directory, target, seccomp, network)


def _tell_engine(
    loaded: LoadedConfig,
    policy: Policy,
    directory: str,
    target: str,
    seccomp: str | None,
    network: str | None,
) -> None:
    from kagent_sdk.sandbox import export  # noqa: PLC0415 - as above

    vault = (Path(directory) / loaded.config.secrets.file).resolve()
    # The folder, where it is one of its own: what is mounted anew there is seen then.
    shown = vault if str(vault.parent) == directory else vault.parent
    mounts = export.find_mounts(policy, directory, str(shown) if vault.exists() else None)
    if target == "kubernetes":
        import yaml  # noqa: PLC0415 - for this alone

        click.echo(
            yaml.safe_dump(export.kubernetes_fragment(policy, mounts), sort_keys=False), nl=False
        )
        return
    flags = export.container_flags(
        policy, mounts, engine=target, seccomp_file=seccomp, network=network
    )
    click.echo(" \\\n".join(shlex.join(words) for words in _pairs(flags)))


def _bubblewrap(policy: Policy, directory: str) -> list[str]:
    from kagent_sdk.host.worker_start import find_link, is_folder  # noqa: PLC0415 - as above
    from kagent_sdk.sandbox.bubblewrap import make_arguments  # noqa: PLC0415

    return make_arguments(policy, directory, is_folder=is_folder, find_link=find_link)


def _pairs(flags: list[str]) -> list[list[str]]:
    """Return one list for each flag, its value with it."""
    pairs: list[list[str]] = []
    for word in flags:
        if word.startswith("-"):
            pairs.append([word])
        else:
            pairs[-1].append(word)
    return pairs
