"""kos-agent export: what others are told of an agent."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kagent_sdk.cli.boundary import EXIT_FAILED, CommandError, UsageError
from kagent_sdk.cli.manifest_files import beside, read_manifest
from kagent_sdk.cli.options import FOLDER, json_option, with_errors
from kagent_sdk.cli.output import make_console, print_json, print_screen
from kagent_sdk.cli.text import clean_line, nearest
from kagent_sdk.deploy.rendering import TARGETS, Rendering
from kagent_sdk.errors import DeployError

if TYPE_CHECKING:
    from kagent_sdk.deploy.deployment import Deployment
    from kagent_sdk.deploy.lockdown.loosening import Loosening

    Findings = tuple[Loosening, ...]

PROGRAM_MODE = 0o755


@click.command("export")
@click.argument("target", metavar="TARGET")
@click.argument("directory", metavar="[DIR]", type=FOLDER, default=".")
@click.option("--set", "pairs", metavar="KEY=VALUE", multiple=True, help="What differs here.")
@click.option("--output", metavar="FOLDER", type=FOLDER, help="Write all files there.")
@click.option("--check", "file", metavar="FILE", help="Compare FILE (- is stdin) instead.")
@json_option
def command(
    target: str,
    directory: Path,
    *,
    pairs: tuple[str, ...],
    output: Path | None,
    file: str | None,
    as_json: bool,
) -> int | None:
    """Print manifests of the agent in DIR for TARGET.

    Targets are compose, docker-run, kubernetes, nsjail, oci-hook, quadlet and seccomp. All are made
    from config.yaml; what differs from one environment to the next is --set.

    With --check an existing manifest is compared with the policy. The exit code is 0 when it loosens
    nothing, 1 when it does, and 2 when it cannot be read.
    """
    if file is None:
        if as_json:
            raise UsageError("--json is for --check: what is exported has a format of its own")
        _export(target, directory, pairs, output)
        return None
    if output is not None:
        raise UsageError("--output is for manifests; --check writes none")

    def compare() -> int:
        findings = _check(target, directory, pairs, file)
        return _show(target, file, findings, as_json=as_json)

    return with_errors(compare, as_json=as_json)


def _export(target: str, directory: Path, pairs: tuple[str, ...], output: Path | None) -> None:
    _look_up(target)
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


def _check(target: str, directory: Path, pairs: tuple[str, ...], file: str) -> Findings:
    from kagent_sdk.deploy.lockdown.check import check  # noqa: PLC0415 - yaml, not for the help

    _look_up(target)
    wanted = _describe(directory, pairs)
    text = read_manifest(file)
    try:
        return check(target, text, wanted, beside(file))
    except DeployError as exc:
        raise UsageError(f"{clean_line(file)}: {clean_line(exc)}") from None


def _show(target: str, file: str, findings: Findings, *, as_json: bool) -> int:
    if as_json:
        documents = [asdict(finding) for finding in findings]
        document = {"target": target, "file": file, "holds": not findings, "findings": documents}
        print_json(document)
    else:
        from kagent_sdk.cli.screens.loosenings import loosening_screen  # noqa: PLC0415 - rich

        print_screen(loosening_screen(target, file, findings, width=make_console().width))
    return EXIT_FAILED if findings else 0


def _look_up(target: str) -> None:
    if target not in TARGETS:
        near = nearest(target, TARGETS)
        way_out = f"did you mean '{near}'?" if near else f"they are {', '.join(TARGETS)}"
        raise UsageError(f"there is no target '{clean_line(target)}'; {way_out}")


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
