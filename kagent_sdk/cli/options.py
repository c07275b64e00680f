"""The options that commands share, and what they mean."""

from __future__ import annotations

import functools
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kagent_sdk.cli.boundary import report
from kagent_sdk.cli.location import local_target, remote_target
from kagent_sdk.cli.nats_location import find_nats
from kagent_sdk.cli.target import Credentials, Target
from kagent_sdk.errors import KagentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kagent_sdk.cli.client import AgentClient

    Command = Callable[..., int | None]

FOLDER = click.Path(path_type=Path)


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """Which agent a command talks to, and how it answers.

    Attributes:
        url: address of a remote agent; None to look into ``directory``.
        directory: folder of a local agent.
        credentials: what the caller names to be let in.
        as_json: answer for programs.
    """

    url: str | None
    directory: Path
    credentials: Credentials
    as_json: bool

    def connect(self) -> AgentClient:
        """Find the agent and return its client; nothing is sent yet.

        Raises:
            UnreachableError, UsageError: there is no such agent.
        """
        from kagent_sdk.cli.client import AgentClient  # noqa: PLC0415 - http.client, not for help

        if self.url is not None:
            return AgentClient(remote_target(self.url, self.credentials, os.environ))
        return AgentClient(local_target(self.directory, self.credentials, os.environ))

    def name_nats(self) -> Target | None:
        """Return the NATS server that ``--url`` names; None when it names none.

        Raises:
            UsageError: as with `find_nats`.
        """
        return None if self.url is None else self.find_nats()

    def find_nats(self) -> Target | None:
        """Return the NATS server to call through; None when the way is `connect`.

        Raises:
            UsageError: its address, or a file of the credentials, cannot be used.
        """
        return find_nats(self.url, self.directory, self.credentials, os.environ)


def agent_options(function: Command) -> Command:
    """Give a command ``--dir``, ``--url``, ``--json`` and what lets the caller in.

    The function's first argument becomes an `AgentOptions`; with ``--json`` its errors are JSON.
    """

    @functools.wraps(function)
    def wrapper(
        url: str | None,
        directory: Path,
        token_file: Path | None,
        client_cert: Path | None,
        *,
        as_json: bool,
        **arguments: object,
    ) -> int | None:
        options = AgentOptions(url, directory, Credentials(token_file, client_cert), as_json)
        return with_errors(lambda: function(options, **arguments), as_json=as_json)

    for option in reversed(_AGENT_OPTIONS):
        wrapper = option(wrapper)
    return json_option(wrapper)


def json_option(function: Command) -> Command:
    """Give a command ``--json``, as the argument ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for programs.")(
        function
    )


def with_errors(action: Callable[[], int | None], *, as_json: bool) -> int | None:
    """Run a command; with ``as_json`` an error of ours is JSON on stderr."""
    if not as_json:
        return action()
    try:
        return action()
    except KagentError as exc:
        return report(exc, as_json=True)


def is_terminal() -> bool:
    """Return whether a person looks at stdout."""
    return sys.stdout.isatty()


_AGENT_OPTIONS = (
    click.option(
        "-C",
        "--dir",
        "directory",
        type=FOLDER,
        default=".",
        help="Folder of the agent that runs on this machine; the current one if not given.",
    ),
    click.option(
        "--url",
        metavar="URL",
        help="Address of an agent or orchestrator somewhere else, or nats://HOST:PORT.",
    ),
    click.option(
        "--token-file",
        type=FOLDER,
        metavar="FILE",
        help="File with the agent's token; AGENT_TOKEN_FILE names it too.",
    ),
    click.option(
        "--client-cert",
        type=FOLDER,
        metavar="FILE",
        help="PEM file with a certificate and its key, for an agent that asks for one.",
    ),
)
