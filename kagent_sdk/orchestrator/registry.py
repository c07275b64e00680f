"""Who the agents are: each process of them is an instance with a lease of its own. Pure.

It is in memory alone: after a restart of the orchestrator agents are told that they are unknown,
and register again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from kagent_sdk.orchestrator.missing import MissingInstance, MissingInstances
from kagent_sdk.protocol.link import Registration, ShortStatus
from kagent_sdk.protocol.manifest import CapabilityManifest

Phase = Literal["up", "draining"]

REMEMBERED_S = 600.0
"""A capability whose agents are all gone is still known for so long: they may be restarting."""

MAX_REMEMBERED = 10_000
MAX_INSTANCES = 5_000
MAX_REGISTRY_BYTES = 128 * 1024 * 1024
"""Of all registrations as they came: each may be as large as a request."""

QUEUE_AHEAD = 2
"""Tasks that an agent gets beyond those that it runs, so that it need not wait for the next one."""


@dataclass(slots=True, eq=False)
class Instance:
    """One process of an agent. Read it, but let the registry alone change it.

    Attributes:
        registration: what it said of itself last.
        status: as of its last message.
        phase: ``draining`` takes no more tasks.
        registered_s, seen_s: when it registered first and was heard of last, on the registry's clock.
        leases: task ids by lease, of the tasks that it was offered and that have not ended.
        foreign: tasks that it has from others, as of its last heartbeat.
        not_before_s: it asked to be left alone until then.
        failures: offers in a row that could not be brought to it.
        fetches: how many tasks it asks for at the moment; with ``pull`` alone.
        is_doubted: another one says that it has the address, or the journal; it gets no tasks until it
            is heard of.
        is_succeeded: another one has the journal: if this one is lost, it does not come back.
        size_bytes: of its registration.
        beat: the number of the last message that named its tasks; 0: it does not count them.
    """

    registration: Registration
    status: ShortStatus
    registered_s: float
    seen_s: float
    phase: Phase = "up"
    leases: dict[str, str] = field(default_factory=dict)
    foreign: int = 0
    not_before_s: float = 0.0
    failures: int = 0
    fetches: int = 0
    is_doubted: bool = False
    is_succeeded: bool = False
    size_bytes: int = 0
    beat: int = 0
    capabilities: Mapping[str, CapabilityManifest] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The instance's id: random, and another one each time its host starts."""
        return self.registration.instance

    @property
    def agent(self) -> str:
        """The agent's name, which its replicas share."""
        return self.registration.agent

    @property
    def is_pushed(self) -> bool:
        """Whether tasks are brought to it; else it fetches them."""
        return self.registration.delivery == "push"

    @property
    def is_ready(self) -> bool:
        """Whether it takes tasks, by its own account; one that is doubted does not."""
        return self.phase == "up" and self.status.ready and not self.is_doubted

    @property
    def load(self) -> int:
        """Tasks that it has: those of others, and those that it was offered."""
        return self.foreign + len(self.leases)

    @property
    def room(self) -> int:
        """How many tasks more it may be offered; 0 or less: none."""
        if not self.is_pushed:
            return self.fetches
        limits = self.registration.limits
        return limits.max_concurrency + min(limits.max_queue, QUEUE_AHEAD) - self.load

    def describe(self, now_s: float) -> dict[str, Any]:
        """Return what ``/v1/agents`` shows of it; no token."""
        registration = self.registration
        return {
            "instance": self.id,
            "version": registration.version,
            "sdk_version": registration.sdk_version,
            "delivery": registration.delivery,
            "url": registration.url,
            "labels": dict(registration.labels),
            "capabilities": sorted(self.capabilities),
            "limits": registration.limits.model_dump(),
            "phase": self.phase,
            "ready": self.is_ready,
            "status": self.status.model_dump(),
            "tasks": len(self.leases),
            "registered_ago_s": round(now_s - self.registered_s, 3),
            "silent_s": round(now_s - self.seen_s, 3),
        }


