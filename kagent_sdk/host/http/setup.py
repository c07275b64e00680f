"""Builds the control plane for a host."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING

from kagent_sdk.host.http.auth import Gatekeeper, load_token, tls_context
from kagent_sdk.host.http.bodies import BodyReader
from kagent_sdk.host.http.calls import Calls
from kagent_sdk.host.http.control_plane import ControlPlane, Probes
from kagent_sdk.host.http.server import HttpServer
from kagent_sdk.host.http.streams import EventStream
from kagent_sdk.host.http.tasks import Tasks
from kagent_sdk.host.processes import in_container
from kagent_sdk.protocol.problem import RequestError
from kagent_sdk.protocol.problems import starting

if TYPE_CHECKING:
    from kagent_sdk.host.host import Host


def build_server(host: Host) -> HttpServer:
    """Return the server of a host's control plane, not yet listening.

    Raises:
        ConfigError, StartupError: a token is needed and missing, or TLS files are wrong.
    """
    config = host.config.http
    address = config.host or ("0.0.0.0" if in_container() else "127.0.0.1")
    gatekeeper = Gatekeeper.decide(
        config, address=address, token=load_token(host.vault, os.environ)
    )
    streams = EventStream(host.engine, write_timeout_s=config.read_timeout_s)
    reports = Reports(host)
    plane = ControlPlane(
        host.engine,
        calls=Calls(host.engine, BodyReader(config), streams),
        tasks=Tasks(host.engine, streams),
        probes=Probes(
            health=host.watchdog.health,
            status=reports.status,
            metrics=reports.metrics,
            openapi=lambda: reports.openapi(is_secured=gatekeeper.is_token_required),
            shut_down=lambda: host.ask_to_stop("POST /v1/shutdown"),
        ),
        gatekeeper=gatekeeper,
        counters=host.counters,
        pump=host.pump,
    )
    tls = None if config.tls is None else tls_context(config.tls, host.directory)
    return HttpServer(config, host=address, handler=plane.handle, tls=tls)


class Reports:
    """The host's own documents; what they need is imported with the first request."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def status(self) -> bytes:
        """Return ``/status`` as JSON, from fresh samples."""
        from kagent_sdk.host.report import build_status  # noqa: PLC0415

        monitor = self._host.monitor
        if monitor is None:
            raise RequestError(starting(1))
        await monitor.sample_processes()
        return build_status(self._host, monitor).model_dump_json().encode()

    async def metrics(self) -> tuple[bytes, str]:
        """Return ``/metrics`` and its content type."""
        from kagent_sdk.host.metrics import CONTENT_TYPE, render_metrics  # noqa: PLC0415
        from kagent_sdk.host.report import build_status  # noqa: PLC0415

        monitor = self._host.monitor
        if monitor is None:
            raise RequestError(starting(1))
        await monitor.sample_processes()
        status = build_status(self._host, monitor)
        return await asyncio.to_thread(render_metrics, self._host.counters, status), CONTENT_TYPE

    def openapi(self, *, is_secured: bool) -> bytes:
        """Return the description of the API with the capabilities that are there now."""
        from kagent_sdk.host.http.openapi import openapi_document  # noqa: PLC0415

        config = self._host.config
        document = openapi_document(
            name=config.name or "agent",
            version=config.version,
            description=config.description,
            capabilities=list(self._host.engine.dispatcher.capabilities.values()),
            secured=is_secured,
        )
        return json.dumps(document).encode()
