"""Calls through NATS: the same tasks, without an orchestrator in the middle."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack, aclosing, contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from kagent_sdk.cli.boundary import CommandError, UnreachableError, UsageError
from kagent_sdk.cli.output import say
from kagent_sdk.cli.task_stream import TaskUpdate
from kagent_sdk.cli.text import clean_line
from kagent_sdk.errors import LinkError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Generator, Iterator
    from typing import TypeVar

    from kagent_sdk.cli.target import Target
    from kagent_sdk.link.nats.caller import NatsCaller, Submission
    from kagent_sdk.link.nats.records import TaskRecord

    T = TypeVar("T")

CONNECT_S = 5.0
REQUEST_S = 10.0
CANCEL_S = 5.0
AWAY_S = 60.0
"""How long a server that is lost in the middle of a call is waited for: it may be restarted."""

RETRY_S = 0.5
_THE_CALLERS_FAULT = frozenset({"conflict", "invalid_input", "unknown_capability"})


@contextmanager
def open_nats(target: Target) -> Iterator[NatsCalls]:
    """Connect to a NATS server, for the time of the block.

    Raises:
        UsageError: the client of NATS is not installed.
        UnreachableError: no server answers, or it refuses.
    """
    if find_spec("nats") is None:
        raise UsageError(
            f"{clean_line(target.url)} needs NATS' client: pip install 'kagent-sdk[nats]'",
            code="nats_missing",
        )
    from kagent_sdk.link.nats.client import connect_caller  # noqa: PLC0415 - the extra
    from kagent_sdk.link.settings import LinkTls  # noqa: PLC0415

    certificate = target.client_certificate
    # One file has both, as for agents: OpenSSL then looks for the key beside the certificate.
    tls = None if certificate is None else LinkTls(certificate=certificate.absolute())
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        caller = connect_caller(
            target.url, token=target.token, tls=tls, timeout_s=REQUEST_S, connect_s=CONNECT_S
        )
        try:
            calls = runner.run(stack.enter_async_context(caller))
        except LinkError as exc:
            raise UnreachableError(
                f"{clean_line(exc)}; is {clean_line(target.url)} the address of a NATS server with "
                "JetStream, and the token right (--token-file FILE)?"
            ) from None
        try:
            yield NatsCalls(runner, calls)
        finally:
            runner.run(stack.aclose())


class NatsCalls:
    """See `kagent_sdk.cli.calls.Calls`.

    Args:
        runner: of the loop in which the caller lives; it runs while a method waits.
        caller: sends the tasks.
    """

    def __init__(self, runner: asyncio.Runner, caller: NatsCaller) -> None:
        self._runner = runner
        self._caller = caller
        self._sent: dict[str, str] = {}

    def start(self, document: dict[str, Any]) -> dict[str, Any]:
        """See `Calls.start`."""

        async def start() -> dict[str, Any]:
            record = await self._submit(_submission(document))
            return await self._caller.document(record)

        return self._run(start())

    def send(self, document: dict[str, Any]) -> Generator[TaskUpdate]:
        """See `Calls.send`."""
        updates = self._updates(_submission(document))

        async def following() -> TaskUpdate | None:
            return await anext(updates, None)

        try:
            while (update := self._run(following())) is not None:
                yield update
        finally:
            self._run(updates.aclose())

    def cancel(self, task_id: str) -> None:
        """See `Calls.cancel`."""
        from kagent_sdk.link.nats import jobs  # noqa: PLC0415 - the extra

        agent = self._sent.get(task_id)
        if agent is None:
            raise CommandError("it is not known to have been sent", code="unknown_task")

        async def cancel() -> None:
            await jobs.finish(self._caller.cancel(agent, task_id), CANCEL_S)

        self._run(cancel())

    def capabilities(self) -> list[dict[str, Any]]:
        """See `Calls.capabilities`."""
        found: dict[str, dict[str, Any]] = {}
        for agent in self._run(self._caller.registry.agents()):
            for one in agent.capabilities:
                # Replicas of one release say the same.
                entry = {"agent": agent.agent, **one.model_dump(mode="json")}
                found.setdefault(json.dumps(entry, sort_keys=True), entry)
        return sorted(found.values(), key=lambda one: (one["agent"], one["name"]))

    def follow_hint(self, task_id: str) -> str:
        """See `Calls.follow_hint`."""
        return f"wait for its end: type the same call with --id {task_id}"

    async def _submit(self, submission: Submission) -> TaskRecord:
        record = await self._caller.submit(submission)
        self._sent[record.task] = record.agent
        return record

    async def _updates(self, submission: Submission) -> AsyncGenerator[TaskUpdate]:
        """Yield what happens to a task; when the server is lost, go on where it was as it is back."""
        from kagent_sdk.link.nats.connection import FAILURES  # noqa: PLC0415 - the extra

        seen = (0, 0)
        lost_at_s: float | None = None
        while True:
            try:
                record = await self._submit(submission)
                async with aclosing(_events(self._caller, record)) as events:
                    async for place, update in events:
                        lost_at_s = None
                        if place > seen:
                            seen = place
                            yield update
                ended = await self._caller.find(record.agent, record.task)
                if ended is not None and ended.has_ended:
                    yield TaskUpdate("task", await self._caller.document(ended))
                    return
            except FAILURES:
                now_s = time.monotonic()
                if lost_at_s is None:
                    lost_at_s = now_s
                    say("the NATS server does not answer; waiting for it")
                if now_s - lost_at_s > AWAY_S:
                    raise
            await asyncio.sleep(RETRY_S)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        from kagent_sdk.link.nats import jobs  # noqa: PLC0415 - the extra
        from kagent_sdk.link.nats.connection import FAILURES, describe  # noqa: PLC0415
        from kagent_sdk.link.nats.record_store import RecordError  # noqa: PLC0415
        from kagent_sdk.link.port import CallFailedError  # noqa: PLC0415

        try:
            # Or a Ctrl-C could be lost in the client: see there.
            return self._runner.run(jobs.finish(work))
        except CallFailedError as exc:
            raise _refusal(exc.failure.code, exc.failure.message) from None
        except RecordError:
            raise CommandError("the record of the task is malformed", code="unreachable") from None
        except FAILURES as exc:
            raise UnreachableError(
                f"{clean_line(describe(exc))}; the task may run all the same: call it again with "
                "the same --id",
                code="connection_lost",
            ) from None


async def _events(
    caller: NatsCaller, record: TaskRecord
) -> AsyncGenerator[tuple[tuple[int, int], TaskUpdate]]:
    """Yield the events of a task with their places; what is none is left out."""
    async with aclosing(caller.events(record.agent, record.task)) as events:
        async for event in events:
            try:
                payload = json.loads(event.payload)
            except (ValueError, RecursionError):
                continue
            if not isinstance(payload, dict) or payload.get("event") == "task":
                continue
            number = payload.get("id")
            place = (event.attempt, number if type(number) is int else 0)
            kind = str(payload.get("event"))
            yield place, TaskUpdate(kind, payload.get("data"), len(event.payload))


def _submission(document: dict[str, Any]) -> Submission:
    """Return a request of ``POST /v1/tasks`` as what NATS is given."""
    from kagent_sdk.link.nats.bodies import encode  # noqa: PLC0415 - the extra
    from kagent_sdk.link.nats.caller import Submission  # noqa: PLC0415

    agent, slash, name = str(document["capability"]).rpartition("/")
    return Submission(
        task=str(document["id"]),
        capability=name,
        input=encode(document["input"]),
        agent=agent if slash else None,
        timeout_s=document.get("timeout_s"),
    )


def _refusal(code: str, message: str) -> CommandError:
    """Return the error for a task that was not taken."""
    said = clean_line(message)
    if code == "unknown_capability":
        return UsageError(f"{said}; see what there is: kos-agent capabilities", code=code)
    if code in _THE_CALLERS_FAULT:
        return UsageError(said, code=code)
    return CommandError(said, code=code)
