"""kos-agent doctor: what of the sandbox is in force, and what to do about the rest."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kagent_sdk.cli.boundary import EXIT_FAILED, UnreachableError, UsageError
from kagent_sdk.cli.location import HOST_FILE
from kagent_sdk.cli.options import FOLDER, AgentOptions, agent_options
from kagent_sdk.cli.output import make_console, print_json, print_screen
from kagent_sdk.cli.text import clean_line

if TYPE_CHECKING:
    from kagent_sdk.protocol.sandbox import EgressDenial, SandboxInfo

WAIT_S = 30.0
"""An agent audits itself a second after its start."""
POLL_S = 0.25


@click.command("doctor")
@click.argument("folder", metavar="[DIR]", type=FOLDER, required=False)
@agent_options
def command(options: AgentOptions, *, folder: Path | None) -> int:
    """Show what of the sandbox is in force, for the agent in DIR or at --url.

    A running agent is asked. Where none runs a probe is confined by what its config.yaml says, and
    tries what it should not be able to do. The exit code is 0 when all that is critical holds, else 1.
    """
    if folder is not None:
        options = replace(options, directory=folder)
    status = _ask_agent(options)
    if status is None:
        document, source = {"sandbox": _ask_probe(options.directory)}, "probe"
    else:
        document, source = status, "agent"
    info, denials = _read(document)
    if options.as_json:
        print_json(
            {
                "source": source,
                **info.model_dump(mode="json"),
                "denials": [denial.model_dump(mode="json") for denial in denials],
            }
        )
    else:
        from kagent_sdk.cli.screens.sandbox import denial_part, doctor_screen  # noqa: PLC0415 - rich

        now, width = datetime.now(UTC), make_console().width
        print_screen(doctor_screen(info, now, source=source, width=width))
        if denials:
            print_screen(denial_part(denials, now))
    return 0 if info.holds else EXIT_FAILED


def _ask_agent(options: AgentOptions) -> dict[str, Any] | None:
    """Return the status of a running agent, waiting for its audit; None where none runs."""
    if options.url is None:
        if not options.directory.is_dir():
            raise UsageError(f"there is no folder {clean_line(options.directory)}")
        if not (options.directory / HOST_FILE).exists():
            return None
    try:
        client = options.connect()
    except UnreachableError as exc:
        if exc.code == "not_running":
            return None
        raise
    give_up_at = time.monotonic() + WAIT_S
    while True:
        status = client.get("/status")
        document = status.get("sandbox")
        if not isinstance(document, dict):
            raise UnreachableError(
                "the agent's release has no audit; install a newer kagent-sdk there",
                code="no_audit",
            )
        if document.get("checked_at") is not None:
            return status
        if time.monotonic() > give_up_at:
            raise UnreachableError(
                "the agent has not audited itself; its log says why (kos-agent logs)",
                code="no_audit",
            )
        time.sleep(POLL_S)


def _ask_probe(directory: Path) -> dict[str, Any]:
    from kagent_sdk.host.inspection import audit_folder  # noqa: PLC0415 - what a probe needs

    return audit_folder(directory, os.environ)


def _read(document: dict[str, Any]) -> tuple[SandboxInfo, tuple[EgressDenial, ...]]:
    from pydantic import ValidationError  # noqa: PLC0415 - not for the help

    from kagent_sdk.protocol.sandbox import EgressInfo, SandboxInfo  # noqa: PLC0415

    try:
        info = SandboxInfo.model_validate(document["sandbox"])
        return info, EgressInfo.model_validate(document.get("egress") or {}).denials
    except ValidationError as exc:
        where = ".".join(str(part) for part in exc.errors()[0]["loc"])
        raise UnreachableError(
            f"this version cannot read the agent's audit ({clean_line(where)}); "
            "see it with kos-agent status --json",
            code="unknown_status",
        ) from None
