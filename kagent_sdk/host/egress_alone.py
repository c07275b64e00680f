"""The egress proxy as a process of its own, for a container between an agent and what leads out.

It asks for no token: its network is the agent's and its own alone. It has no vault and adds no header.
Then it is confined: it writes no file, and listens on nothing else.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from kagent_sdk.errors import StartupError
from kagent_sdk.host.confinement import find_confinement
from kagent_sdk.host.egress import BACKLOG, make_access
from kagent_sdk.host.egress_record import EgressRecord
from kagent_sdk.host.json_output import JsonOutput
from kagent_sdk.sandbox.confine import confine
from kagent_sdk.sandbox.egress.means import Means
from kagent_sdk.sandbox.egress.proxy import Proxy
from kagent_sdk.sandbox.egress.resolver import ThreadResolver
from kagent_sdk.sandbox.egress.rules import show
from kagent_sdk.sandbox.policy import Limits, Mode, Network, Policy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kagent_sdk.config.models import AgentConfig
    from kagent_sdk.host.signals import EarlySignals
    from kagent_sdk.sandbox.egress.means import Access

NO_TOKEN = ""
"""What a client shows that shows none."""

_NEEDED_LATER = ("encodings.idna", "stringprep")
"""Python looks names up with these, and may not be able to load them as another user."""

_NO_LIMITS = Limits(cpu_cores=None, memory_bytes=None, processes=None, open_files=None)
"""The proxy bounds itself, and the engine its container."""


@dataclass(frozen=True, slots=True)
class Stand:
    """Where a proxy of its own serves, and whom it tells.

    Attributes:
        listener: accepts clients.
        output: gets a record of every decision.
        signals: end it.
    """

    listener: socket.socket
    output: JsonOutput
    signals: EarlySignals


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address, and on no other.

    Raises:
        StartupError: it is taken, or none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as exc:
        reason = os.strerror(exc.errno) if exc.errno else str(exc)
        raise StartupError(f"cannot listen on {show(host, port)}: {reason}") from exc


def confine_alone(
    directory: Path, config: AgentConfig, environ: Mapping[str, str], listener: socket.socket
) -> tuple[str, ...]:
    """Confine this process to what a proxy does; return the names of controls that do not hold.

    It reads what is installed and how names are looked up, connects anywhere, writes nothing.

    Raises:
        SandboxError: it cannot be, and ``sandbox.mode`` is ``enforce``.
    """
    for name in _NEEDED_LATER:
        import_module(name)
    confinement = find_confinement(directory, config, environ)
    policy = Policy(
        mode=Mode(config.sandbox.mode),
        user=confinement.user,
        read=confinement.grounds.read,
        execute=confinement.grounds.execute,
        network=Network(external=True),
        limits=_NO_LIMITS,
        keep_fds=(listener.fileno(),),
    )
    return tuple(finding.control for finding in confine(policy) if not finding.holds)


def access_of(config: AgentConfig) -> Access:
    """Return what every client may do: the allow-list, no header, no further proxy."""
    return make_access(config.sandbox.network.model_copy(update={"inject": (), "upstream": None}))


async def serve(access: Access, stand: Stand) -> None:
    """Serve until a signal comes; what is open then is cut."""
    stop = asyncio.Event()
    stand.signals.hand_over(
        asyncio.get_running_loop(), lambda _: stop.set(), lambda: None, lambda: None
    )
    log = stand.output.log
    record = EgressRecord(log, time.monotonic, time.time)
    means = Means(ThreadResolver(), ssl.create_default_context, lambda _: None, record)
    proxy = Proxy(means)
    proxy.admit(NO_TOKEN, access)
    host, port = stand.listener.getsockname()[:2]
    log("info", "egress_listening", address=show(host, port))
    serving = asyncio.create_task(proxy.serve(stand.listener), name="egress")
    stopping = asyncio.create_task(stop.wait(), name="egress-stop")
    try:
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        serving.cancel()
        stopping.cancel()
        await asyncio.gather(serving, stopping, return_exceptions=True)
    if not serving.cancelled():
        serving.result()
    log("info", "egress_stopped")
