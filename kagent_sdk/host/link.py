"""The host's end of the link: made when there is an orchestrator, kept running, told when to stop.

Most agents have no orchestrator. They pay for this module alone.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kagent_sdk.errors import StorageError
from kagent_sdk.host.link_checks import NATS_SCHEMES, link_settings
from kagent_sdk.host.link_intake import LinkIntake

if TYPE_CHECKING:
    from kagent_sdk.config.models import AgentConfig
    from kagent_sdk.host.durability import Durability
    from kagent_sdk.host.lifecycle import Lifecycle
    from kagent_sdk.host.link_desk import LinkDesk
    from kagent_sdk.host.link_reports import LinkReports
    from kagent_sdk.host.logs.pump import LogPump
    from kagent_sdk.host.monitor import Monitor
    from kagent_sdk.host.succession import Succession
    from kagent_sdk.host.vault_keeper import VaultKeeper
    from kagent_sdk.host.watchdog import Watchdog
    from kagent_sdk.link.port import Link, LinkHost
    from kagent_sdk.link.settings import LinkSettings
    from kagent_sdk.storage.thread import Storage

    BuildLink = Callable[[LinkSettings, LinkHost], Link]

CALL_TOKEN = "link_call_token"  # noqa: S105 - how the log calls it
"""What the orchestrator shows to this agent; no author's code is to print it."""

INSTANCE_BYTES = 16
TOKEN_BYTES = 32

RESTART_S = 5.0
"""Between the crash of a link, which is a bug of ours, and the next attempt."""


@dataclass(frozen=True, slots=True)
class LinkSources:
    """What a link is made from, as far as the host has it.

    Attributes:
        directory: the agent's folder.
    """

    directory: Path
    durability: Durability
    keeper: VaultKeeper
    pump: LogPump
    lifecycle: Lifecycle
    monitor: Monitor
    succession: Succession
    watchdog: Watchdog

    @property
    def config(self) -> AgentConfig:
        """The configuration in force."""
        return self.succession.pool.config