class Registry:
    """The instances that have registered and are not lost.

    Every time is on one monotonic clock, which the caller reads.

    Attributes:
        missing: those that were lost a short while ago.
    """

    def __init__(self) -> None:
        self.missing = MissingInstances()
        self._instances: dict[str, Instance] = {}
        self._by_agent: dict[str, dict[str, Instance]] = defaultdict(dict)
        self._by_capability: dict[str, dict[str, Instance]] = defaultdict(dict)
        self._remembered: dict[tuple[str, str], float] = {}
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._instances)

    def __iter__(self) -> Iterator[Instance]:
        return iter(self._instances.values())

    def find(self, instance_id: str) -> Instance | None:
        """Return an instance."""
        return self._instances.get(instance_id)

    def instances_of(self, agent: str) -> Sequence[Instance]:
        """Return the instances of an agent, the oldest registration first."""
        return tuple(self._by_agent.get(agent, {}).values())

    def offering(self, capability: str) -> Collection[Instance]:
        """Return the instances that offer a capability, ready or not."""
        return self._by_capability.get(capability, {}).values()

    def agents(self) -> list[str]:
        """Return the names of the agents, sorted."""
        return sorted(name for name, instances in self._by_agent.items() if instances)

    def names(self, now_s: float) -> set[tuple[str, str]]:
        """Return agents and capabilities that are known, or were a moment ago."""
        known = {
            (instance.agent, name)
            for instance in self._instances.values()
            for name in instance.capabilities
        }
        known.update(key for key, until_s in self._remembered.items() if until_s > now_s)
        return known

    def knows(self, agent: str | None, capability: str, now_s: float) -> bool:
        """Whether an agent, or any if None, offers a capability, or did a moment ago."""
        if any(agent in {None, one.agent} for one in self.offering(capability)):
            return True
        if agent is not None:
            return self._remembered.get((agent, capability), 0.0) > now_s
        return any(
            name == capability and until_s > now_s
            for (_, name), until_s in self._remembered.items()
        )

    def manifests(self) -> list[tuple[str, CapabilityManifest]]:
        """Return every capability once for each agent, by the newest registration of it."""
        found = {
            (instance.agent, name): manifest
            for instance in self._instances.values()
            for name, manifest in instance.capabilities.items()
        }
        return [(agent, found[agent, name]) for agent, name in sorted(found)]

    def has_room(self, instance_id: str, size_bytes: int) -> bool:
        """Whether an instance may register with so many bytes."""
        known = self._instances.get(instance_id)
        others, before = (0, 0) if known is None else (-1, known.size_bytes)
        return (
            len(self._instances) + others < MAX_INSTANCES
            and self._size_bytes - before + size_bytes <= MAX_REGISTRY_BYTES
        )

    def register(
        self, registration: Registration, now_s: float, size_bytes: int = 0
    ) -> tuple[Instance, Instance | None]:
        """Take note of an instance; one that is known keeps its leases.

        Returns:
            The instance, and another one with the same address. One address is one process, so that
            one is gone, or one of the two lies: it is doubted until it is heard of.
        """
        known = self._instances.get(registration.instance)
        instance = Instance(registration, registration.status, now_s, now_s)
        instance.size_bytes = size_bytes
        self._size_bytes += size_bytes - (0 if known is None else known.size_bytes)
        instance.capabilities = {item.name: item for item in registration.capabilities}
        superseded = None
        if known is not None:
            self._unlist(known)
            instance.leases, instance.fetches = known.leases, known.fetches
            instance.phase, instance.beat = known.phase, known.beat
            instance.registered_s = known.registered_s
        elif instance.is_pushed:
            superseded = self._at(registration)
            if superseded is not None:
                superseded.is_doubted = True
        instance.foreign = _foreign(instance)
        self.missing.drop(instance.id)
        self._instances[instance.id] = instance
        self._by_agent[instance.agent][instance.id] = instance
        for name in instance.capabilities:
            self._by_capability[name][instance.id] = instance
        return instance, superseded

    def hear(self, instance: Instance, status: ShortStatus, now_s: float, beat: int = 0) -> None:
        """Note a registration or a heartbeat; ``beat`` is its number."""
        instance.beat = max(instance.beat, beat)
        instance.is_doubted = instance.is_succeeded = False
        instance.status = status
        instance.seen_s = now_s
        instance.foreign = _foreign(instance)

    def doubt(self, instance: Instance) -> None:
        """Note that another one has an instance's journal: this one is gone, or the other one lies."""
        instance.is_doubted = instance.is_succeeded = True

    def drain(self, instance: Instance) -> None:
        """Note that an instance takes no more tasks."""
        instance.phase = "draining"

    def remove(self, instance: Instance, now_s: float) -> None:
        """Forget an instance; what it offered stays known for a while."""
        if self._instances.pop(instance.id, None) is None:
            return
        self._unlist(instance)
        self._size_bytes -= instance.size_bytes
        for key in [key for key, until_s in self._remembered.items() if until_s <= now_s]:
            del self._remembered[key]
        for name in instance.capabilities:
            if len(self._remembered) < MAX_REMEMBERED:
                self._remembered[instance.agent, name] = now_s + REMEMBERED_S

    def lose(self, instance: Instance, now_s: float) -> None:
        """Forget an instance that fell silent, but for the fact."""
        self.remove(instance, now_s)
        one = instance.registration
        self.missing.note(
            MissingInstance(
                one.agent,
                one.instance,
                one.version,
                one.sdk_version,
                one.delivery,
                one.url,
                instance.seen_s,
            )
        )

    def _unlist(self, instance: Instance) -> None:
        _discard(self._by_agent, instance.agent, instance.id)
        for name in instance.capabilities:
            _discard(self._by_capability, name, instance.id)

    def _at(self, registration: Registration) -> Instance | None:
        for other in self.instances_of(registration.agent):
            if other.is_pushed and other.registration.url == registration.url:
                return other
        return None


def _foreign(instance: Instance) -> int:
    status = instance.status
    return max(0, status.working + status.queued - len(instance.leases))


def _discard(table: dict[str, dict[str, Instance]], key: str, instance_id: str) -> None:
    instances = table.get(key)
    if instances is not None:
        instances.pop(instance_id, None)
        if not instances:
            del table[key]
