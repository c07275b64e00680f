"""kLink over NATS JetStream: agents with no orchestrator between them and their callers.

Importing this imports the client of NATS (the extra ``[nats]``): do it in a thread, and only with an
``orchestrator.url`` that needs it.
"""

from __future__ import annotations

from kagent_sdk.link.nats.link import NatsLink
from kagent_sdk.link.port import Link, LinkHost
from kagent_sdk.link.settings import LinkSettings

__all__ = ["build_link", "import_parts"]


def build_link(settings: LinkSettings, host: LinkHost) -> Link:
    """Return the link over NATS; nothing is connected yet."""
    return NatsLink(settings, host)


def import_parts() -> None:
    """Import what only a link that runs needs: nothing more than this module."""