class HostLink:
    """Owns the link, if there is an orchestrator. Lives in the host's loop; nothing here blocks it.

    Args:
        sources: parts of the host.
        build: makes the link; found by the scheme of `orchestrator.url` if None.

    Attributes:
        is_on: there is an orchestrator.
        instance: the name of this start of the host.
        call_token: with push the bearer token that lets the orchestrator in; else None.
        intake: takes tasks of the link.
        reports: what has to be told; None before `run`.
    """

    def __init__(self, sources: LinkSources, build: BuildLink | None = None) -> None:
        self._sources = sources
        self._build = build
        config = sources.config.orchestrator
        durability = sources.durability
        self.is_on = config.url is not None
        self.instance = secrets.token_urlsafe(INSTANCE_BYTES)
        is_called = self.is_on and config.delivery == "push"
        self.call_token = secrets.token_urlsafe(TOKEN_BYTES) if is_called else None
        if self.call_token is not None:
            sources.keeper.guard(CALL_TOKEN, self.call_token)
        self.intake = LinkIntake(durability.engine, durability.journal)
        self.reports: LinkReports | None = None
        self._serving = asyncio.Event()
        self._url = ""
        self._link: Link | None = None
        self._desk: LinkDesk | None = None
        self._work: asyncio.Task[None] | None = None
        self._farewell: asyncio.Task[None] | None = None
        self._is_closed = False

    def current(self) -> Link | None:
        """Return the link as it is now; None when there is no orchestrator, or none was made yet."""
        return self._link

    def listen_at(self, url: str) -> None:
        """Take note of where the control plane listens."""
        self._url = url

    def find_fault(self) -> str:
        """Return why the agent counts as not ready; empty when all is well, or it may do without."""
        config = self._sources.config.orchestrator
        if not self.is_on or not config.required:
            return ""
        if self._link is not None and self._link.status.state in ("up", "draining"):
            return ""
        why = None if self._link is None else self._link.status.last_error
        return f"no link to the orchestrator: {why}" if why else "no link to the orchestrator yet"

    def note_change(self) -> None:
        """Look at the host: something of it may be other than before."""
        if not self.is_on:
            return
        if self._sources.lifecycle.is_serving:
            self._serving.set()
        if self._desk is not None:
            self._desk.note_change()

    async def run(self) -> None:
        """Keep a link as soon as the agent serves, until cancelled; whatever it does, this goes on."""
        await self._sources.durability.opened.wait()
        url = self._sources.config.orchestrator.url
        if self._build is None and url is not None:
            # While the workers start: else it would come between being ready and getting tasks.
            await asyncio.to_thread(import_early, url)
        await self._serving.wait()
        pump = self._sources.pump
        # One that has not begun when the agent drains does not begin any more: what there is to
        # tell waits for the next host.
        while self._link is not None or self._farewell is None:
            self._work = asyncio.create_task(self._keep(), name="link_work")
            try:
                await asyncio.wait([self._work])
            except asyncio.CancelledError:
                await self._stop_work()
                raise
            error = None if self._work.cancelled() else self._work.exception()
            if error is not None:
                pump.log_exception("link_broke", error)
            elif not self._is_closed and self._farewell is None:
                pump.log("error", "link_ended")
            await asyncio.sleep(RESTART_S)

    async def _keep(self) -> None:
        if self._desk is None:
            self._desk = await self._open_desk()
        if self._link is None:
            settings = link_settings(self._sources.config, self._sources.directory)
            build = self._build
            if build is None:
                build = await asyncio.to_thread(find_builder, settings.url)
            self._link = build(settings, self._desk)
        if not self._is_closed:
            await self._link.run()

    async def _open_desk(self) -> LinkDesk:
        await asyncio.to_thread(import_module, "kagent_sdk.host.link_desk")
        from kagent_sdk.host.link_desk import LinkDesk  # noqa: PLC0415 - see the module
        from kagent_sdk.host.link_reports import LinkReports  # noqa: PLC0415
        from kagent_sdk.host.link_view import LinkView, Presence  # noqa: PLC0415

        sources = self._sources
        durability, keeper = sources.durability, sources.keeper
        box = LinkReports(durability.storage)
        durability.journal.listeners["link"] = box.note
        await box.open()
        self.intake.recover()
        view = LinkView(
            lambda: sources.config,
            durability.engine,
            sources.lifecycle,
            sources.watchdog.own_health,
            sources.monitor,
            lambda: sources.succession.pool.places,
        )
        self.reports = box
        presence = Presence(
            self.instance,
            await self._find_address(),
            self.call_token,
            await self._find_before(durability.storage),
        )
        return LinkDesk(
            view,
            presence,
            intake=self.intake,
            box=box,
            find_token=lambda: keeper.link_token,
            pump=sources.pump,
        )

    async def _find_before(self, storage: Storage) -> tuple[str, ...]:
        from kagent_sdk.journal.instances import succeed  # noqa: PLC0415 - see the module

        try:
            return await storage.write(partial(succeed, instance=self.instance))
        except StorageError:
            return ()  # the orchestrator waits a while longer for those before

    async def _find_address(self) -> str | None:
        config = self._sources.config.orchestrator
        assert config.url is not None
        if config.delivery == "pull":
            return None
        return config.address or await asyncio.to_thread(reachable_url, self._url, config.url)

    def drain(self) -> None:
        """Tell the orchestrator that no more tasks are taken."""
        if self._farewell is None:
            self._farewell = asyncio.create_task(self._say_draining(), name="link_farewell")

    async def _say_draining(self) -> None:
        if self._link is None:
            return
        try:
            await self._link.drain()
        except Exception as exc:  # noqa: BLE001 - the shutdown goes on without an orchestrator
            self._sources.pump.log_exception("link_broke", exc)

    async def finish(self, within_s: float) -> None:
        """Report what is left and say goodbye, in so long at the most."""
        if self._link is None or self._is_closed:
            return
        self._is_closed = True
        try:
            async with asyncio.timeout(within_s):
                await self._link.close(within_s)
        except TimeoutError:
            self._sources.pump.log("warning", "link_cut_off")
        except Exception as exc:  # noqa: BLE001 - as above
            self._sources.pump.log_exception("link_broke", exc)

    async def aclose(self, within_s: float) -> None:
        """Do as `finish` does if that was not done, and end every job; the database is still open."""
        await self.finish(within_s)
        if self._farewell is not None:
            self._farewell.cancel()
            await asyncio.gather(self._farewell, return_exceptions=True)
        await self._stop_work()
        if self._desk is not None:
            await self._desk.aclose()

    async def _stop_work(self) -> None:
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)


def import_early(url: str) -> None:
    """Import all that a link to a URL is made of; call it in a thread."""
    with suppress(ImportError):  # that is told when the link is made
        import_module("kagent_sdk.host.link_desk")
        find_builder(url)
        import_module(f"kagent_sdk.link.{_protocol_of(url)}").import_parts()


def find_builder(url: str) -> BuildLink:
    """Import what speaks the protocol of a URL; call it in a thread."""
    build: BuildLink = import_module(f"kagent_sdk.link.{_protocol_of(url)}").build_link
    return build


def _protocol_of(url: str) -> str:
    return "nats" if urlsplit(url).scheme in NATS_SCHEMES else "http"


def reachable_url(url: str, orchestrator: str) -> str:
    """Return a URL of the control plane that works from elsewhere; blocks, so call it in a thread.

    One that listens on every address has none of its own: it is the one by which this machine
    reaches the orchestrator, or its name while that cannot be found out.
    """
    parts = urlsplit(url)
    if parts.hostname not in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return url
    target = urlsplit(orchestrator)
    try:
        found = socket.getaddrinfo(target.hostname, target.port or 80, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = found[0]
        # Connecting a datagram socket sends nothing: the kernel chooses the route (udp(7)).
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)
            host = str(probe.getsockname()[0])
    except OSError:
        host = socket.gethostname()
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}:{parts.port}"
