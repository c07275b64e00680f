"""What `kos-agent tasks` and `kos-agent status` make of what NATS keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import nats.errors
import pytest
from rich.console import Console

from kagent_sdk.cli.boundary import CommandError, UnreachableError, UsageError
from kagent_sdk.cli.nats_session import NatsSession
from kagent_sdk.cli.nats_status import describe
from kagent_sdk.cli.nats_tasks import NatsTasks
from kagent_sdk.cli.screens.mesh import nats_screen
from kagent_sdk.cli.task_query import TaskQuery
from kagent_sdk.link.nats.caller import NatsCaller, TaskEvent
from kagent_sdk.link.nats.records import TaskRecord
from kagent_sdk.protocol.link import Registration
from kagent_sdk.protocol.tasks import TaskState


def record(agent: str, task: str, state: TaskState, created_at: float = 0) -> TaskRecord:
    """Return a record; one that has ended has a result."""
    found = TaskRecord(agent=agent, task=task, capability="say", created_at=created_at, state=state)
    end = {"id": task, "capability": "say", "state": str(state), "output": "said"}
    return found.with_changes(result=end) if state == TaskState.COMPLETED else found


RECORDS = [
    record("desk", "new", TaskState.WORKING, 30),
    record("desk", "both", TaskState.COMPLETED, 10),
    record("shop", "both", TaskState.COMPLETED, 20),
]


class FakeIndex:
    """Has the records, those written last first."""

    async def newest(
        self, limit: int, wanted: Callable[[TaskRecord], bool], agent: str | None = None
    ) -> list[TaskRecord]:
        """Return some of them."""
        found = [one for one in RECORDS if agent in (None, one.agent) and wanted(one)]
        return found[:limit]

    async def of_id(self, task: str) -> list[TaskRecord]:
        """Return those of an id."""
        if task == "away":
            raise nats.errors.TimeoutError
        return [one for one in RECORDS if one.task == task]


class FakeCaller(NatsCaller):
    """Answers from the records."""

    def __init__(self) -> None:
        self.index = FakeIndex()  # type: ignore[assignment]
        self.cancelled: list[tuple[str, str]] = []

    async def find(self, agent: str, task: str) -> TaskRecord | None:
        """Return the record of a task."""
        return next((one for one in RECORDS if (one.agent, one.task) == (agent, task)), None)

    async def cancel(self, agent: str, task: str) -> None:
        """Note it."""
        self.cancelled.append((agent, task))

    async def events(
        self, agent: str, task: str, *, with_items: bool = True
    ) -> AsyncGenerator[TaskEvent]:
        """Yield one event."""
        yield TaskEvent(1, b'{"id": 1, "event": "progress", "data": {"fraction": 0.5}}')


@pytest.fixture
def caller() -> FakeCaller:
    """Return one."""
    return FakeCaller()


@pytest.fixture
def tasks(caller: FakeCaller) -> Iterator[NatsTasks]:
    """Return the tasks that it knows."""
    with asyncio.Runner() as runner:
        yield NatsTasks(NatsSession(runner, caller))


def test_tasks_are_listed_as_an_orchestrator_does(tasks: NatsTasks) -> None:
    """The newest first, by state, capability and agent, and no outputs that nobody asked for."""
    everything = tasks.list(TaskQuery(9))
    done = tasks.list(TaskQuery(9, state="completed", capability="say", agent="desk"))

    assert [(one["agent"], one["id"]) for one in everything] == [
        ("desk", "new"),
        ("shop", "both"),
        ("desk", "both"),
    ]
    assert [one["output"] for one in everything] == [None] * 3
    assert [(one["agent"], one["id"], one["state"]) for one in done] == [
        ("desk", "both", "completed")
    ]
    assert tasks.list(TaskQuery(9, capability="other")) == []


def test_one_task_is_shown_followed_and_cancelled_by_its_id(
    tasks: NatsTasks, caller: FakeCaller
) -> None:
    """The id is what a person has."""
    assert tasks.find("new", None)["state"] == "working"
    assert tasks.find("both", "shop")["output"] == "said"
    assert [one.kind for one in tasks.follow("both", "shop")] == ["progress", "task"]
    assert tasks.cancel("new", None)["id"] == "new"
    assert caller.cancelled == [("desk", "new")]


@pytest.mark.parametrize(
    ("task", "agent", "error", "told"),
    [
        ("both", None, UsageError, "choose with --agent: desk, shop"),
        ("gone", None, CommandError, "there is no task gone"),
        ("new", "shop", CommandError, "there is no task new of shop"),
        ("a b>", None, UsageError, "no id of a task"),
        ("away", None, UnreachableError, "TimeoutError; try again"),
    ],
)
def test_what_cannot_be_found_is_told_with_the_way_out(
    tasks: NatsTasks, task: str, agent: str | None, error: type[CommandError], told: str
) -> None:
    """Two agents may have a task of one id: to guess would cancel the wrong one."""
    with pytest.raises(error, match=told):
        tasks.find(task, agent)


def registration(agent: str, instance: str, **status: Any) -> Registration:
    """Return what an agent says of itself."""
    return Registration.model_validate(
        {
            "agent": agent,
            "instance": instance * 16,
            "version": "1.0",
            "sdk_version": "0.1.0",
            "delivery": "pull",
            "capabilities": [{"name": "say", "input_schema": {}, "output_schema": {}}],
            "limits": {"max_concurrency": 4, "max_queue": 10},
            "status": {"lifecycle": "ready", "ready": True, **status},
        }
    )


def test_agents_are_shown_with_their_replicas_and_what_is_wrong() -> None:
    """The same picture as of an orchestrator, as far as NATS knows it."""
    full = {"ready": False, "reason": "full", "working": 4}
    leaving = {"lifecycle": "draining", "ready": False}
    status = describe(
        [
            registration("shop", "c", **leaving),
            registration("desk", "b", **full),
            registration("desk", "a"),
        ],
        "nats://nats.example:4222",
    )
    console = Console(width=90, color_system=None)
    with console.capture() as shown:
        console.print(nats_screen(status))
    text = shown.get()
    lines = [line.rstrip() for line in text.splitlines()]

    assert [(one.name, one.capabilities) for one in status.agents] == [
        ("desk", ("say",)),
        ("shop", ("say",)),
    ]
    assert lines[:4] == [
        "NATS  nats://nats.example:4222",
        "  2 · 1 of 3 replicas ready",
        "",
        "problems",
    ]
    assert "  desk bbbbbbbb  not ready: full" in lines
    assert [one.state for one in status.agents[1].replicas] == ["draining"]
    with console.capture() as shown:
        console.print(nats_screen(describe([], "nats://x")))
    assert "none has registered" in shown.get()
