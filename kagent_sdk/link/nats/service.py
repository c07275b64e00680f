"""The agent as a NATS micro service: listed, described and called by any NATS tool.

``nats micro ls|info|stats`` ask ``$SRV.PING|INFO|STATS`` (NATS ADR-32), which nats-py answers. Each
capability is an endpoint: a request with the input is a task of its own, as durable as any other, and
the reply is its output.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from nats.micro import add_service
from nats.micro.service import EndpointConfig, ServiceConfig

from kagent_sdk.link.nats import jobs, names
from kagent_sdk.link.nats.connection import FAILURES
from kagent_sdk.link.port import CallFailedError, OutgoingCall

if TYPE_CHECKING:
    from nats.micro.request import Request
    from nats.micro.service import Service

    from kagent_sdk.link.nats.calls import NatsCalls
    from kagent_sdk.link.nats.connection import Bus
    from kagent_sdk.protocol.link import Registration
    from kagent_sdk.protocol.manifest import CapabilityManifest

CALL_S = 300.0
"""For a plain call of a capability without a time of its own: nobody tells when its caller is gone."""


class AgentService:
    """Announces one agent, and answers plain calls."""

    def __init__(self, bus: Bus, calls: NatsCalls) -> None:
        self._bus = bus
        self._calls = calls
        self._service: Service | None = None
        self._known: tuple[CapabilityManifest, ...] = ()
        self._answering: set[asyncio.Task[None]] = set()

    async def announce(self, registration: Registration) -> None:
        """Be listed with these capabilities.

        Raises:
            FAILURES: the server is away.
        """
        if self._service is not None and self._known == registration.capabilities:
            return
        await self._stop()
        service = await add_service(self._bus.client, _config(registration))
        self._service, self._known = service, registration.capabilities
        for capability in registration.capabilities:
            await service.add_endpoint(
                EndpointConfig(
                    name=names.service_name(capability.name),
                    subject=names.call_subject(registration.agent, capability.name),
                    handler=self._handler(registration.agent, capability),
                    metadata={"capability": capability.name},
                )
            )

    async def close(self) -> None:
        """Be listed no more; calls that are waited for are given up."""
        await jobs.end(tuple(self._answering))
        await self._stop()

    async def _stop(self) -> None:
        service, self._service = self._service, None
        if service is not None and self._bus.is_up:
            await service.stop()

    def _handler(self, agent: str, capability: CapabilityManifest):  # type: ignore[no-untyped-def]  # noqa: ANN202 - as the library names it
        async def handle(request: Request) -> None:
            # The library hands over one request after the other: none may wait for the one before.
            if len(self._answering) >= self._bus.limits.max_calls:
                await request.respond_error("429", "too many calls at a time")
                return
            job = asyncio.create_task(self._answer(request, agent, capability))
            self._answering.add(job)
            job.add_done_callback(self._answering.discard)

        return handle

    async def _answer(self, request: Request, agent: str, capability: CapabilityManifest) -> None:
        call = OutgoingCall(
            task=f"call-{self._bus.client._nuid.next().decode()}",  # noqa: SLF001 - NATS' own ids
            agent=agent,
            capability=capability.name,
            input=request.data or b"{}",
            timeout_s=capability.timeout_s or CALL_S,
            traceparent=(request.headers or {}).get("traceparent", "")[:100],
        )
        with suppress(*FAILURES):  # whoever asked wants no reply, or cannot be reached any more
            await self._reply(request, call)

    async def _reply(self, request: Request, call: OutgoingCall) -> None:
        try:
            output = await self._calls.call(call, None)
        except CallFailedError as exc:
            text = " ".join(exc.failure.message.split())[:500]
            await request.respond_error(exc.failure.code, text.encode("ascii", "replace").decode())
            return
        if len(output) > self._bus.client.max_payload:
            await request.respond_error("output_too_large", "the output is too large for a reply")
            return
        await request.respond(output)


def _config(registration: Registration) -> ServiceConfig:
    return ServiceConfig(
        name=names.service_name(registration.agent),
        version=names.service_version(registration.version),
        description=f"kOS agent {registration.agent}",
        metadata={
            "agent": registration.agent,
            "instance": registration.instance,
            "version": registration.version,
            "sdk_version": registration.sdk_version,
        },
    )
