"""How the agents that are linked to NATS say that they are: its registry, without an orchestrator."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from kagent_sdk.protocol.mesh_status import MeshAgent, NatsStatus, ReplicaInfo

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kagent_sdk.cli.nats_session import NatsSession
    from kagent_sdk.protocol.link import Registration


def fetch_status(session: NatsSession) -> NatsStatus:
    """Ask the registry who is there.

    Raises:
        CommandError: NATS does not answer.
    """
    caller = session.caller
    return describe(session.run(caller.registry.agents()), session.url)


def describe(registrations: Iterable[Registration], url: str) -> NatsStatus:
    """Return the agents by name, each with its replicas; who is silent is in the registry no more."""
    by_name: defaultdict[str, list[Registration]] = defaultdict(list)
    for one in registrations:
        by_name[one.agent].append(one)
    return NatsStatus(
        url=url,
        agents=tuple(
            MeshAgent(
                name=name,
                capabilities=tuple(
                    sorted({offer.name for one in found for offer in one.capabilities})
                ),
                replicas=tuple(map(_replica, sorted(found, key=lambda one: one.instance))),
            )
            for name, found in sorted(by_name.items())
        ),
    )


def _replica(one: Registration) -> ReplicaInfo:
    status = one.status
    return ReplicaInfo(
        instance=one.instance,
        version=one.version,
        sdk_version=one.sdk_version,
        delivery=one.delivery,
        url=one.url,
        labels=dict(one.labels),
        state="draining" if status.lifecycle == "draining" else "up",
        lifecycle=status.lifecycle,
        ready=status.ready,
        reason=status.reason,
        working=status.working,
        queued=status.queued,
        max_concurrency=one.limits.max_concurrency,
        memory_used_bytes=status.memory_used_bytes,
        cpu_percent=status.cpu_percent,
        restarts=status.restarts,
    )
