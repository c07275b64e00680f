"""What an orchestrator is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from kagent_sdk.config.models import HttpConfig, LogsConfig, TlsConfig
from kagent_sdk.errors import OrchestratorError
from kagent_sdk.host.http.auth import is_loopback
from kagent_sdk.storage.database import Durability

MEBIBYTE = 1024 * 1024
LOOPBACK = "127.0.0.1"
DATABASE_NAME = "orchestrator.db"
LOG_NAME = "orchestrator.log"
ANNOUNCEMENT_NAME = "orchestrator.json"


@dataclass(frozen=True, slots=True)
class BrokerLimits:
    """Bounds of the tasks that are kept, and times of their lives.

    Attributes:
        lease_s: an agent that is silent for so long is lost.
        heartbeat_s: how often agents are asked to say that they live.
        route_timeout_s: how long a task waits for an agent that offers its capability.
        return_s: how long an acknowledged task that is not idempotent waits for its lost agent.
        max_task_s: the time of a task whose caller gave none.
        max_queue, max_queue_bytes: open tasks, and bytes of their inputs, that are taken.
        max_open, max_open_bytes: the same of those that agents have as well: an agent may take any
            number at once, and all of them are in memory.
        retention_s, retention_count, retention_bytes: bounds of the ended tasks that stay.
        max_events, max_event_bytes: of one task; older ones go.
    """

    lease_s: float = 15.0
    heartbeat_s: float = 5.0
    route_timeout_s: float = 30.0
    return_s: float = 120.0
    max_task_s: float = 86_400.0
    max_queue: int = 10_000
    max_queue_bytes: int = 256 * MEBIBYTE
    max_open: int = 100_000
    max_open_bytes: int = 1024 * MEBIBYTE
    retention_s: float = 7 * 86_400.0
    retention_count: int = 200_000
    retention_bytes: int = 2048 * MEBIBYTE
    max_events: int = 10_000
    max_event_bytes: int = 16 * MEBIBYTE


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """One orchestrator: where it listens, who may ask, and what it keeps.

    Attributes:
        data: the folder of ``orchestrator.db``, ``orchestrator.json`` and ``orchestrator.log``; made
            if it is not there.
        host, port: the address to listen on; port 0 takes a free one.
        agent_token: what agents show; without one any local program may be an agent.
        operator_token: what operators show; without one every local program is an operator.
        tls: serve HTTPS; with ``client_ca`` agents and callers need a certificate. Its paths are
            relative to ``data``.
        agent_ca: PEM file with who may have signed the certificates of agents that are pushed to;
            None: the system's.
        expects: names of agents that will register: tasks for them wait, known or not.
    """

    data: Path
    host: str = LOOPBACK
    port: int = 8080
    agent_token: str | None = field(default=None, repr=False)
    operator_token: str | None = field(default=None, repr=False)
    tls: TlsConfig | None = None
    agent_ca: Path | None = None
    expects: frozenset[str] = frozenset()
    limits: BrokerLimits = field(default_factory=BrokerLimits)
    durability: Durability = "process"
    logs: LogsConfig = field(default_factory=LogsConfig)
    max_connections: int = 4000
    max_body_bytes: int = 9 * MEBIBYTE
    max_report_bytes: int = 32 * MEBIBYTE
    stop_s: float = 25.0

    def http(self) -> HttpConfig:
        """Return the configuration of the server."""
        return HttpConfig(
            host=self.host,
            port=self.port,
            tls=self.tls,
            max_body_bytes=max(self.max_body_bytes, self.max_report_bytes),
            max_connections=self.max_connections,
        )

    def check(self) -> None:
        """Refuse what is not safe.

        Raises:
            OrchestratorError: it would listen for other machines without tokens, or with one token
                for both roles, or lose agents that live.
        """
        if self.agent_token is not None and self.agent_token == self.operator_token:
            raise OrchestratorError(
                "agents and operators must have different tokens: with one token for both, every "
                "agent could stop the orchestrator"
            )
        limits = self.limits
        if limits.lease_s < 2 * limits.heartbeat_s:
            raise OrchestratorError(
                f"lease_s ({limits.lease_s:g}) must be twice heartbeat_s ({limits.heartbeat_s:g}) or "
                "more: with one heartbeat that is late an agent would count as lost"
            )
        if is_loopback(self.host):
            return
        for name, token in (("agent", self.agent_token), ("operator", self.operator_token)):
            if token is None:
                raise OrchestratorError(
                    f"the orchestrator would listen on {self.host} without a token for {name}s; "
                    "give it both tokens, or let it listen on 127.0.0.1"
                )
