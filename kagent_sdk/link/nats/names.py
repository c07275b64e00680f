"""The names that this link has in NATS. Pure.

Names of agents and capabilities may hold dots, which part the tokens of a subject and which no
stream may have in its name. Such characters are written as ``=`` and two hexadecimal digits; as ``=``
itself is in none of them, two names never become one.
"""

from __future__ import annotations

import re
from datetime import datetime

TASKS = "KAGENT_TASKS"
"""Bucket: the record of every task; the prefix of the streams that tasks wait in."""
AGENTS = "KAGENT_AGENTS"
"""Bucket: the agents that are there, and how they are."""
BLOBS = "KAGENT_BLOBS"
"""Object store: inputs, events and results that are too large for a message."""
SNAPSHOTS = "KAGENT_SNAPSHOTS"
"""Object store: snapshots of agents."""
EVENTS = "KAGENT_EVENTS"
"""Stream: the events of all tasks."""
DEAD = "KAGENT_DEAD"
"""Stream: tasks that no agent is given any more."""
CONSUMER = "agents"
"""The durable consumer of a stream of tasks, which all replicas of the agent share."""

EVENT_SUBJECTS = "kagent.events.>"
DEAD_SUBJECTS = "kagent.dead.>"

MAX_STREAM_CHARS = 200
"""The server takes 255 characters, and appends some of its own in the names of folders."""

_is_other = re.compile(r"[^A-Za-z0-9_-]")
_parse_version = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:[-+][0-9A-Za-z.+-]+)?").fullmatch


def token(text: str) -> str:
    """Write a name so that it can be one token of a subject, of a key and of a stream's name."""
    return _is_other.sub(lambda found: f"={ord(found[0]):02X}", text)


def tasks_subject(agent: str, capability: str) -> str:
    """Return the subject on which an agent's capability is given tasks."""
    return f"kagent.tasks.{token(agent)}.{token(capability)}"


def tasks_stream(agent: str, capability: str) -> str:
    """Return the stream in which the tasks of an agent's capability wait.

    No capability begins with a digit, so ``=`` between the two can be no part of a written name.
    """
    return f"{TASKS}_{token(agent)}={token(capability)}"


def dead_subject(agent: str, capability: str) -> str:
    """Return the subject of tasks that are not given to an agent any more."""
    return f"kagent.dead.{token(agent)}.{token(capability)}"


def events_subject(agent: str, task: str) -> str:
    """Return the subject of a task's events."""
    return f"kagent.events.{token(agent)}.{token(task)}"


def ended_subject(agent: str, task: str) -> str:
    """Return the subject on which it is said, once and to who listens, that a task has ended."""
    return f"kagent.ended.{token(agent)}.{token(task)}"


def look_subject(agent: str) -> str:
    """Return the subject on which replicas are told to look at the record of a task that they hold."""
    return f"kagent.look.{token(agent)}"


def call_subject(agent: str, capability: str) -> str:
    """Return the subject of plain calls: a request with the input, a reply with the output."""
    return f"kagent.call.{token(agent)}.{token(capability)}"


def task_key(agent: str, task: str) -> str:
    """Return the key of a task's record."""
    return f"{token(agent)}.{token(task)}"


def route_key(task: str) -> str:
    """Return the key of the choice that was made for a task that any agent may do.

    No agent's name begins with ``_``.
    """
    return f"_any.{token(task)}"


def agent_key(agent: str, instance: str) -> str:
    """Return the key of an agent in the registry."""
    return f"{token(agent)}.{instance}"


def inbox_prefix(agent: str) -> str:
    """Return where answers to this agent go, so that permissions can keep others from reading them."""
    return f"_INBOX_{token(agent)}"


def service_name(agent: str) -> str:
    """Return the agent's name as a NATS service may be called; its metadata has the real one."""
    return _is_other.sub("_", agent)


def service_version(version: str) -> str:
    """Return the version as a service must have it, or 0.0.0 when it is no semantic version."""
    return version if _parse_version(version) and version.isascii() else "0.0.0"


def task_id_of(capability: str, sequence: int, stored_at: datetime) -> str:
    """Return the id of a task whose sender gave it none: the same each time it is delivered."""
    return f"{capability}:{sequence}:{int(stored_at.timestamp())}"
