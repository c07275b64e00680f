"""The wire of kLink as a document: complete, of one piece, and the models' own."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator

from kagent_sdk.protocol import link
from kagent_sdk.protocol.link_openapi import link_paths, link_schemas

LEASE = "lease-0123456789abcdef"


def validator(name: str) -> Draft202012Validator:
    """Return a validator for a component."""
    document = {"components": {"schemas": link_schemas()}, "$ref": f"#/components/schemas/{name}"}
    return Draft202012Validator(document)


def test_every_route_of_the_link_is_described() -> None:
    """The head of the wire's own module lists them."""
    routes = re.findall(r"POST (/v1/link/\S+)", link.__doc__ or "")

    assert len(routes) == 5
    assert list(link_paths()) == routes


def test_every_reference_leads_somewhere_and_no_name_is_taken_twice() -> None:
    """They are merged into another document, and a generator of clients stops at the first fault."""
    schemas = link_schemas()
    names = re.findall(r'"#/components/schemas/([^"]+)"', json.dumps([link_paths(), schemas]))

    assert set(names) <= schemas.keys()
    assert all(name.startswith("Link.") for name in schemas)


def test_the_agent_s_side_is_described_too() -> None:
    """Whoever writes an orchestrator has to send offers."""
    (register,) = link_paths()["/v1/link/agents"].values()
    ((url, offered),) = register["callbacks"]["offer"].items()

    assert url == "{$request.body#/url}/v1/tasks"
    assert [one["name"] for one in offered["post"]["parameters"]] == list(link.OFFER_HEADERS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Link.Goodbye", link.Goodbye(phase="stopped")),
        ("Link.Fetch", link.Fetch()),
        ("Link.Registered", link.Registered(orchestrator="o", lease_s=3, heartbeat_s=1)),
        (
            "Link.HeartbeatAnswer",
            link.HeartbeatAnswer(
                orchestrator="o", lease_s=3, heartbeat_s=1, lost=(link.Held(task="t", lease=LEASE),)
            ),
        ),
        (
            "Link.Registration",
            link.Registration(
                agent="bee",
                instance=LEASE,
                version="1",
                sdk_version="1",
                delivery="pull",
                capabilities=(),
                limits=link.AgentLimits(max_concurrency=1, max_queue=0),
                status=link.ShortStatus(lifecycle="ready", ready=True),
            ),
        ),
        ("Link.ReportsAnswer", link.ReportsAnswer(items=())),
    ],
)
def test_messages_fit_their_schemas(name: str, message: link.LinkPart) -> None:
    """What one side sends is what the document says."""
    validator(name).validate(message.model_dump(mode="json"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Link.Goodbye", {"phase": "gone"}),
        ("Link.Fetch", {"wait_s": 61}),
        ("Link.Registered", {"orchestrator": "o", "lease_s": 0, "heartbeat_s": 1}),
        ("Link.Offer", {"id": "..", "capability": "add"}),
        ("Link.Offer", {"capability": "add"}),
    ],
)
def test_what_is_no_message_does_not_fit(name: str, message: dict[str, Any]) -> None:
    """A schema that takes anything says nothing."""
    assert not validator(name).is_valid(message)
