"""Makes what a replica finds when it starts: its folder, its secrets, its tokens."""

from __future__ import annotations

import json
import os
import shutil
import socket
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kagent_sdk.config import read_config
from kagent_sdk.errors import ConfigError, OrchestratorError
from kagent_sdk.host.secret_file import read_secret_file
from kagent_sdk.host.users import becomes_agent
from kagent_sdk.host.vault import TOKEN_KEY
from kagent_sdk.orchestrator.fleet.drivers import Driver, ProcessDriver
from kagent_sdk.orchestrator.fleet.ownership import (
    keep_token,
    make_folder,
    open_below,
    read_secret,
    read_secret_in,
    write_secret,
    write_secret_in,
)
from kagent_sdk.orchestrator.fleet.releases import kept_names, lay_out
from kagent_sdk.orchestrator.fleet.workplace import LOOPBACK, Workplace, environment_of
from kagent_sdk.sandbox.policy import AGENT_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kagent_sdk.config.mesh import MeshAgent
    from kagent_sdk.config.models import AgentConfig
    from kagent_sdk.orchestrator.fleet.layout import Place
    from kagent_sdk.orchestrator.fleet.workplace import LinkGrounds

MAX_VAULT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Preparation:
    """Makes working folders of one agent. Its methods block: use them in a thread.

    Attributes:
        name: of the agent.
        spec: of the mesh.
        source: the author's folder; the vault is copied from there at each start.
        link: where the orchestrator is.
        environ: the orchestrator's own environment.
        driver: how replicas are run.
    """

    name: str
    spec: MeshAgent
    source: Path
    link: LinkGrounds
    environ: Mapping[str, str]
    driver: Driver = field(default_factory=ProcessDriver)

    def find_image(self, place: Place) -> str | None:
        """Return the image that the author's folder has at this moment; None: it needs none.

        Raises:
            OrchestratorError: it is not there.
            ConfigError: the configuration is wrong.
        """
        environ = environment_of(self.name, self.spec, place, self.link, self.environ)
        return self.driver.find_image(self.source, environ)

    def check(self, release: Path, place: Place) -> Workplace:
        """Read what an agent of this release would be.

        Raises:
            OrchestratorError: its configuration is wrong.
        """
        environment = environment_of(self.name, self.spec, place, self.link, self.environ)
        try:
            plain = {k: v for k, v in environment.items() if k != "AGENT_SNAPSHOTS__DESTINATION"}
            config = read_config(release, environ=plain).config
            if "destination" in config.snapshots.model_fields_set:
                environment = plain
            else:
                config = read_config(release, environ=environment).config
        except ConfigError as exc:
            lines = str(exc).replace("\n", "; ")
            raise OrchestratorError(f"{self.name}: {lines}") from exc
        is_other = becomes_agent(config) or (self.spec.driver == "container" and os.geteuid() == 0)
        owner = AGENT_ID if is_other else None
        return Workplace(config, environment, owner)

    def prepare(self, release: Path, place: Place) -> Workplace:
        """Make a replica's folder one of this release, with its keys and the author's secrets.

        Nothing may run in it.

        Raises:
            OrchestratorError: it cannot be made.
        """
        workplace = self.check(release, place)
        owner = workplace.owner
        try:
            for folder in (place.folder.parent, place.keys, place.out.parent, place.snapshots):
                make_folder(folder, place.top, passable=owner is not None)
            if owner is not None:
                shutil.chown(place.snapshots, owner, owner)
            token = keep_token(place.token, owner)
            if self.link.token is not None:
                write_secret(place.link_token, self.link.token.encode(), owner)
        except OSError as exc:
            raise OrchestratorError(
                f"cannot write {exc.filename or place.keys}: {exc.strerror or exc}"
            ) from exc
        lay_out(release, place.folder, kept_names(workplace.config))
        self._bring_vault(place, workplace)
        if self.spec.driver == "container":
            return self._contain(place, workplace, token)
        return workplace

    def refresh_vault(self, place: Place, workplace: Workplace) -> bool:
        """Copy the author's vault if it has changed, for the running host to see; tell whether it had.

        Raises:
            OrchestratorError: it cannot be copied.
        """
        return self._bring_vault(place, workplace)

    def _contain(self, place: Place, workplace: Workplace, token: str) -> Workplace:
        """Give a container a port of this machine, at which the orchestrator reaches it."""
        try:
            port = free_port()
            write_secret(place.port, str(port).encode(), None)
        except OSError as exc:
            raise OrchestratorError(f"cannot write {place.port}: {exc.strerror or exc}") from exc
        address = {"AGENT_ORCHESTRATOR__ADDRESS": f"http://{LOOPBACK}:{port}"}
        return replace(workplace, environment={**workplace.environment, **address})

    def _vault_for(self, content: bytes | None, place: Place, config: AgentConfig) -> bytes | None:
        """Return what a replica's vault holds: a container sees no file of a token, so they are in it."""
        if self.spec.driver == "process":
            return content
        try:
            vault = {} if content is None else json.loads(content)
        except ValueError:
            return content  # the agent itself says best what is wrong with it
        if not isinstance(vault, dict):
            return content
        vault[TOKEN_KEY] = read_secret(place.token)
        if self.link.token is not None:
            vault[config.orchestrator.token] = self.link.token
        return json.dumps(vault).encode()

    def _bring_vault(self, place: Place, workplace: Workplace) -> bool:
        name = Path(workplace.config.secrets.file)
        if name.is_absolute() or ".." in name.parts:
            return False  # it is where it is, whoever reads it
        # A copy, and no link: the host refuses a vault that leads out of its folder, and root's agents
        # are another user, who could not read the author's.
        try:
            self._refuse_links(name.parent)
            shown = f"{self.name}: {name}"
            content = read_secret_file(self.source / name, shown, MAX_VAULT_BYTES)
            content = self._vault_for(content, place, workplace.config)
            return self._put_vault(place.folder, name, content, workplace.owner)
        except ConfigError as exc:
            raise OrchestratorError(str(exc)) from exc
        except OSError as exc:
            raise OrchestratorError(
                f"{self.name}: cannot copy {name}: {exc.strerror or exc}"
            ) from exc

    def _refuse_links(self, folder: Path) -> None:
        """See that the vault's folder is the author's, where root reads what another user has made.

        A link in its place would have root copy the secrets of another agent to this one.

        Raises:
            OSError: a folder on the way is none.
        """
        if os.geteuid() == 0 and self.source.stat().st_uid != 0:
            with (
                suppress(FileNotFoundError),
                open_below(self.source.resolve(), folder.parts, create=False),
            ):
                pass

    def _put_vault(self, top: Path, name: Path, content: bytes | None, owner: int | None) -> bool:
        """Write, or remove, the copy; folders on the way may be the agent's, with links in them."""
        folders = name.parent.parts
        if content is None:
            with suppress(FileNotFoundError), open_below(top, folders, create=False) as folder:
                os.unlink(name.name, dir_fd=folder)
            return False
        passable = owner is not None
        with open_below(top, folders, create=True, passable=passable) as folder:
            if read_secret_in(folder, name.name, MAX_VAULT_BYTES * 2) == content:
                return False
            write_secret_in(folder, name.name, content, owner)
        return True


def free_port() -> int:
    """Return a port of loopback that nobody has at this moment.

    Raises:
        OSError: there is none.
    """
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port
