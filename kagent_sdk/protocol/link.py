"""kLink: what agents and an orchestrator say to each other, whatever carries it.

Over HTTP the agent asks, and the orchestrator answers::

    POST /v1/link/agents                        Registration   → Registered
    POST /v1/link/agents/{instance}/heartbeat   Heartbeat      → HeartbeatAnswer; 404: register again
    POST /v1/link/agents/{instance}/fetch       Fetch          → 200 an offer, or 204
    POST /v1/link/agents/{instance}/reports     Reports        → ReportsAnswer
    POST /v1/link/agents/{instance}/goodbye     Goodbye        → 204

An *offer* is a task with a lease. It has one shape in both ways of delivery: the body of
``POST /v1/tasks`` (`kagent_sdk.protocol.envelope`, its id given) and the headers of `OFFER_HEADERS`.
With *push* the orchestrator posts it to the agent's ``/v1/tasks`` with ``Prefer: respond-async``, and
202 (or 200) says that the agent has it; with *pull* it is the answer to a fetch, and the next
heartbeat that names it says so.

A lease is a random word for one attempt of one task at one agent. Whoever has it tells the task's
events and its end (*reports*), again and again until the orchestrator has them; heartbeats that name
it keep it. When it is lost the task is offered elsewhere, and what its old holder reports is refused.

Registrations and heartbeats of an instance are its *beats*, numbered from 1 on. An offer carries the
number of the last one that the orchestrator had heard. It gives up an offer that `headers.MISSED_BEATS`
later ones do not name; an agent that has sent so many since does not take the offer. So an offer that comes
late is not begun beside another one, whatever the network does, and without comparing clocks.

Readers ignore members that they do not know, so each side may be newer than the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from kagent_sdk.protocol.headers import KLINK_LEASE, TASK_ID_PATTERN
from kagent_sdk.protocol.manifest import MAX_CAPABILITIES, CapabilityManifest

LINK_VERSION = 1

LEASE_HEADER = KLINK_LEASE
ATTEMPT_HEADER = "Klink-Attempt"
HOPS_HEADER = "Klink-Hops"
BEAT_HEADER = "Klink-Beat"
OFFER_HEADERS = (LEASE_HEADER, ATTEMPT_HEADER, HOPS_HEADER, BEAT_HEADER, "traceparent")

MAX_HOPS = 16
"""Agents that call agents that call agents: a task that has come further is part of a circle."""

MAX_HELD = 100_000
MAX_BEFORE = 16
"""Starts of an agent whose tasks an orchestrator may still wait for."""

MAX_REPORTS = 1000
MAX_FETCH_WAIT_S = 60.0

MAX_COUNT = 2**53
"""Of anything that is counted: what every reader of JSON holds exactly. Who compares shares of counts
without a bound divides by numbers that no float holds."""

MAX_BYTES = 2**64

WORD_PATTERN = r"^[A-Za-z0-9_-]{16,64}$"
"""Instances and leases: random, and too long to guess."""

AGENT_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"

Word = Annotated[str, Field(pattern=WORD_PATTERN)]
TaskId = Annotated[str, Field(pattern=TASK_ID_PATTERN)]
ShortText = Annotated[str, Field(max_length=100)]
Beat = Annotated[
    int,
    Field(
        ge=0,
        le=MAX_COUNT,
        description="Which of the instance's registrations and heartbeats this is; 0: it does not count.",
    ),
]


class LinkPart(BaseModel):
    """A message of the link: frozen, and tolerant of members that a newer side adds."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, defer_build=True)


class Held(LinkPart):
    """A task that an agent has by way of the link, and its lease."""

    task: TaskId
    lease: Word


class AgentLimits(LinkPart):
    """How much an agent takes."""

    max_concurrency: int = Field(
        ge=1, le=MAX_COUNT, description="Tasks that it runs at a time, over all workers."
    )
    max_queue: int = Field(ge=0, le=MAX_COUNT, description="Tasks that may wait in it.")
    memory_bytes: int | None = Field(
        None, ge=0, le=MAX_BYTES, description="null: no limit, or not known."
    )


class ShortStatus(LinkPart):
    """How an agent is: what `/status` says, in the few words that routing needs."""

    lifecycle: ShortText
    ready: bool = Field(description="It takes tasks.")
    reason: ShortText | None = Field(None, description="Why not ready, in one word.")
    working: int = Field(0, ge=0, le=MAX_COUNT, description="Tasks that run, whoever sent them.")
    queued: int = Field(0, ge=0, le=MAX_COUNT, description="Tasks that wait in the agent.")
    memory_used_bytes: int | None = Field(None, ge=0, le=MAX_BYTES)
    cpu_percent: float | None = Field(None, ge=0, description="100 is one core.")
    restarts: int = Field(0, ge=0, le=MAX_COUNT, description="Of workers, since the host started.")


