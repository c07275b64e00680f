"""Where `kos-agent tasks` finds tasks: at an agent or orchestrator, or in NATS."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from kagent_sdk.cli.client import AgentClient
    from kagent_sdk.cli.options import AgentOptions
    from kagent_sdk.cli.task_query import Task, TaskQuery
    from kagent_sdk.cli.task_stream import TaskUpdate

PAGE = 100
"""Tasks per request."""


class TaskSource(Protocol):
    """What `kos-agent tasks` needs. All methods raise `CommandError`."""

    def list(self, query: TaskQuery) -> list[Task]:
        """Return tasks without their outputs, the newest first."""
        ...

    def find(self, task_id: str, agent: str | None) -> Task:
        """Return one task, of that agent where several have one of the id."""
        ...

    def cancel(self, task_id: str, agent: str | None) -> Task:
        """Ask for the end of a task, and return it as it is then."""
        ...

    def follow(self, task_id: str, agent: str | None) -> Generator[TaskUpdate]:
        """Yield what has happened and happens to a task; the last update is the finished task."""
        ...


class HttpTasks:
    """Tasks of an agent, or of an orchestrator, where each id is that of one task."""

    def __init__(self, client: AgentClient) -> None:
        self._client = client

    def list(self, query: TaskQuery) -> list[Task]:
        """See `TaskSource.list`."""
        found: list[Task] = []
        after: dict[str, str] = {}
        while len(found) < query.limit:
            asked = {**query.as_dict(), **after, "limit": str(min(PAGE, query.limit))}
            page = self._client.get("/v1/tasks", asked)
            listed = page.get("tasks")
            tasks = (
                [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
            )
            found += tasks
            following = page.get("next")
            if not tasks or not isinstance(following, str):
                break
            after = {"after": following}
        return found[: query.limit]

    def find(self, task_id: str, agent: str | None) -> Task:
        """See `TaskSource.find`."""
        del agent
        return self._client.get(_path_of(task_id))

    def cancel(self, task_id: str, agent: str | None) -> Task:
        """See `TaskSource.cancel`."""
        del agent
        return self._client.post(f"{_path_of(task_id)}/cancel")

    def follow(self, task_id: str, agent: str | None) -> Generator[TaskUpdate]:
        """See `TaskSource.follow`."""
        from kagent_sdk.cli.task_stream import follow_task  # noqa: PLC0415 - for --watch alone

        del agent
        return follow_task(self._client, task_id)


@contextmanager
def open_tasks(options: AgentOptions) -> Iterator[TaskSource]:
    """Give the tasks of what a command's options name.

    Raises:
        UnreachableError, UsageError: there is none.
    """
    target = options.find_nats()
    if target is None:
        yield HttpTasks(options.connect())
        return
    from kagent_sdk.cli.nats_session import open_session  # noqa: PLC0415 - asyncio
    from kagent_sdk.cli.nats_tasks import NatsTasks  # noqa: PLC0415

    with open_session(target) as session:
        yield NatsTasks(session)


def _path_of(task_id: str) -> str:
    from kagent_sdk.cli.client import path_of  # noqa: PLC0415 - http.client comes with connect()

    return path_of("v1", "tasks", task_id)
