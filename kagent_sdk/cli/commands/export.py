"""kos-agent export: what others are told of an agent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kagent_sdk.cli.boundary import CommandError, UsageError
from kagent_sdk.cli.options import FOLDER, with_errors
from kagent_sdk.cli.text import clean_line, nearest
from kagent_sdk.deploy.rendering import TARGETS, Rendering

if TYPE_CHECKING:
    from kagent_sdk.deploy.deployment import Deployment

PROGRAM_MODE = 0o755


@click.command("export")
@click.argument("target", metavar="TARGET")
@click.argument("directory", metavar="[DIR]", type=FOLDER, default=".")
@click.option("--set", "pairs", metavar="KEY=VALUE", multiple=True, help="What differs here.")
@click.option("--output", metavar="FOLDER", type=FOLDER, help="Write all files there.")
def command(
    target: str, directory: Path, *, pairs: tuple[str, ...], output: Path | None
) -> int | None:
    """Print manifests of the agent in DIR for TARGET.

    Targets are compose, docker-run, kubernetes, nsjail, oci-hook, quadlet and seccomp. All are made
    from config.yaml; what differs from one environment to the next is --set.
    """
    return with_errors(lambda: _export(target, directory, pairs, output), as_json=False)


def _export(target: str, directory: Path, pairs: tuple[str, ...], output: Path | None) -> None:
    if target not in TARGETS:
        near = nearest(target, TARGETS)
        way_out = f"did you mean '{near}'?" if near else f"they are {', '.join(TARGETS)}"
        raise UsageError(f"there is no target '{clean_line(target)}'; {way_out}")
    rendering = TARGETS[target].load().render(_describe(directory, pairs))
    if output is None:
        click.echo(rendering.files[rendering.main], nl=False)
        others = sorted(rendering.files.keys() - {rendering.main})
        if others:
            click.echo(f"also needed: {', '.join(others)}; --output FOLDER writes them", err=True)
    else:
        _write(rendering, output)
    for note in rendering.notes:
        click.echo(f"note: {note}", err=True)


def _describe(directory: Path, pairs: tuple[str, ...]) -> Deployment:
    from kagent_sdk.config import read_config  # noqa: PLC0415 - pydantic, not for the help
    from kagent_sdk.deploy.deployment import describe  # noqa: PLC0415
    from kagent_sdk.deploy.settings import read_settings  # noqa: PLC0415

    if not directory.is_dir():
        raise UsageError(f"there is no folder {clean_line(directory)}")
    settings = read_settings(pairs)
    directory = directory.resolve()
    # What this shell's AGENT_ variables say is for a run from this shell.
    environ = {name: os.environ[name] for name in ("AGENT_CONFIG",) if name in os.environ}
    return describe(read_config(directory, environ=environ).config, directory.name, settings)


def _write(rendering: Rendering, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in sorted(rendering.files.items()):
            path = folder / name
            path.write_text(text, encoding="utf-8")
            if name in rendering.programs:
                path.chmod(PROGRAM_MODE)
            click.echo(f"wrote {clean_line(path)}", err=True)
    except OSError as exc:
        raise CommandError(f"cannot write to {clean_line(folder)}: {exc.strerror}") from exc
