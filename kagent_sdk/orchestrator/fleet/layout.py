"""Where the fleet keeps what it needs: paths below ``.kos-mesh/``. Pure.

::

    .kos-mesh/
      fleet.json                    what runs, for the next orchestrator
      agents/NAME/
        releases/DIGEST/            the author's files, as they were at an `up` or `update`
        0/ 1/ …                     the working folder of each replica, with its own runtime/ and logs/
        trial/                      where a new release is tried
        keys/N/                     the replica's token, and the one that it shows the orchestrator
        out/N.log                   what its host wrote to stdout and stderr
        snapshots/N/                the replica's snapshots
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

TRIAL = "trial"
RELEASE_MARK = ".kos-release"
"""In a working folder: the name of the release in it; it is written last."""

IMAGE_MARK = ".kos-image"
"""In a release for containers: the image that it is."""

RUNTIME_FOLDERS = ("runtime", "logs")
"""What of a working folder outlives releases, beside what the agent's sandbox may write."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one mesh.

    Attributes:
        data: ``.kos-mesh``; absolute.
    """

    data: Path

    @property
    def record(self) -> Path:
        """What runs."""
        return self.data / "fleet.json"

    def agent(self, name: str) -> Path:
        """Return the folder of all that is kept of an agent."""
        return self.data / "agents" / name

    def releases(self, name: str) -> Path:
        """Return the folder of an agent's releases."""
        return self.agent(name) / "releases"

    def place(self, name: str, label: str) -> Place:
        """Return the paths of one replica, by its number, or of `TRIAL`."""
        folder = self.agent(name)
        return Place(
            folder / label,
            folder / "keys" / label,
            folder / "out" / f"{label}.log",
            folder / "snapshots" / label,
            self.data,
        )


@dataclass(frozen=True, slots=True)
class Place:
    """The paths of one replica.

    Attributes:
        folder: in which it works.
        keys: of its tokens.
        out: what its host wrote to stdout and stderr, from its last start on.
        snapshots: the default destination of its snapshots.
        top: the outermost folder that is the fleet's.
    """

    folder: Path
    keys: Path
    out: Path
    snapshots: Path
    top: Path

    @property
    def token(self) -> Path:
        """The file with the token that opens the replica's own control plane."""
        return self.keys / "token"

    @property
    def link_token(self) -> Path:
        """The file with the token that it shows the orchestrator."""
        return self.keys / "link-token"

    @property
    def port(self) -> Path:
        """Where the port is written down at which this machine shows a container."""
        return self.keys / "port"

    @property
    def container(self) -> str:
        """The name of the replica's container: another one in each mesh of the machine."""
        mesh = hashlib.sha256(str(self.top).encode()).hexdigest()[:8]
        return f"kos-{self.folder.parent.name}-{self.folder.name}-{mesh}"

    @property
    def runtime(self) -> Path:
        """The folder of what its host writes."""
        return self.folder / "runtime"

    @property
    def host_file(self) -> Path:
        """Where the running host says how to reach it."""
        return self.folder / "runtime" / "host.json"

    @property
    def log(self) -> Path:
        """The agent's log."""
        return self.folder / "logs" / "runtime.log"

    @property
    def lock(self) -> Path:
        """What a running host has locked."""
        return self.folder / "runtime" / "journal.db.lock"

    @property
    def journal(self) -> Path:
        """The agent's journal."""
        return self.folder / "runtime" / "journal.db"
