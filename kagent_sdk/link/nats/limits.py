"""How long and how much, for the link over NATS."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NatsLimits:
    """What streams and buckets are made with, and how patient the link is.

    What an operator has made before with other values is taken as it is.

    Attributes:
        ack_wait_s: a task whose agent is silent for so long is delivered again.
        lost_after_s: how long a task that must not run twice waits for the agent that had it.
        registry_ttl_s: an agent that is silent for so long is not in the registry any more.
        keep_s: how long records, events, large bodies and dead tasks are kept.
        dedup_s: how long the server remembers the ids of messages.
        pull_s: how long one request for a task stands.
        room_s: how long a task that has come waits for room here before another replica gets it.
        look_s: how often a caller looks at the record of a task, whatever it has been told.
        inline_bytes: larger bodies go to the object store; well below the server's 1 MiB.
        max_waiting: tasks in one stream; more are refused.
        max_events: of one task.
        backoff_s, max_backoff_s: between two attempts of something that has failed.
        choices_s: how long what is known of agents is good enough to choose one.
        max_calls: plain calls that one agent waits for at a time.
    """

    ack_wait_s: float = 30.0
    lost_after_s: float = 60.0
    registry_ttl_s: float = 30.0
    keep_s: float = 86_400.0
    dedup_s: float = 120.0
    pull_s: float = 10.0
    room_s: float = 1.0
    look_s: float = 2.0
    inline_bytes: int = 256 * 1024
    max_waiting: int = 100_000
    max_events: int = 10_000
    backoff_s: float = 0.2
    max_backoff_s: float = 5.0
    choices_s: float = 2.0
    max_calls: int = 100
