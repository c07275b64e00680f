"""The egress proxy's part of ``/status``; pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kagent_sdk.host.egress_record import EgressRecord
from kagent_sdk.sandbox.egress.passage import Way


def describe(record: EgressRecord, *, connections: int) -> dict[str, Any]:
    """Return the fields of `protocol.sandbox.EgressInfo`.

    Args:
        record: what the proxy did.
        connections: of clients, now.
    """
    destinations = tuple(
        {
            "destination": name,
            **{way.value: count.passages.get(way, 0) for way in Way},
            "failed": count.failed,
            "sent_bytes": count.sent_bytes,
            "received_bytes": count.received_bytes,
        }
        for name, count in record.counts().items()
    )
    return {
        "running": True,
        "connections": connections,
        "destinations": destinations,
        "refused": dict(record.refusals),
        "denials": tuple(
            {
                "destination": one.destination,
                "reason": one.reason,
                "message": one.message,
                "count": one.count,
                "at": datetime.fromtimestamp(one.at, UTC),
            }
            for one in record.denials
        ),
    }
