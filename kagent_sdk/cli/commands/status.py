"""kos-agent status."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from kagent_sdk.cli.boundary import EXIT_FAILED, UnreachableError
from kagent_sdk.cli.options import AgentOptions, agent_options
from kagent_sdk.cli.output import make_console, print_json, print_screen
from kagent_sdk.cli.text import clean_line
from kagent_sdk.cli.watching import watch_json, watch_screen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import RenderableType


@click.command("status")
@click.option("--watch", is_flag=True, help="Keep showing it, once a second.")
@agent_options
def command(options: AgentOptions, *, watch: bool) -> int:
    """Show how the agent is doing; the exit code is 1 when it is not healthy.

    Of an orchestrator: its agents, their replicas, and the tasks of all of them. Of NATS: the agents that
    are linked to it.
    """
    with _open(options) as fetch:
        if watch:
            watch_json(fetch) if options.as_json else watch_screen(lambda: render_status(fetch()))
            return 0
        document = fetch()
    if options.as_json:
        print_json(document)
    else:
        print_screen(render_status(document))
    return 0 if is_live(document) else EXIT_FAILED


@contextmanager
def _open(options: AgentOptions) -> Iterator[Callable[[], dict[str, Any]]]:
    """Give what asks for the status. A mesh over NATS in a folder still has an orchestrator, which knows more."""
    target = options.name_nats()
    if target is None:
        client = options.connect()
        yield lambda: client.get("/status")
        return
    from kagent_sdk.cli.nats_session import open_session  # noqa: PLC0415 - asyncio
    from kagent_sdk.cli.nats_status import fetch_status  # noqa: PLC0415 - pydantic

    with open_session(target) as session:
        yield lambda: fetch_status(session).model_dump(mode="json")


def is_live(document: dict[str, Any]) -> bool:
    """Return whether a status document says that the agent is healthy."""
    if document.get("kind") == "nats":
        return True  # it has answered
    health = document.get("health")
    return isinstance(health, dict) and health.get("live") is True


def render_status(document: dict[str, Any]) -> RenderableType:
    """Return a status document as a screen.

    Raises:
        UnreachableError: it is none that this version can read.
    """
    from pydantic import ValidationError  # noqa: PLC0415 - not with --json

    try:
        if document.get("kind") == "nats":
            return _render_nats(document)
        if document.get("kind") is not None:
            return _render_mesh(document)
        return _render_agent(document)
    except ValidationError as exc:
        where = ".".join(str(part) for part in exc.errors()[0]["loc"])
        raise UnreachableError(
            f"this version cannot read the agent's status ({clean_line(where)}); see it with --json",
            code="unknown_status",
        ) from None


def _render_agent(document: dict[str, Any]) -> RenderableType:
    from kagent_sdk.cli.screens.status import status_screen  # noqa: PLC0415
    from kagent_sdk.protocol.status import Status  # noqa: PLC0415

    status = Status.model_validate(document)
    return status_screen(status, datetime.now(UTC), width=make_console().width)


def _render_mesh(document: dict[str, Any]) -> RenderableType:
    from kagent_sdk.cli.screens.mesh import mesh_screen  # noqa: PLC0415
    from kagent_sdk.protocol.mesh_status import MeshStatus  # noqa: PLC0415

    return mesh_screen(MeshStatus.model_validate(document))


def _render_nats(document: dict[str, Any]) -> RenderableType:
    from kagent_sdk.cli.screens.mesh import nats_screen  # noqa: PLC0415
    from kagent_sdk.protocol.mesh_status import NatsStatus  # noqa: PLC0415

    return nats_screen(NatsStatus.model_validate(document))
