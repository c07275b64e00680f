"""The part of ``/status`` about the link."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kagent_sdk.protocol.status import LinkInfo

if TYPE_CHECKING:
    from kagent_sdk.host.parts import HostParts


def build_link_info(host: HostParts) -> LinkInfo:
    """Return what is known of the link; reads memory only."""
    link, config = host.link, host.config.orchestrator
    if not link.is_on:
        return LinkInfo()
    info = LinkInfo(
        state="connecting",
        since=_time(host.started_at),
        url=config.url,
        delivery=config.delivery,
        instance=link.instance,
        tasks=sum(1 for _ in link.intake.open_tasks()),
        pending=None if link.reports is None else link.reports.pending,
        dropped=0 if link.reports is None else link.reports.dropped,
    )
    present = link.current()
    if present is None:
        return info
    status = present.status
    return info.model_copy(
        update={
            "state": status.state,
            "since": _time(status.since) if status.since else info.since,
            "orchestrator": status.orchestrator,
            "last_contact_at": (
                None if status.last_contact_at is None else _time(status.last_contact_at)
            ),
            "last_error": status.last_error,
            "registrations": status.registrations,
            "reported": status.reported,
            "refused": status.refused,
            "lost": status.lost,
        }
    )


def _time(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)
