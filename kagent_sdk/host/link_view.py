"""What the orchestrator is told of the agent: who it is, what it takes, how it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kagent_sdk import __version__
from kagent_sdk.config.models import AgentConfig
from kagent_sdk.host.engine import Engine
from kagent_sdk.host.health import Health
from kagent_sdk.host.lifecycle import Lifecycle
from kagent_sdk.host.monitor import Monitor
from kagent_sdk.host.place import Place
from kagent_sdk.protocol.link import AgentLimits, Held, Registration, ShortStatus


@dataclass(frozen=True, slots=True)
class Presence:
    """This start of the host, as the orchestrator knows it.

    Attributes:
        instance: random, another one each time.
        url: where the orchestrator reaches the agent; None with pull.
        before: the starts that had the journal before this one.
        call_token: the bearer token that lets it in; None with pull.
    """

    instance: str
    url: str | None
    call_token: str | None = field(repr=False)
    before: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LinkView:
    """Looks at the parts of the host.

    Attributes:
        health: of the agent itself: that there is no link makes no difference to it.
    """

    config: Callable[[], AgentConfig]
    engine: Engine
    lifecycle: Lifecycle
    health: Callable[[], Health]
    monitor: Monitor
    places: Callable[[], list[Place]]

    def registration(self, presence: Presence, held: tuple[Held, ...], beat: int) -> Registration:
        """Return who the agent is and what it can do now."""
        config = self.config()
        return Registration(
            agent=config.name or "agent",
            instance=presence.instance,
            version=config.version,
            sdk_version=__version__,
            delivery=config.orchestrator.delivery,
            url=presence.url,
            token=presence.call_token,
            capabilities=tuple(self.engine.dispatcher.capabilities.values()),
            limits=self.limits(),
            labels=config.orchestrator.labels,
            status=self.status(),
            tasks=held,
            beat=beat,
            before=presence.before,
        )

    def limits(self) -> AgentLimits:
        """Return how much it takes."""
        config = self.config()
        limit = config.limits.memory_bytes
        if limit is None and self.monitor.cgroup is not None:
            limit = self.monitor.cgroup.memory.limit_bytes
        return AgentLimits(
            max_concurrency=config.tasks.max_concurrency * config.worker.count,
            max_queue=config.tasks.max_queue,
            memory_bytes=limit,
        )

    def status(self) -> ShortStatus:
        """Return how it is."""
        health, dispatcher = self.health(), self.engine.dispatcher
        samples = [sample.cpu_percent for sample in self.monitor.processes.values()]
        known = [percent for percent in samples if percent is not None]
        use = self.monitor.memory.use
        return ShortStatus(
            lifecycle=self.lifecycle.state.value,
            ready=health.ready,
            reason=None if health.reason is None else health.reason.value,
            working=dispatcher.running,
            queued=len(dispatcher.queue),
            memory_used_bytes=None if use is None else use.used_bytes,
            cpu_percent=sum(known) if known else None,
            restarts=sum(place.restarts for place in self.places()),
        )

    def changing(self) -> tuple[object, ...]:
        """Return what of the registration may change while the host runs, to be compared."""
        config = self.config()
        return (
            self.engine.dispatcher.capabilities,
            config.version,
            config.orchestrator.labels,
            config.tasks.max_concurrency,
            config.tasks.max_queue,
            config.worker.count,
        )
