"""The egress proxy in the host: who may use it, where it listens, and its life.

It must be there before the first worker, whose policy has its port: so `Egress.admit` opens what
listens at once, without an event loop, and `Egress.run` serves what has come meanwhile. The proxy
itself is imported when it runs: behind the start of the workers.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kagent_sdk.config.models import AgentConfig
from kagent_sdk.config.sandbox import SandboxNetworkConfig, parse_destination
from kagent_sdk.errors import StartupError

if TYPE_CHECKING:
    import asyncio

    from kagent_sdk.host.egress_record import EgressRecord, Log
    from kagent_sdk.sandbox.egress.means import Access
    from kagent_sdk.sandbox.egress.proxy import Proxy

RELAY_PORT = 3128
"""Of the relay inside a network namespace of a worker's own, where nothing else listens."""

SOCKET_NAME = "egress.sock"
"""In the agent's ``runtime/``, which no worker can see: the sandbox binds it elsewhere."""

BACKLOG = 128

FindSecret = Callable[[str], object]
"""A secret of the vault as it is now, by its name; None when there is none."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What the workers of one generation may do through the proxy.

    Attributes:
        port: where they find it on 127.0.0.1; belongs in ``Policy.network.connect``.
        token: what they show it.
        socket_path: with isolation ``bwrap``, the socket that the relay in the worker's network
            namespace connects to: bind it into the sandbox; None: the port is the host's own.
        is_only_way: there is no other; false with ``external: true`` or ``mode: off``, where the
            proxy serves ``AGENT_EGRESS_URL`` alone.
    """

    port: int
    token: str = field(repr=False)
    socket_path: Path | None
    is_only_way: bool


class Egress:
    """Holds the proxy of one agent.

    Args:
        directory: the agent's folder.

    Attributes:
        mark: what every token begins with, which opens nothing by itself: where it is kept out of a
            text, all tokens are.
    """

    def __init__(self, directory: Path) -> None:
        self.mark = os.urandom(12).hex()
        self._directory = directory
        self._tcp: socket.socket | None = None
        self._unix: socket.socket | None = None
        self._admitted: dict[str, SandboxNetworkConfig] = {}
        self._proxy: Proxy | None = None
        self._record: EgressRecord | None = None
        self._changed: asyncio.Event | None = None

    def admit(self, config: AgentConfig) -> Grant | None:
        """Let a generation of workers use the proxy by this configuration.

        Call it before they are started, in the event loop's thread; every generation has rules of its own, so a reload
        takes nothing from tasks that still run. None: the configuration has no proxy.

        Raises:
            StartupError: there is no port, or the socket cannot be made.
        """
        network = config.sandbox.network
        is_only_way = config.sandbox.mode != "off" and not network.external
        if not (network.allow and is_only_way) and not network.inject:
            return None
        # With mode: off there is no network namespace, nor for a worker that listens: who would
        # reach it? In the machine's own, two relays would take each other's port.
        in_namespace = is_only_way and config.worker.isolation == "bwrap" and not network.listen
        port = self._listen_unix() if in_namespace else self._listen_tcp()
        grant = Grant(
            port,
            self.mark + os.urandom(12).hex(),
            self._directory / "runtime" / SOCKET_NAME if in_namespace else None,
            is_only_way,
        )
        self._admitted[grant.token] = network
        if self._proxy is not None:
            self._proxy.admit(grant.token, make_access(network))
        if self._changed is not None:
            self._changed.set()
        return grant

    def withdraw(self, grant: Grant | None) -> None:
        """Take a grant back, and cut what still uses it: its workers are gone."""
        if grant is None:
            return
        self._admitted.pop(grant.token, None)
        if self._proxy is not None:
            self._proxy.revoke(grant.token)

    async def run(self, log: Log, find_secret: FindSecret) -> None:
        """Serve until cancelled; then everything is closed.

        Args:
            log: writes a record; never blocks.
            find_secret: returns a secret of the vault as it is now; None when there is none.
        """
        import asyncio  # noqa: PLC0415 - the workers are started before it is imported

        self._changed = asyncio.Event()
        try:
            while self._tcp is None and self._unix is None:
                await self._changed.wait()
                self._changed.clear()
            self._start(log, find_secret)
            await self._serve()
        finally:
            self._changed = self._proxy = None
            self.close()

    def close(self) -> None:
        """Close what listens; idempotent. `run` does it too."""
        if self._tcp is not None:
            self._tcp.close()
        if self._unix is not None:
            self._unix.close()
            with suppress(OSError):
                (self._directory / "runtime" / SOCKET_NAME).unlink()
        self._tcp = self._unix = None

    def section(self) -> dict[str, Any]:
        """Return what ``/status`` tells of it: plain data, as `protocol.sandbox.EgressInfo` has it."""
        proxy, record = self._proxy, self._record
        if proxy is None or record is None:
            return {"running": False}
        from kagent_sdk.host.egress_status import describe  # noqa: PLC0415 - first when asked for

        return describe(record, connections=proxy.connections)

    # Listening

    def _listen_tcp(self) -> int:
        if self._tcp is None:
            try:
                self._tcp = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
            except OSError as exc:
                raise StartupError(f"the egress proxy has no port: {exc.strerror}") from exc
        port: int = self._tcp.getsockname()[1]
        return port

    def _listen_unix(self) -> int:
        if self._unix is None:
            self._unix = listen_unix(self._directory / "runtime", SOCKET_NAME)
        return RELAY_PORT

    # Serving

    def _start(self, log: Log, find_secret: FindSecret) -> None:
        import ssl  # noqa: PLC0415 - behind the start, as all that follow

        from kagent_sdk.host.egress_record import EgressRecord  # noqa: PLC0415
        from kagent_sdk.sandbox.egress.means import Means  # noqa: PLC0415
        from kagent_sdk.sandbox.egress.proxy import Proxy  # noqa: PLC0415
        from kagent_sdk.sandbox.egress.resolver import ThreadResolver  # noqa: PLC0415

        def find_text(name: str) -> str | None:
            value = find_secret(name)
            return value if isinstance(value, str) else None

        self._record = EgressRecord(log, time.monotonic, time.time)
        means = Means(ThreadResolver(), ssl.create_default_context, find_text, self._record)
        self._proxy = Proxy(means)
        for token, network in self._admitted.items():
            self._proxy.admit(token, make_access(network))

    async def _serve(self) -> None:
        import asyncio  # noqa: PLC0415 - as above

        assert self._changed is not None
        assert self._proxy is not None
        served: set[socket.socket] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                for listener in (self._tcp, self._unix):
                    if listener is not None and listener not in served:
                        served.add(listener)
                        group.create_task(self._proxy.serve(listener), name="egress")
                await self._changed.wait()
                self._changed.clear()


