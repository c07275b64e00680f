"""kLink over NATS JetStream: agents with no orchestrator between them and their callers."""

from __future__ import annotations

from kagent_sdk.errors import LinkError
from kagent_sdk.link.port import Link, LinkHost
from kagent_sdk.link.settings import LinkSettings

__all__ = ["build_link"]


def build_link(settings: LinkSettings, host: LinkHost) -> Link:
    """Return the link over NATS; nothing is connected yet.

    Raises:
        LinkError: the extra is not installed.
    """
    try:
        import nats  # noqa: F401, PLC0415 - optional
    except ImportError:
        raise LinkError(
            "orchestrator.url is one of NATS, and that needs an extra: pip install 'kagent-sdk[nats]'",
            is_permanent=True,
        ) from None
    from kagent_sdk.link.nats.link import NatsLink  # noqa: PLC0415 - imports nats

    return NatsLink(settings, host)
