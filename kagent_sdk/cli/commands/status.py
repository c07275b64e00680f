"""kos-agent status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kagent_sdk.cli.boundary import EXIT_FAILED, UnreachableError
from kagent_sdk.cli.options import AgentOptions, agent_options
from kagent_sdk.cli.output import print_json, print_screen

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.command("status")
@click.option("--watch", is_flag=True, help="Keep showing it, once a second.")
@agent_options
def command(options: AgentOptions, *, watch: bool) -> int:
    """Show how the agent is doing; the exit code is 1 when it is not healthy."""
    client = options.connect()

    def fetch() -> dict[str, Any]:
        return client.get("/status")

    def render() -> RenderableType:
        from kagent_sdk.cli.screens.status import status_screen  # noqa: PLC0415 - rich

        return status_screen(parse_status(fetch()))

    from kagent_sdk.cli.watching import watch_json, watch_screen  # noqa: PLC0415

    if watch:
        watch_json(fetch) if options.as_json else watch_screen(render)
    document = fetch()
