"""The control plane of an agent under test, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from kagent_sdk.errors import TaskError

if TYPE_CHECKING:
    import aiohttp

ANSWER_S = 60.0
"""How long an answer may take on a machine that is busy."""


class ProcessClient:
    """Sends requests to one agent.

    Args:
        url: where it is; set anew when it has been restarted.
    """

    def __init__(self) -> None:
        self.url = ""
        self._session: aiohttp.ClientSession | None = None

    async def request(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Send a request; return the status, and the body as JSON.

        Raises:
            OSError: the agent cannot be reached (`aiohttp.ClientError` is one in effect).
        """
        data = None if body is None else to_json(body)
        async with self._open().request(
            method, self.url + path, data=data, headers=_headers(headers)
        ) as answer:
            content = await answer.read()
        return answer.status, _parse(content)

    async def stream(self, path: str, body: object) -> AsyncIterator[tuple[str, Any]]:
        """Send a request, and iterate over the server-sent events: their names and data.

        Raises:
            TaskError: it is refused.
        """
        headers = _headers({"Accept": "text/event-stream"})
        async with self._open().post(
            self.url + path, data=to_json(body), headers=headers
        ) as answer:
            if answer.status != 200:
                raise error_in(answer.status, _parse(await answer.read()))
            name, data = "message", ""
            async for line in answer.content:
                key, _, value = line.decode().rstrip("\r\n").partition(":")
                if key == "event":
                    name = value.strip()
                elif key == "data":
                    data += value.strip()
                elif not key and data:
                    yield name, from_json(data)
                    name, data = "message", ""

    async def is_ready(self) -> bool:
        """Tell whether ``/readyz`` is 200."""
        try:
            return (await self.request("GET", "/readyz"))[0] == 200
        except (OSError, TimeoutError):
            return False

    async def aclose(self) -> None:
        """Let go of the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp  # noqa: PLC0415 - the harness does without

            timeout = aiohttp.ClientTimeout(total=None, sock_read=ANSWER_S, sock_connect=ANSWER_S)
            self._session = aiohttp.ClientSession(timeout=timeout, trust_env=False)
        return self._session


def error_in(status: int, problem: Any) -> TaskError:
    """Return what a problem document (RFC 9457), or a task's ``error``, says."""
    document: dict[str, Any] = problem if isinstance(problem, dict) else {"detail": str(problem)}
    error: dict[str, Any] = document.get("error") or {}
    return TaskError(
        str(error.get("code") or document.get("code") or "internal_error"),
        str(error.get("message") or document.get("detail") or document.get("title") or ""),
        retryable=bool(error.get("retryable", status in (429, 503))),
        details=error.get("details"),
        status=status if 400 <= status <= 599 else 500,
    )


def _headers(more: Mapping[str, str] | None) -> dict[str, str]:
    return {"Content-Type": "application/json", **(more or {})}


def _parse(content: bytes) -> Any:
    try:
        return from_json(content) if content else None
    except ValueError:
        return content.decode(errors="replace")