class Registration(LinkPart):
    """An agent tells who it is and what it can do."""

    protocol: int = LINK_VERSION
    agent: Annotated[str, Field(pattern=AGENT_PATTERN)]
    instance: Word = Field(description="Random, and another one each time the host starts.")
    version: ShortText
    sdk_version: ShortText
    delivery: Literal["push", "pull"]
    url: str | None = Field(
        None, max_length=2000, description="Where the orchestrator reaches it; null with pull."
    )
    token: str | None = Field(
        None,
        max_length=200,
        repr=False,
        description="With push: the bearer token that lets the orchestrator in, for as long as this "
        "host lives.",
    )
    capabilities: Annotated[tuple[CapabilityManifest, ...], Field(max_length=MAX_CAPABILITIES)]
    limits: AgentLimits
    labels: dict[str, str] = Field(default_factory=dict, max_length=32)
    status: ShortStatus
    tasks: Annotated[tuple[Held, ...], Field(max_length=MAX_HELD)] = Field(
        (), description="Tasks of the link that it has not reported the end of."
    )
    beat: Beat = 0
    before: Annotated[tuple[Word, ...], Field(max_length=MAX_BEFORE)] = Field(
        (),
        description="Instances that had this one's journal before it. They are gone, and what is not "
        "among the tasks none of them has.",
    )


class Registered(LinkPart):
    """The orchestrator has taken note of an agent."""

    orchestrator: ShortText = Field(description="Another one each time it starts.")
    lease_s: float = Field(gt=0, description="An agent that is silent for so long counts as lost.")
    heartbeat_s: float = Field(gt=0, description="How often it wants to hear from the agent.")


class Heartbeat(LinkPart):
    """An agent is alive, and holds these tasks."""

    status: ShortStatus
    tasks: Annotated[tuple[Held, ...], Field(max_length=MAX_HELD)] = ()
    beat: Beat = 0


class HeartbeatAnswer(Registered):
    """What the agent should know: of the tasks that it named, and of those that it holds."""

    lost: tuple[Held, ...] = Field(
        (), description="Leases that are no more: stop working on these."
    )
    cancel: tuple[Held, ...] = Field((), description="Tasks whose callers want no more of them.")


class Fetch(LinkPart):
    """An agent that pulls asks for one task."""

    wait_s: float = Field(20, ge=0, le=MAX_FETCH_WAIT_S)


class Goodbye(LinkPart):
    """An agent takes no more tasks (``draining``), or is gone (``stopped``)."""

    phase: Literal["draining", "stopped"]


class ReportItem(LinkPart):
    """One message of an agent's outbox.

    ``payload`` of a result is the task as the agent's ``GET /v1/tasks/{id}`` answers it; of an event
    ``{"id": n, "event": name, "data": …}``, the fields that its event stream would have.
    """

    id: Annotated[str, Field(min_length=1, max_length=128)] = Field(
        description="The same however often it is sent."
    )
    task: TaskId
    lease: Word
    kind: Literal["result", "event"]
    payload: Any


class Reports(LinkPart):
    """Messages of an outbox, those of one task in their order."""

    items: Annotated[tuple[ReportItem, ...], Field(max_length=MAX_REPORTS)]


class ReportAnswer(LinkPart):
    """What became of one message: in both cases it need not be sent again."""

    id: str
    outcome: Literal["taken", "refused"]
    reason: str | None = Field(
        None,
        description="Of a refusal: lease_lost, ended (the task has ended), unknown, malformed.",
    )


class ReportsAnswer(LinkPart):
    """One answer for each message."""

    items: tuple[ReportAnswer, ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """A task that an agent is asked to take, with its lease. ``input`` and ``metadata`` are raw JSON.

    Attributes:
        timeout_s: what is left of the caller's time; None for the capability's own.
        attempt: which one this is, over all agents, from 1 on.
        hops: how many agents have passed it on, or rather the call behind it.
        beat: the last one that the orchestrator had heard of the agent; 0: not known.
    """

    task: str
    lease: str
    capability: str
    input: bytes
    timeout_s: float | None = None
    metadata: bytes = b"{}"
    traceparent: str = ""
    attempt: int = 1
    hops: int = 0
    beat: int = 0
