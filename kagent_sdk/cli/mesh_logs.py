"""The logs of agents that an orchestrator has started, as it hands them out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kagent_sdk.cli.boundary import UnreachableError, UsageError
from kagent_sdk.cli.client import AgentClient, path_of
from kagent_sdk.cli.location import mesh_target, remote_target, show_path
from kagent_sdk.cli.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kagent_sdk.cli.options import AgentOptions

MAX_LINES = 10_000
"""Of a log that one request brings, the last ones."""


def find_orchestrator(options: AgentOptions) -> AgentClient:
    """Return the client of the orchestrator, where a folder may also hold an agent.

    Raises:
        UnreachableError, UsageError: there is none.
    """
    if options.url is not None:
        return AgentClient(remote_target(options.url, options.credentials, os.environ))
    target = mesh_target(options.directory, options.credentials, os.environ)
    if target is None:
        raise UnreachableError(
            f"no orchestrator is running in {show_path(options.directory)}; name its folder with "
            "-C DIR, or its address with --url URL",
            code="not_running",
        )
    return AgentClient(target)


class RemoteLog:
    """The end of the log of one replica of an agent.

    Args:
        client: of the orchestrator that has started the agent.
        name: of the agent, or ``NAME/N`` for one replica.

    Raises:
        UsageError: it is not of that form.
    """

    def __init__(self, client: AgentClient, name: str) -> None:
        agent, slash, number = name.partition("/")
        if not agent or (slash and not (number.isascii() and number.isdecimal())):
            raise UsageError(
                f"'{clean_line(name)}' is no agent; write NAME, or NAME/N for one of its replicas"
            )
        query = f"lines={MAX_LINES}" + (f"&replica={int(number[:9])}" if slash else "")
        self._client = client
        self._path = f"{path_of('v1', 'fleet', agent, 'logs')}?{query}"
        self._seen: Sequence[bytes] = ()

    def read(self) -> list[bytes]:
        """Return the last lines.

        Raises:
            ProblemError: there is no such agent or replica.
            UnreachableError: the orchestrator does not answer.
        """
        answer = self._client.request("GET", self._path)
        if answer.is_error:
            self._client.answered(answer)
        # A line that has no end yet comes whole the next time.
        lines = answer.body.rpartition(b"\n")[0].split(b"\n") if b"\n" in answer.body else []
        self._seen = lines
        return lines

    def read_new(self) -> Sequence[bytes]:
        """Return the lines that have come since the last time; for the errors see `read`."""
        before = self._seen
        return new_lines(before, self.read())


def new_lines(before: Sequence[bytes], after: Sequence[bytes]) -> Sequence[bytes]:
    """Return what stands in ``after`` behind the end of ``before``; all of it if that is not there."""
    if not before:
        return after
    for end in range(len(after), 0, -1):
        size = min(end, len(before))
        if after[end - 1] == before[-1] and after[end - size : end] == before[-size:]:
            return after[end:]
    return after
