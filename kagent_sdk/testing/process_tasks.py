"""The tasks of an agent that runs in processes of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from kagent_sdk.testing.process_client import error_in

if TYPE_CHECKING:
    from kagent_sdk.testing.process_client import ProcessClient

WAIT_S = 30


class ProcessTasks:
    """``/v1/tasks`` of an agent; a task is the document that a caller over HTTP gets.

    Args:
        client: the way to the agent.
    """

    def __init__(self, client: ProcessClient) -> None:
        self._client = client

    async def submit(
        self,
        capability: str,
        input: object = None,
        *,
        id: str | None = None,
        timeout_s: float | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Send a task and return it once it is journaled, without waiting for its end.

        Raises:
            TaskError: it was not taken.
        """
        body = {
            "id": id,
            "capability": capability,
            "input": {} if input is None else input,
            "timeout_s": timeout_s,
            "metadata": metadata,
        }
        sent = {key: value for key, value in body.items() if value is not None}
        return await self._ask("POST", "/v1/tasks", sent, {"Prefer": "respond-async"})

    async def get(self, id: str) -> dict[str, Any]:
        """Return a task as it is now.

        Raises:
            TaskError: there is none of that id (``unknown_task``).
        """
        return await self._ask("GET", f"/v1/tasks/{quote(id, safe='')}")

    async def wait(self, id: str) -> dict[str, Any]:
        """Return a task when it has ended, however."""
        while True:
            path = f"/v1/tasks/{quote(id, safe='')}?wait_s={WAIT_S}"
            task = await self._ask("GET", path)
            if task["state"] not in ("submitted", "working"):
                return task

    async def cancel(self, id: str) -> dict[str, Any]:
        """Ask for a task's cancellation, and return it when it has ended."""
        await self._ask("POST", f"/v1/tasks/{quote(id, safe='')}/cancel")
        return await self.wait(id)

    async def list(self) -> list[dict[str, Any]]:
        """Return the newest tasks, the newest first, without their outputs."""
        return list((await self._ask("GET", "/v1/tasks"))["tasks"])

    async def _ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        status, document = await self._client.request(method, path, body, headers)
        if status >= 400 or not isinstance(document, dict):
            raise error_in(status, document)
        return document
