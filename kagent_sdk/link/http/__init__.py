"""kLink over HTTP. Only an agent with ``orchestrator.url`` imports it."""

from __future__ import annotations

from kagent_sdk.link.http.client import import_client
from kagent_sdk.link.http.link import HttpLink
from kagent_sdk.link.http.session import import_stamina
from kagent_sdk.link.port import Link, LinkHost
from kagent_sdk.link.settings import LinkSettings, LinkTls

__all__ = ["HttpLink", "LinkSettings", "LinkTls", "build_link", "import_parts"]


def build_link(settings: LinkSettings, host: LinkHost) -> Link:
    """Return a link that does nothing until `Link.run`; call it in the host's event loop."""
    return HttpLink(settings, host)


def import_parts() -> None:
    """Import what only a link that runs needs; call it in a thread."""
    import_client()
    import_stamina()
