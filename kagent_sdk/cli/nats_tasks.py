"""Tasks as NATS keeps them: listed, shown, followed and canceled, without asking their agents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kagent_sdk.cli.boundary import CommandError, UsageError
from kagent_sdk.cli.nats_calls import follow
from kagent_sdk.cli.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Generator

    from kagent_sdk.cli.nats_session import NatsSession
    from kagent_sdk.cli.task_query import Task, TaskQuery
    from kagent_sdk.cli.task_stream import TaskUpdate
    from kagent_sdk.link.nats.records import TaskRecord

MAX_AGENTS_SHOWN = 5


class NatsTasks:
    """See `kagent_sdk.cli.task_source.TaskSource`.

    Args:
        session: asks NATS.
    """

    def __init__(self, session: NatsSession) -> None:
        self._session = session
        self._caller = session.caller

    def list(self, query: TaskQuery) -> list[Task]:
        """See `TaskSource.list`."""

        def is_wanted(record: TaskRecord) -> bool:
            return query.state in (None, str(record.state)) and (
                query.capability in (None, record.capability)
            )

        found = self._session.run(
            self._caller.index.newest(query.limit, is_wanted, agent=query.agent)
        )
        found.sort(key=lambda record: record.created_at, reverse=True)
        return [self._caller.summary(record) for record in found]

    def find(self, task_id: str, agent: str | None) -> Task:
        """See `TaskSource.find`."""

        async def find() -> Task:
            return await self._caller.document(await self._find(task_id, agent))

        return self._session.run(find())

    def cancel(self, task_id: str, agent: str | None) -> Task:
        """See `TaskSource.cancel`."""

        async def cancel() -> Task:
            record = await self._find(task_id, agent)
            await self._caller.cancel(record.agent, task_id)
            return await self._caller.document(await self._find(task_id, record.agent))

        return self._session.run(cancel())

    def follow(self, task_id: str, agent: str | None) -> Generator[TaskUpdate]:
        """See `TaskSource.follow`."""
        return self._session.drain(follow(self._caller, lambda: self._find(task_id, agent)))

    async def _find(self, task_id: str, agent: str | None) -> TaskRecord:
        from kagent_sdk.protocol.headers import TASK_ID_RULE, is_task_id  # noqa: PLC0415

        if not is_task_id(task_id):
            raise UsageError(f"'{clean_line(task_id)}' is no id of a task: {TASK_ID_RULE}")
        if agent is not None:
            found = [await self._caller.find(agent, task_id)]
        else:
            found = [*await self._caller.index.of_id(task_id)]
        records = [record for record in found if record is not None]
        if not records:
            where = "" if agent is None else f" of {clean_line(agent)}"
            raise CommandError(
                f"there is no task {clean_line(task_id)}{where}", code="unknown_task"
            )
        if len(records) > 1:
            agents = sorted(record.agent for record in records)[:MAX_AGENTS_SHOWN]
            raise UsageError(
                f"tasks of several agents have that id; choose with --agent: {', '.join(map(clean_line, agents))}"
            )
        return records[0]
