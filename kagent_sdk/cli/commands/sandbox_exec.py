"""kos-agent sandbox exec."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kagent_sdk.cli.boundary import CommandError
from kagent_sdk.cli.options import json_option, with_errors
from kagent_sdk.cli.text import clean_line, safe_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from kagent_sdk.sandbox.controls import Finding
    from kagent_sdk.sandbox.policy import Policy

EXIT_NO_PROGRAM = 127  # as shells have it
"""``sandbox exec``: there is no such program."""


@click.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("words", metavar="-- COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "--policy",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The section sandbox of a config.yaml; without it the defaults serve.",
)
@click.option("--keep-user", is_flag=True, help="Started by root: stay root, without its powers.")
@json_option
def command(
    words: tuple[str, ...], *, file: Path | None, keep_user: bool, as_json: bool
) -> int | None:
    """Run COMMAND as a worker of an agent in the present folder would run.

    It may read that folder, write its runtime/cache and runtime/data, and run what is installed. The
    exit code is the command's; 3 when it cannot be confined, 127 when there is no such program.
    """
    return with_errors(
        lambda: _execute(words, file, keep_user=keep_user, as_json=as_json), as_json=as_json
    )


def _execute(
    words: Sequence[str], file: Path | None, *, keep_user: bool, as_json: bool
) -> NoReturn:
    from kagent_sdk.sandbox.confine import confine  # noqa: PLC0415 - not for the help

    program = shutil.which(words[0])
    if program is None:
        raise CommandError(
            f"there is no program {clean_line(words[0])}",
            exit_code=EXIT_NO_PROGRAM,
            code="no_program",
        )
    findings = confine(_make_policy(file, program, keep_user=keep_user))
    _tell([finding for finding in findings if not finding.holds], as_json=as_json)
    sys.stdout.flush()
    try:
        os.execv(program, list(words))  # noqa: S606 - running the program is what it is for
    except OSError as exc:
        raise CommandError(
            f"cannot run {clean_line(program)}: {exc.strerror}",
            exit_code=EXIT_NO_PROGRAM,
            code="no_program",
        ) from exc


def _make_policy(file: Path | None, program: str, *, keep_user: bool) -> Policy:
    from kagent_sdk.config import AgentConfig, read_sandbox_file  # noqa: PLC0415 - pydantic
    from kagent_sdk.host.confinement import Confinement  # noqa: PLC0415
    from kagent_sdk.host.grounds import find_grounds, worker_search_path  # noqa: PLC0415
    from kagent_sdk.sandbox.policy import AGENT_ID  # noqa: PLC0415

    config = AgentConfig() if file is None else read_sandbox_file(file)
    becomes_agent = os.geteuid() == 0 and not keep_user
    confinement = Confinement(
        directory=os.path.realpath(Path.cwd()),
        grounds=find_grounds(worker_search_path()),
        user=AGENT_ID if becomes_agent else None,
    )
    policy = confinement.policy(config)
    return replace(policy, execute=(*policy.execute, os.path.realpath(program)))


def _tell(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Say what does not hold; stdout is the program's."""
    if as_json and findings:
        click.echo(safe_json({"findings": [asdict(finding) for finding in findings]}), err=True)
        return
    for finding in findings:
        way_out = f"; {finding.way_out}" if finding.way_out else ""
        click.echo(
            f"sandbox: {finding.control}: {finding.verdict}: {finding.actual}{way_out}", err=True
        )
