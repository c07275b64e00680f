"""Plain calls by way of NATS: whoever sends them may be anybody."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import nats.errors

from kagent_sdk.link.nats.service import AgentService
from kagent_sdk.link.port import OutgoingCall
from kagent_sdk.protocol.manifest import CapabilityManifest

ECHO = CapabilityManifest(name="echo", input_schema={}, output_schema={})


class Calls:
    """Answers every call with its input."""

    async def call(self, call: OutgoingCall, on_item: object) -> bytes:
        """Answer it."""
        assert on_item is None
        return call.input


class Request:
    """A call that names no subject for the reply."""

    data, headers = b'{"n": 1}', None

    def __init__(self) -> None:
        self.replies: list[bytes] = []

    async def respond(self, data: bytes) -> None:
        """Fail as the library does."""
        self.replies.append(data)
        raise nats.errors.Error("no reply subject available")


async def test_a_call_that_wants_no_reply_is_no_fault() -> None:
    """Else anybody could fill the agent's log with tracebacks."""
    client = SimpleNamespace(_nuid=SimpleNamespace(next=lambda: bytearray(b"id")), max_payload=100)
    bus: Any = SimpleNamespace(client=client)
    calls: Any = Calls()
    request: Any = Request()
    await AgentService(bus, calls)._answer(request, "ada", ECHO)

    assert request.replies == [b'{"n": 1}']
