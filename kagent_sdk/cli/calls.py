"""How a called task reaches its agent: over HTTP, or through NATS."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from kagent_sdk.cli.client import AgentClient
    from kagent_sdk.cli.options import AgentOptions
    from kagent_sdk.cli.task_stream import TaskUpdate

CANCEL_TIMEOUT_S = 5.0


class Calls(Protocol):
    """What `kos-agent call` and `kos-agent capabilities` need. All methods raise `CommandError`."""

    def start(self, document: dict[str, Any]) -> dict[str, Any]:
        """Send a task, and return it as it is then."""
        ...

    def send(self, document: dict[str, Any]) -> Generator[TaskUpdate]:
        """Send a task and yield what happens to it; the last update is the finished task."""
        ...

    def cancel(self, task_id: str) -> None:
        """Cancel a task that this has sent; it does not wait for its end."""
        ...

    def capabilities(self) -> list[dict[str, Any]]:
        """Return all capabilities, with ``agent`` where there are several agents."""
        ...

    def follow_hint(self, task_id: str) -> str:
        """Say how to follow a task that was only started."""
        ...


class HttpCalls:
    """Calls of an agent, or of an orchestrator."""

    def __init__(self, client: AgentClient) -> None:
        self._client = client

    def start(self, document: dict[str, Any]) -> dict[str, Any]:
        """See `Calls.start`."""
        return self._client.post("/v1/tasks", document, {"Prefer": "respond-async"})

    def send(self, document: dict[str, Any]) -> Generator[TaskUpdate]:
        """See `Calls.send`."""
        from kagent_sdk.cli.task_stream import send_task  # noqa: PLC0415 - not for --async

        return send_task(self._client, document)

    def cancel(self, task_id: str) -> None:
        """See `Calls.cancel`."""
        from kagent_sdk.cli.client import path_of  # noqa: PLC0415 - http.client comes with connect()

        path = f"{path_of('v1', 'tasks', task_id)}/cancel"
        self._client.request("POST", path, b"", timeout_s=CANCEL_TIMEOUT_S)

    def capabilities(self) -> list[dict[str, Any]]:
        """See `Calls.capabilities`."""
        listed = self._client.get("/v1/capabilities").get("capabilities")
        return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []

    def follow_hint(self, task_id: str) -> str:
        """See `Calls.follow_hint`."""
        return f"follow it: kos-agent tasks {task_id} --watch"


@contextmanager
def open_calls(options: AgentOptions) -> Iterator[Calls]:
    """Give the calls of what a command's options name.

    Raises:
        UnreachableError, UsageError: there is none.
    """
    target = options.find_nats()
    if target is None:
        yield HttpCalls(options.connect())
        return
    from kagent_sdk.cli.nats_calls import open_nats  # noqa: PLC0415 - asyncio, and the client of NATS

    with open_nats(target) as calls:
        yield calls
