"""kos-agent sandbox egress: the egress proxy alone, for a container of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kagent_sdk.cli.boundary import UsageError
from kagent_sdk.cli.options import FOLDER, with_errors
from kagent_sdk.cli.text import clean_line

if TYPE_CHECKING:
    from kagent_sdk.host.signals import EarlySignals

MAX_PORT = 65535


@click.command("egress")
@click.argument("directory", metavar="[DIR]", type=FOLDER, default=".")
@click.option(
    "--listen",
    "where",
    metavar="ADDRESS:PORT",
    default="127.0.0.1:3128",
    show_default=True,
    help="Where to listen; port 0 takes a free one.",
)
def command(directory: Path, *, where: str) -> int | None:
    """Run the egress proxy of the agent in DIR alone, without a token.

    It connects to what sandbox.network.allow in DIR's config.yaml lists, for whoever reaches its port:
    its network must be the agent's and its own alone. It has no vault. Every decision is a line of JSON
    on stdout. SIGTERM ends it.
    """
    from kagent_sdk.host.signals import EarlySignals  # noqa: PLC0415 - not for the help

    # First: as PID 1 a process without a handler does not hear SIGTERM at all.
    signals = EarlySignals()
    signals.install()
    return with_errors(lambda: _run(directory, where, signals), as_json=False)


def parse_listen(text: str) -> tuple[str, int]:
    """Return address and port of ``ADDRESS:PORT``; an IPv6 address has brackets.

    Raises:
        UsageError: it is none. A name is none: it could lead to more than was meant.
    """
    host, _, digits = text.rpartition(":")
    port = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 5 else -1
    is_bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if is_bracketed else host
    try:
        address = ip_address(host)
    except ValueError:
        address = None
    is_whole = address is not None and (address.version == 6) == is_bracketed and "%" not in host
    if not is_whole or not 0 <= port <= MAX_PORT:
        raise UsageError(
            f"--listen {clean_line(text)} is no address and port, such as 0.0.0.0:3128 or [::]:3128"
        )
    return str(address), port


def _run(directory: Path, where: str, signals: EarlySignals) -> int:
    from kagent_sdk.config import read_config  # noqa: PLC0415 - pydantic, not for the help
    from kagent_sdk.host import egress_alone  # noqa: PLC0415
    from kagent_sdk.host.json_output import JsonOutput  # noqa: PLC0415

    host, port = parse_listen(where)
    if not directory.is_dir():
        raise UsageError(f"there is no folder {clean_line(directory)}")
    config = read_config(directory, environ=os.environ).config
    if not config.sandbox.network.allow:
        raise UsageError(
            "nothing could pass: sandbox.network.allow in config.yaml lists no destination"
        )
    access = egress_alone.access_of(config)
    with egress_alone.listen(host, port) as listener:
        missing = egress_alone.confine_alone(directory, config, os.environ, listener)
        output = JsonOutput(sys.stdout.fileno())
        output.start()
        if missing:
            output.log("warning", "egress_not_confined", controls=missing)
        asyncio.run(egress_alone.serve(access, egress_alone.Stand(listener, output, signals)))
        output.close()
    return 0
