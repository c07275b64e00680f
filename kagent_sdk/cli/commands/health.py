"""kos-agent health: the images' HEALTHCHECK, so it starts fast and says all by its exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kagent_sdk.cli.boundary import EXIT_FAILED, UnreachableError, say_error
from kagent_sdk.cli.options import AgentOptions, agent_options
from kagent_sdk.cli.output import print_json
from kagent_sdk.cli.text import clean_line

if TYPE_CHECKING:
    from kagent_sdk.cli.client import Answer


@click.command("health")
@click.option(
    "--ready", is_flag=True, help="Ask whether it takes tasks, not only whether it lives."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.1, 600),
    default=5,
    show_default=True,
    help="Seconds to wait for an answer.",
)
@agent_options
def command(options: AgentOptions, *, ready: bool, timeout_s: float) -> int:
    """Exit with 0 if the agent is healthy and with 1 if it is not, or is not there."""
    name = "ready" if ready else "healthy"
    reason = _probe(options, "/readyz" if ready else "/healthz", timeout_s)
    if options.as_json:
        print_json({name: reason is None, "reason": reason})
    elif reason is None:
        click.echo(name)
    else:
        say_error(f"not {name}: {reason}")
    return 0 if reason is None else EXIT_FAILED


def _probe(options: AgentOptions, path: str, timeout_s: float) -> str | None:
    """Return why the agent is not well, or None when it is."""
    try:
        answer = options.connect().request("GET", path, timeout_s=timeout_s)
    except UnreachableError as exc:
        # Not exit code 3: to a container engine there is 0, and there is 1.
        return clean_line(exc)
    return reason_of(answer) if answer.is_error else None


def reason_of(answer: Answer) -> str:
    """Return why a probe says no, from whatever it answered."""
    try:
        document = answer.json()
    except ValueError:
        document = None
    if isinstance(document, dict):
        for key in ("detail", "reason", "status", "title"):
            if isinstance(document.get(key), str) and document[key]:
                return clean_line(document[key])
    return f"status {answer.status}"
