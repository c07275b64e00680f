"""The worker as the commands of a debug session see it (`kagent_sdk.debug.port.Inspected`)."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from kagent_sdk.debug.port import LoopView, TaskView
from kagent_sdk.worker.execution import Execution
from kagent_sdk.worker.structlog_setup import change_level

if TYPE_CHECKING:
    from kagent_sdk.context import Secrets
    from kagent_sdk.redaction.redactor import Redactor
    from kagent_sdk.redaction.retired_secrets import RetiredSecrets
    from kagent_sdk.worker.runtime import Runtime

NEVER_SET = object()
TRIES = 10
"""Secrets may be replaced while they are read: at most once a second (the host's watch)."""


class WorkerInspection:
    """Looks into a `Runtime`, from any thread.

    Args:
        agent: the author's.
        runtime: what serves the host.
        loop: it runs in.
    """

    def __init__(self, agent: object, runtime: Runtime, loop: asyncio.AbstractEventLoop) -> None:
        self._agent = agent
        self._runtime = runtime
        self._loop = loop
        self._redaction = WorkerRedaction()

    @property
    def agent(self) -> object:
        """The author's agent."""
        return self._agent

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that tasks run in."""
        return self._loop

    def tasks(self) -> tuple[TaskView, ...]:
        """Return the tasks that run, oldest first."""
        services = self._runtime.services
        if services is None:
            return ()
        # One step of C code: the loop's thread may add and remove.
        running = tuple(services.running.values())
        views = [_view(task) for task in running if isinstance(task, Execution)]
        return tuple(sorted(views, key=lambda view: view.started_at))

    def loops(self) -> tuple[LoopView, ...]:
        """Return the author's loops."""
        statuses = [runner.status for runner in tuple(self._runtime.loops)]
        return tuple(
            LoopView(status.name, status.state, status.runs, status.crashes, status.last_error)
            for status in statuses
        )

    def secret_names(self) -> tuple[str, ...]:
        """Return the names of the secrets that this worker was given."""
        services = self._runtime.services
        return () if services is None else tuple(sorted(services.secrets))

    async def state(self, key: str) -> object:
        """Return a value of the agent's state as JSON data. To be awaited in `loop`.

        Raises:
            KeyError: there is none.
        """
        value: object = await self._runtime.parts.state.state.get(key, NEVER_SET)
        if value is NEVER_SET:
            raise KeyError(key)
        return value

    def set_log_level(self, level: str) -> None:
        """Write log records from this level on, until the worker ends.

        Raises:
            ValueError: there is no such level.
        """
        logging.getLogger().setLevel(level.upper())
        change_level(logging.getLogger().level)

    def redact(self, text: str) -> str:
        """Return a text without the secrets that this worker knows, or has known."""
        services = self._runtime.services
        return text if services is None else self._redaction.redact(text, services.secrets)


class WorkerRedaction:
    """Takes the worker's secrets out of texts; of those that were rotated away too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, str] = {}
        self._redactor: Redactor | None = None
        self._retired: RetiredSecrets | None = None

    def redact(self, text: str, secrets: Secrets) -> str:
        """Return a text without them."""
        values = read_values(secrets)
        with self._lock:
            if self._redactor is None or values != self._values:
                self._learn(values)
            redactor = self._redactor
        assert redactor is not None
        return redactor.redact_text(text)

    def _learn(self, values: dict[str, str]) -> None:
        from kagent_sdk.redaction.redactor import Redactor  # noqa: PLC0415 - who debugs pays
        from kagent_sdk.redaction.retired_secrets import RetiredSecrets  # noqa: PLC0415

        if self._retired is None:
            self._retired = RetiredSecrets()
        self._retired.add(with_members(self._values))
        pairs = self._retired.pairs()
        self._redactor = Redactor(with_members(values), pairs, like=self._redactor)
        self._values = values


def read_values(secrets: Secrets) -> dict[str, str]:
    """Return the secrets by their names; those that are not strings as JSON texts."""
    for _ in range(TRIES - 1):
        try:
            return _read(secrets)
        except KeyError:
            continue  # they were replaced in the middle of it
    return _read(secrets)


def _read(secrets: Secrets) -> dict[str, str]:
    return {name: secrets[name].get_secret_value() for name in tuple(secrets)}


def with_members(values: Mapping[str, str]) -> dict[str, str]:
    """Return secrets, and what is in those that are JSON: each member is a secret of its own."""
    found = dict(values)
    for name, text in values.items():
        if text[:1] in {"{", "["}:
            with suppress(ValueError, RecursionError):
                found.update(_iter_texts(name, json.loads(text)))
    return found


def _iter_texts(path: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict | list):
        members = value.items() if isinstance(value, dict) else enumerate(value)
        for key, member in members:
            yield from _iter_texts(f"{path}.{key}", member)
    elif isinstance(value, str):
        yield path, value
    elif value is not None and not isinstance(value, bool):
        yield path, json.dumps(value)


def _view(task: Execution) -> TaskView:
    progress = task.last_progress
    return TaskView(
        task=task.run.task_id,
        capability=task.capability_name,
        attempt=task.run.attempt,
        state="canceling" if task.is_canceling else "working",
        started_at=task.started_at,
        progress=None if progress is None else (progress[0], progress[1] or ""),
        job=task.job,
        thread=task.thread_ident or None,
    )
