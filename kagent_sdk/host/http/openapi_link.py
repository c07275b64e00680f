"""What the description of the API says of offers, where there is an orchestrator."""

from __future__ import annotations

from typing import Any

from kagent_sdk.host.http.offers import MAX_ATTEMPT
from kagent_sdk.protocol.link import (
    ATTEMPT_HEADER,
    BEAT_HEADER,
    HOPS_HEADER,
    LEASE_HEADER,
    MAX_COUNT,
    MAX_HOPS,
    WORD_PATTERN,
)

Json = dict[str, Any]


def describe_offers(document: Json) -> None:
    """Add the headers that make a task of ``POST /v1/tasks`` an offer."""
    document["paths"]["/v1/tasks"]["post"]["parameters"] += [
        _header(
            LEASE_HEADER,
            {"type": "string", "pattern": WORD_PATTERN},
            "Of the orchestrator alone: its word for this attempt, under which the task is reported.",
        ),
        _header(
            ATTEMPT_HEADER,
            {"type": "integer", "minimum": 1, "maximum": MAX_ATTEMPT},
            "Which attempt this is, over all agents.",
        ),
        _header(
            HOPS_HEADER,
            {"type": "integer", "minimum": 0, "maximum": MAX_HOPS},
            "How many agents have passed it on.",
        ),
        _header(
            BEAT_HEADER,
            {"type": "integer", "minimum": 0, "maximum": MAX_COUNT},
            "The last registration or heartbeat that was heard: an offer that is too old gets 429.",
        ),
    ]


def _header(name: str, schema: Json, description: str) -> Json:
    return {"name": name, "in": "header", "schema": schema, "description": description}
