"""kos-agent version."""

from __future__ import annotations

import platform

import click

from kagent_sdk import __version__
from kagent_sdk.cli.options import json_option
from kagent_sdk.cli.output import print_json


@click.command("version")
@json_option
def command(*, as_json: bool) -> None:
    """Print the versions of kagent-sdk and Python, and the platform."""
    versions = {
        "sdk": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system().lower()}-{platform.machine()}",
    }
    if as_json:
        print_json(versions)
        return
    click.echo(f"kagent-sdk {versions['sdk']}")
    click.echo(f"python {versions['python']} on {versions['platform']}")