def make_access(network: SandboxNetworkConfig) -> Access:
    """Return what a configuration lets its workers do."""
    from kagent_sdk.sandbox.egress.means import Access, Injection  # noqa: PLC0415 - as `_start`'s
    from kagent_sdk.sandbox.egress.rules import Rules, parse_authority  # noqa: PLC0415
    from kagent_sdk.sandbox.policy import Destination  # noqa: PLC0415

    injections: dict[tuple[str, int], tuple[Injection, ...]] = {}
    for one in network.inject:
        where = parse_authority(one.to)
        added = Injection(one.header, one.prefix, one.secret, one.tls)
        injections[where] = (*injections.get(where, ()), added)
    allow = (Destination(*parse_destination(text)) for text in network.allow)
    upstream = network.upstream and Destination(*parse_destination(network.upstream))
    return Access(Rules(allow), injections, upstream or None)


def egress_environment(grant: Grant | None) -> dict[str, str]:
    """Return the environment variables that lead a worker to the proxy; none without a grant.

    They take the place of those that the host has itself, which lead to where no worker gets.
    """
    if grant is None:
        return {}
    where = f"127.0.0.1:{grant.port}"
    variables = {"AGENT_EGRESS_URL": f"http://{where}/{grant.token}"}
    if grant.is_only_way:
        url = f"http://agent:{grant.token}@{where}"
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            variables[name] = variables[name.upper()] = url
        # Nothing is reached without it, this machine least of all.
        variables["no_proxy"] = variables["NO_PROXY"] = ""
        # Node.js heeds the others only with this.
        variables["NODE_USE_ENV_PROXY"] = "1"
    return variables


def listen_unix(folder: Path, name: str) -> socket.socket:
    """Return a socket that listens in a folder, whose own user alone can connect.

    Raises:
        StartupError: it cannot be made.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        try:
            # By way of the descriptor: an address has 107 bytes, and a path may have more (unix(7)).
            path = Path(f"/proc/self/fd/{descriptor}") / name
            path.unlink(missing_ok=True)
            listener.bind(str(path))
            path.chmod(0o600)
            listener.listen(BACKLOG)
        finally:
            os.close(descriptor)
    except OSError as exc:
        listener.close()
        raise StartupError(f"no socket for the egress proxy in {folder}: {exc.strerror}") from exc
    return listener
