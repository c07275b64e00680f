"""Builds the control plane for a host."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from kagent_sdk.host.http.auth import Gatekeeper, tls_context
from kagent_sdk.host.http.bodies import BodyReader
from kagent_sdk.host.http.calls import Calls
from kagent_sdk.host.http.control_plane import ControlPlane, Probes
from kagent_sdk.host.http.direct import DirectCalls
from kagent_sdk.host.http.offers import Offers
from kagent_sdk.host.http.server import HttpServer
from kagent_sdk.host.http.snapshots import SnapshotRoute
from kagent_sdk.host.http.streams import EventStream
from kagent_sdk.host.http.tasks import Tasks
from kagent_sdk.host.processes import in_container

if TYPE_CHECKING:
    from kagent_sdk.config.models import AgentConfig, HttpConfig
    from kagent_sdk.host.parts import HostParts
    from kagent_sdk.protocol.manifest import CapabilityManifest
    from kagent_sdk.snapshots.creation import Made

EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 - only with a token, or where the config says so
LOOPBACK = "127.0.0.1"

READ_WAIT_S = 1.0
"""An agent that has just started waits so long for its disk to say how the host before ended."""


def build_server(host: HostParts, shut_down: Callable[[str], None]) -> HttpServer:
    """Return the server of a host's control plane, not yet listening.

    Raises:
        ConfigError, StartupError: a token is needed and missing, or TLS files are wrong.
    """
    config = host.config.http
    token = host.keeper.token
    address = config.host or _default_address(config, has_token=token is not None)
    gatekeeper = Gatekeeper.decide(config, address=address, token=token)
    for warning in gatekeeper.warnings:
        host.pump.log("warning", "control_plane_exposed", detail=warning)
    host.keeper.listeners.append(lambda: gatekeeper.take(host.keeper.token, time.monotonic()))
    streams = EventStream(host.engine, write_timeout_s=config.read_timeout_s)
    reports = Reports(host)
    if host.link.call_token is not None:
        gatekeeper.let_link_in(host.link.call_token)
    calls = Calls(
        host.engine,
        BodyReader(config),
        streams,
        host.callbacks.refuse,
        Offers(gatekeeper, host.link.intake),
    )
    snapshots = SnapshotRoute(
        host.snapshots,
        host.lifecycle,
        config,
        status=reports.snapshots,
        describe=reports.snapshot,
    )
    plane = ControlPlane(
        host.engine,
        calls=calls,
        tasks=Tasks(host.engine, streams),
        probes=Probes(
            health=host.watchdog.health,
            stuck_stack=host.pool.stuck_stack,
            status=reports.status,
            metrics=reports.metrics,
            openapi=lambda: reports.openapi(is_secured=gatekeeper.is_token_required),
            shut_down=lambda: shut_down("POST /v1/shutdown"),
            reload=lambda: host.reloader.ask("POST /v1/reload"),
            reload_status=reports.reload,
            snapshot=snapshots.create,
        ),
        gatekeeper=gatekeeper,
        pump=host.pump,
    )
    tls = None if config.tls is None else tls_context(config.tls, host.directory)
    direct = DirectCalls(host.engine, calls, gatekeeper, host.pump, config.max_body_bytes)
    server = HttpServer(config, host=address, handler=plane.handle, tls=tls, direct=direct)
    if server.max_connections < config.max_connections:
        host.pump.log(
            "warning",
            "connections_limited",
            max_connections=server.max_connections,
            detail="the limit of open files (ulimit -n) leaves no room for http.max_connections",
        )
    return server


def _default_address(config: HttpConfig, *, has_token: bool) -> str:
    """Every address in a container, where a port is reached only when published; else loopback.

    Loopback also in a container in which nobody could be asked for a token: an agent that was
    never configured starts, and is reached from inside.
    """
    may_expose = has_token or config.auth is not None
    return EVERY_ADDRESS if may_expose and in_container() else LOOPBACK


def import_reports() -> None:
    """Import what ``/status`` and ``/metrics`` need; in a thread, for it takes 0.1 s."""
    import_module("kagent_sdk.host.report")
    import_module("kagent_sdk.host.metrics")


class Reports:
    """The host's own documents. What they need is imported in a thread: probes wait for nothing."""

    def __init__(self, host: HostParts) -> None:
        self._host = host
        self._described: tuple[Mapping[str, CapabilityManifest], AgentConfig, bytes] | None = None

    async def status(self) -> bytes:
        """Return ``/status`` as JSON, from fresh samples."""
        await asyncio.to_thread(import_reports)
        from kagent_sdk.host.report import build_status  # noqa: PLC0415

        await self._host.monitor.sample_processes()
        await self._host.monitor.gpus.refresh()
        await self._host.callbacks.sample()
        await self._host.audit.sample()
        await asyncio.to_thread(self._host.exits.wait_read, READ_WAIT_S)
        return build_status(self._host).model_dump_json().encode()

    async def reload(self) -> bytes:
        """Return the part of ``/status`` about reloads as JSON."""
        await asyncio.to_thread(import_reports)
        from kagent_sdk.host.report import build_reload  # noqa: PLC0415

        return build_reload(self._host).model_dump_json().encode()

    async def snapshots(self) -> bytes:
        """Return the part of ``/status`` about snapshots as JSON."""
        await asyncio.to_thread(import_reports)
        from kagent_sdk.host.report import build_snapshots  # noqa: PLC0415

        return build_snapshots(self._host).model_dump_json().encode()

    async def snapshot(self, made: Made) -> bytes:
        """Return a snapshot that was made as JSON."""
        return await asyncio.to_thread(_describe_snapshot, made)

    async def metrics(self) -> tuple[bytes, str]:
        """Return ``/metrics`` and its content type."""
        await asyncio.to_thread(import_reports)
        from kagent_sdk.host.metrics import CONTENT_TYPE, render_metrics  # noqa: PLC0415
        from kagent_sdk.host.report import build_status  # noqa: PLC0415

        await self._host.monitor.sample_processes()
        await self._host.monitor.gpus.refresh()
        await self._host.callbacks.sample()
        status = build_status(self._host)
        return await asyncio.to_thread(render_metrics, self._host.counters, status), CONTENT_TYPE

    async def openapi(self, *, is_secured: bool) -> bytes:
        """Return the description of the API with the capabilities that are there now."""
        capabilities, config = self._host.engine.dispatcher.capabilities, self._host.config
        # Workers with other capabilities bring another table, and a reload another configuration:
        # these never change.
        known = self._described
        if known is None or known[0] is not capabilities or known[1] is not config:
            # In a thread: it takes a millisecond for every capability.
            text = await asyncio.to_thread(_describe, capabilities, config, is_secured=is_secured)
            self._described = capabilities, config, text
            return text
        return known[2]


def _describe_snapshot(made: Made) -> bytes:
    from kagent_sdk.host.http.documents import SnapshotDocument  # noqa: PLC0415

    document = SnapshotDocument(name=made.name, size_bytes=made.size_bytes, manifest=made.manifest)
    return document.model_dump_json().encode()


def _describe(
    capabilities: Mapping[str, CapabilityManifest], config: AgentConfig, *, is_secured: bool
) -> bytes:
    from kagent_sdk.host.http.openapi import openapi_document  # noqa: PLC0415

    document = openapi_document(
        name=config.name or "agent",
        version=config.version,
        description=config.description,
        capabilities=list(capabilities.values()),
        secured=is_secured,
        calls_back=bool(config.callbacks.allow),
    )
    if config.orchestrator.url is not None and config.orchestrator.delivery == "push":
        from kagent_sdk.host.http.openapi_link import describe_offers  # noqa: PLC0415 - few have any

        describe_offers(document)
    return json.dumps(document).encode()
