"""The fleet: the agents of a mesh, as a part of the orchestrator's service."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from kagent_sdk.config import read_config
from kagent_sdk.errors import ConfigError, OrchestratorError, StorageError, StorageLockedError
from kagent_sdk.orchestrator.fleet.client import ReplicaClient
from kagent_sdk.orchestrator.fleet.drivers import make_driver
from kagent_sdk.orchestrator.fleet.group import AgentGroup
from kagent_sdk.orchestrator.fleet.hosts import end, find_running
from kagent_sdk.orchestrator.fleet.layout import Layout
from kagent_sdk.orchestrator.fleet.news import News, Tell, tell_nobody
from kagent_sdk.orchestrator.fleet.ownership import refuse_foreign
from kagent_sdk.orchestrator.fleet.preparation import Preparation
from kagent_sdk.orchestrator.fleet.process import HostProcess
from kagent_sdk.orchestrator.fleet.record import (
    AgentRecord,
    FleetRecord,
    read_record,
    write_record,
)
from kagent_sdk.orchestrator.fleet.routes import FleetRoutes
from kagent_sdk.orchestrator.fleet.workplace import LinkGrounds, inherited
from kagent_sdk.storage.database import lock_database

if TYPE_CHECKING:
    from pathlib import Path

    from kagent_sdk.config.mesh import Mesh, MeshAgent
    from kagent_sdk.orchestrator.fleet.containers import Containers
    from kagent_sdk.orchestrator.port import Route

KILL_RESERVE_S = 3.0
"""Of the time for a stop: what SIGKILL takes, after those who did not go."""

STRAY_GRACE_S = 30.0


def check_agents(mesh: Mesh, environ: Mapping[str, str]) -> None:
    """Read the configuration of every agent, before anything is started.

    Raises:
        ConfigError: one is wrong; the message has a line for everything that is.
    """
    found = []
    for name, spec in mesh.config.agents.items():
        plain = inherited(environ) | spec.variables() | {"AGENT_NAME": name}
        try:
            read_config(mesh.path_of(name), environ=plain)
        except ConfigError as exc:
            found += [f"{name}: {line}" for line in str(exc).splitlines()]
    if found:
        raise ConfigError("\n".join(found))


class Fleet:
    """Runs the agents of a mesh; a `kagent_sdk.orchestrator.port.ServicePart`.

    Args:
        mesh: which agents, and how many of each.
        data: ``.kos-mesh``; absolute.
        token: what agents show the orchestrator; None: it asks for none.
        environ: the orchestrator's own environment.
        tell: told of what happens.
        containers: of this machine; None: no agent of the mesh is in one.
    """

    def __init__(
        self,
        mesh: Mesh,
        data: Path,
        *,
        token: str | None,
        environ: Mapping[str, str],
        tell: Tell = tell_nobody,
        containers: Containers | None = None,
    ) -> None:
        self.groups: dict[str, AgentGroup] = {}
        self._mesh = mesh
        self._layout = Layout(data)
        self._token = token
        self._environ = environ
        self._tell = tell
        self._containers = containers
        self._client = ReplicaClient()
        self._record = FleetRecord()
        self._saving = asyncio.Lock()
        self._is_stopping = self._is_hurried = False

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep other orchestrators from the same fleet for the time of the block; it blocks.

        Raises:
            OrchestratorError: another one has it.
        """
        lock = self._lock()
        try:
            yield
        finally:
            os.close(lock)

    def routes(self) -> Sequence[Route]:
        """Return the routes below ``/v1/fleet``."""
        return FleetRoutes(self.groups, self._layout).routes()

    async def run(self, url: str) -> None:
        """Bring the agents up, and keep them up until cancelled; they then go on without it."""
        try:
            async with self._client:
                await self._begin(url)
                await asyncio.Event().wait()
        finally:
            for group in self.groups.values():
                await group.release()

    async def stop(self, within_s: float) -> None:
        """End all agents: politely, and those that are still there at the end of the time by force."""
        self._is_stopping = True
        polite_s = max(within_s - KILL_RESERVE_S, within_s / 2)
        await asyncio.gather(*(group.stop(polite_s) for group in self.groups.values()))
        self._tell(News("fleet_stopped", "", None, {}))

    def hurry(self) -> None:
        """Let agents that are stopping stop sooner; when asked again, kill them."""
        for group in self.groups.values():
            group.hurry(by_force=self._is_hurried)
        self._is_hurried = True

    def documents(self) -> list[dict[str, Any]]:
        """Return what is known of every agent, as JSON."""
        return [group.document() for group in self.groups.values()]

    def status(self) -> dict[str, Any]:
        """Return what ``GET /v1/fleet`` does, and ``link`` where tasks do not go through here."""
        link = self._mesh.config.orchestrator.link
        found = {"agents": list(self.documents())}
        return {"fleet": found if link is None else {**found, "link": link}}

    async def _begin(self, url: str) -> None:
        self._tell(News("fleet_started", "", None, {"url": url}))
        self._record = await asyncio.to_thread(read_record, self._layout.record)
        link = self._mesh.config.orchestrator.link
        is_moved = self._record.link not in {None, link or url}
        self._record.url, self._record.link = url, link or url
        await self._end_strangers()
        for name, spec in self._mesh.config.agents.items():
            if self._is_stopping:
                return
            group = AgentGroup(
                self._prepare(name, spec, url),
                self._layout,
                self._client,
                record=self._record.agents.setdefault(name, AgentRecord()),
                save=self._save,
                tell=self._tell,
            )
            self.groups[name] = group
            group.begin(is_moved=is_moved)

    def _prepare(self, name: str, spec: MeshAgent, url: str) -> Preparation:
        return Preparation(
            name,
            spec,
            self._mesh.path_of(name),
            self._grounds(spec, url),
            self._environ,
            make_driver(spec, self._containers),
        )

    def _grounds(self, spec: MeshAgent, url: str) -> LinkGrounds:
        """Return where an agent finds its orchestrator."""
        orchestrator = self._mesh.config.orchestrator
        if orchestrator.link is not None:
            # NATS has its own users and tokens, which are the author's to give.
            return LinkGrounds(orchestrator.link, None)
        if spec.driver == "process" or orchestrator.address is None:
            return LinkGrounds(url, self._token)
        address = orchestrator.address
        if urlsplit(address).port is None:
            address = f"{address}:{urlsplit(url).port}"
        return LinkGrounds(address, self._token)

    async def _end_strangers(self) -> None:
        """End what was left running of agents that the mesh has no more."""
        gone = [name for name in self._record.agents if name not in self._mesh.config.agents]
        for name in gone:
            processes = self._record.agents.pop(name).processes
            for label, known in processes.items():
                place = self._layout.place(name, label)
                found = await asyncio.to_thread(find_running, place, known.identity)
                if found is not None:
                    self._tell(News("replica_ended", name, None, {"pid": found.pid}))
                    await end(HostProcess(found, None, adopted=True), STRAY_GRACE_S)

    async def _save(self) -> None:
        # Whole and in order, even when the one who asks is cancelled meanwhile.
        await asyncio.shield(asyncio.ensure_future(self._write()))

    async def _write(self) -> None:
        async with self._saving:
            text = self._record.model_dump_json(indent=1).encode()
            try:
                await asyncio.to_thread(write_record, self._layout.record, text)
            except OSError as exc:
                self._tell(News("fleet_not_recorded", "", None, {"reason": str(exc.strerror)}))

    def _lock(self) -> int:
        self._layout.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        refuse_foreign(self._layout.data)
        try:
            return lock_database(self._layout.record)
        except StorageLockedError:
            raise OrchestratorError(
                f"another orchestrator runs the fleet of {self._layout.data}; stop it first"
            ) from None
        except StorageError as exc:
            raise OrchestratorError(str(exc)) from exc
