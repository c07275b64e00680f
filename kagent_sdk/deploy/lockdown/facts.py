"""What a manifest says of one container, as frozen data. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


class Role(enum.StrEnum):
    """What a container is for."""

    AGENT = "agent"
    EGRESS = "egress"
    """The egress proxy outside: it alone may be on an ordinary network."""
    OTHER = "other"
    """Beside the agent in its Pod: what belongs to host and workers alone is not asked of it."""


class Network(enum.StrEnum):
    """Where a network leads."""

    NONE = "none"
    INTERNAL = "internal"
    """To other containers; there is no route out."""
    ORDINARY = "ordinary"
    HOST = "host"
    UNSEEN = "unseen"
    """The file does not say."""


@dataclass(frozen=True, slots=True)
class Stated:
    """One entry of many, and where it stands."""

    text: str
    where: str


@dataclass(frozen=True, slots=True)
class Joined:
    """A network that a container is on."""

    name: str
    network: Network
    where: str


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or folder inside a container.

    Attributes:
        source: of the machine, or a volume's name; empty where there is none.
        target: inside.
        kind: ``bind``, ``volume``, ``tmpfs``, or Kubernetes' name of the volume's type.
        is_writable: else it is mounted read-only.
        allows: of ``exec``, ``suid`` and ``dev``, what it does not take away although this kind of
            mount can.
        where: in the file.
    """

    source: str
    target: str
    kind: str
    is_writable: bool
    allows: tuple[str, ...]
    where: str


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a container that the machine shows.

    Attributes:
        address: of the machine; empty: all of them.
        port: of the machine; empty: a free one.
        target: in the container.
        where: in the file.
    """

    address: str
    port: str
    target: str
    where: str


@dataclass(frozen=True, slots=True)
class Lockdown:
    """What a manifest says of one container; what it does not say is as the engine has it.

    Attributes:
        name: the container's.
        kind: of manifest: the target that is compared.
        where: the container is in the file.
        role: what it is for.
        image: None: none is named.
        user: numeric, or a name; None: as the image has it.
        group: the same.
        groups: further ones.
        command: words that replace or follow the image's entrypoint.
        is_root_read_only: the root file system is.
        has_implicit_scratch: the engine mounts a writable /tmp, /run and /var/tmp.
        added, dropped: capabilities, in upper case without ``CAP_``.
        forbids_new_privileges: for setuid programs and the like.
        is_privileged: nothing of this counts.
        seccomp: ``default``, ``unconfined``, or what names the profile; None: nothing is said.
        unconfined: what else lifts a protection: AppArmor, SELinux, masked paths.
        sysctls: ``NAME=VALUE``.
        memory_bytes, swap_bytes, cpu_cores, pids: limits; None: there is none. Swap is memory and
            swap together, as engines have it.
        ulimits: hard limits by name; -1: none.
        networks: all that it is on.
        namespaces: those it shares, with the machine or others: ``pid=host``.
        devices: of the machine.
        gpus: how many; -1: all.
        mounts, ports: see there.
        environment: ``NAME=VALUE``.
        stop_s: how long it has to stop; None: as the engine has it.
        health: what is missing or switched off of its probes.
        exposes: what else it is given: a token of the cluster, a Service to the world.
        unknown: what is not understood.
        cannot: controls that this kind of manifest has no words for.
        places: where each of the attributes stands, by its name.
    """

    name: str
    kind: str
    where: str
    role: Role = Role.AGENT
    image: str | None = None
    user: str | None = None
    group: str | None = None
    groups: tuple[Stated, ...] = ()
    command: tuple[str, ...] = ()
    is_root_read_only: bool = False
    has_implicit_scratch: bool = False
    added: tuple[Stated, ...] = ()
    dropped: tuple[str, ...] = ()
    forbids_new_privileges: bool = False
    is_privileged: bool = False
    seccomp: str | None = None
    unconfined: tuple[Stated, ...] = ()
    sysctls: tuple[Stated, ...] = ()
    memory_bytes: int | None = None
    swap_bytes: int | None = None
    cpu_cores: float | None = None
    pids: int | None = None
    ulimits: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    networks: tuple[Joined, ...] = ()
    namespaces: tuple[Stated, ...] = ()
    devices: tuple[Stated, ...] = ()
    gpus: int = 0
    mounts: tuple[Mount, ...] = ()
    ports: tuple[Port, ...] = ()
    environment: tuple[Stated, ...] = ()
    stop_s: float | None = None
    health: tuple[Stated, ...] = ()
    exposes: tuple[Stated, ...] = ()
    unknown: tuple[Stated, ...] = ()
    cannot: frozenset[str] = frozenset()
    places: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def place(self, attribute: str) -> str:
        """Return where an attribute stands, or the container where nothing is said of it."""
        return self.places.get(attribute, self.where)
