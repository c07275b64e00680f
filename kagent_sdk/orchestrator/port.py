"""How the parts of an orchestrator meet: the broker of tasks, and what runs beside it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from aiohttp.web_response import StreamResponse

Handler = Callable[..., Awaitable["StreamResponse"]]
"""``handler(request, *params)``; a `RequestError` becomes its problem document."""


class Route(NamedTuple):
    """One more route for the orchestrator's server; only an operator may use it."""

    method: str
    path: str
    handler: Handler


class ServicePart(Protocol):
    """Something that lives as long as the orchestrator, such as the fleet."""

    def routes(self) -> Sequence[Route]:
        """Return its routes; asked once, before the server listens."""
        ...

    async def run(self, url: str) -> None:
        """Live until cancelled; the server listens at this URL by now."""
        ...

    async def stop(self, within_s: float) -> None:
        """Bring down what it has started, in order; the broker still answers meanwhile."""
        ...

    def status(self) -> dict[str, Any]:
        """Return its part of the orchestrator's ``/status``; JSON-compatible, at once."""
        ...
