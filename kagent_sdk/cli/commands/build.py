"""kos-agent build."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kagent_sdk.cli.boundary import CommandError, UsageError
from kagent_sdk.cli.options import FOLDER, json_option, with_errors
from kagent_sdk.cli.output import print_json, say
from kagent_sdk.cli.text import clean_line
from kagent_sdk.deploy.build import BASE

if TYPE_CHECKING:
    from kagent_sdk.config.models import AgentConfig
    from kagent_sdk.deploy.deployment import Deployment

SCRATCH = Path("/var/tmp")  # noqa: S108 - a folder of its own is made there; /tmp is often memory
MAX_SHOWN = 12
"""Names of what was left out."""


@click.command("build")
@click.argument("directory", metavar="[DIR]", type=FOLDER, default=".")
@click.option("--engine", type=click.Choice(["podman", "buildah", "docker"]), help="With which.")
@click.option(
    "--tag", metavar="IMAGE", help="The image's name; NAME:VERSION of config.yaml if not given."
)
@click.option("--base", metavar="IMAGE", help=f"What it is made from; {BASE} if not given.")
@click.option("--network", metavar="NAME", help="Of the build's steps, such as none or host.")
@json_option
def command(
    directory: Path,
    engine: str | None,
    tag: str | None,
    base: str | None,
    network: str | None,
    *,
    as_json: bool,
) -> int | None:
    """Build the image of the agent in DIR.

    By its Dockerfile, if it has one; else requirements.txt is installed and the folder copied into
    kos/agent-base. Secrets, state, logs, .git, virtual environments and caches stay out of any image.
    """
    return with_errors(
        lambda: _build(directory, engine, tag, base, network, as_json=as_json), as_json=as_json
    )


def _build(
    directory: Path,
    engine: str | None,
    tag: str | None,
    base: str | None,
    network: str | None,
    *,
    as_json: bool,
) -> None:
    from kagent_sdk.cli.engines import BUILDERS, find_engine, size_of  # noqa: PLC0415 - not for help

    config, deployment = _read(directory, tag)
    folder = directory.resolve()
    engine = find_engine(engine, BUILDERS)
    started_at = time.monotonic()
    _make(folder, config, deployment, engine, base, network)
    took_s = time.monotonic() - started_at
    size = size_of(engine, deployment.image)
    if as_json:
        print_json({"image": deployment.image, "engine": engine, "size_bytes": size})
        return
    size_text = "" if size is None else f", {size / 1e6:.0f} MB"
    shown = clean_line(directory)
    where = "" if directory == Path() else f" {shown}"
    click.echo(
        f"built {deployment.image}{size_text}, in {took_s:.0f} s; "
        f"run it: kos-agent run{where} --isolation container" + (f" --image {tag}" if tag else "")
    )


def _read(directory: Path, tag: str | None) -> tuple[AgentConfig, Deployment]:
    """Return the agent's configuration and deployment: what is wrong there is said before the build."""
    from kagent_sdk.config import read_config  # noqa: PLC0415 - pydantic, not for the help
    from kagent_sdk.deploy.deployment import describe  # noqa: PLC0415
    from kagent_sdk.deploy.settings import read_settings  # noqa: PLC0415

    if not directory.is_dir():
        raise UsageError(f"there is no folder {clean_line(directory)}")
    # What this shell's AGENT_ variables say is for a run from this shell.
    environ = {name: os.environ[name] for name in ("AGENT_CONFIG",) if name in os.environ}
    config = read_config(directory.resolve(), environ=environ).config
    settings = read_settings([] if tag is None else [f"image={tag}"])
    return config, describe(config, directory.resolve().name, settings)


def _make(
    folder: Path,
    config: AgentConfig,
    deployment: Deployment,
    engine: str,
    base: str | None,
    network: str | None,
) -> None:
    from kagent_sdk.deploy.build import (  # noqa: PLC0415
        REQUIREMENTS,
        Build,
        build_command,
        dockerfile_text,
    )
    from kagent_sdk.deploy.context import find_dockerfile, find_exclusions, stage  # noqa: PLC0415

    own = find_dockerfile(folder)
    if own is not None and base is not None:
        raise UsageError(f"{own} says what the image is made from; change it there, not by --base")
    scratch = SCRATCH if "TMPDIR" not in os.environ and os.access(SCRATCH, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="kos-build-", dir=scratch) as temporary:
        context = Path(temporary, "context")
        exclusions = find_exclusions(folder, config, os.environ.get("AGENT_TOKEN_FILE"))
        left_out = stage(folder, context, exclusions)
        if left_out:
            more = len(left_out) - MAX_SHOWN
            shown = ", ".join(left_out[:MAX_SHOWN]) + (f" and {more} more" if more > 0 else "")
            say(f"left out: {clean_line(shown)}")
        dockerfile = Path(temporary, "Dockerfile") if own is None else context / own
        if own is None:
            path = context / REQUIREMENTS
            requirements = path.read_bytes() if path.is_file() else None
            dockerfile.write_text(dockerfile_text(base or BASE, requirements), encoding="utf-8")
        build = Build(engine, str(context), str(dockerfile), network)
        _run(build_command(deployment, build))


def _run(words: list[str]) -> None:
    sys.stderr.flush()
    try:
        # The engine's progress is no answer: that alone is for stdout.
        done = subprocess.run(words, check=False, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    except OSError as exc:
        raise CommandError(f"cannot run {words[0]}: {exc.strerror}") from exc
    if done.returncode != 0:
        raise CommandError(
            f"{words[0]} could not build the image (exit code {done.returncode}); "
            "what it said stands above"
        )
