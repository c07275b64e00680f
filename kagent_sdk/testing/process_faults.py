"""What hurts in life, done to a real agent on demand: each proves that it has happened."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import psutil

if TYPE_CHECKING:
    from kagent_sdk.testing.host_process import HostProcess
    from kagent_sdk.testing.process_tasks import ProcessTasks
    from kagent_sdk.testing.waiting import Condition

VAULT = Path("secrets/vault.json")
STATE_FILE = Path("runtime/memory_store.json")
DATABASE = Path("runtime/journal.db")


@dataclass(frozen=True, slots=True)
class Interruption:
    """A SIGTERM that came while a task was at work.

    Attributes:
        task: as it was right before the signal: ``working``.
        exit_code: how the host ended.
    """

    task: dict[str, Any]
    exit_code: int


@dataclass(frozen=True, slots=True)
class TornFile:
    """A file of which only the first half is left.

    Attributes:
        path: of it.
        before: what it was.
        after: what it is.
    """

    path: Path
    before: bytes
    after: bytes


@dataclass(frozen=True, slots=True)
class Deliveries:
    """One task that was delivered several times.

    Attributes:
        answers: the finished task, as each delivery was answered.
    """

    answers: tuple[dict[str, Any], ...]

    @property
    def is_one(self) -> bool:
        """Whether all of them got the same answer, of the same and only attempt."""
        first = self.answers[0]
        return first["attempt"] == 1 and all(answer == first for answer in self.answers)


class FaultyAgent(Protocol):
    """What the faults need of an agent; `kagent_sdk.testing.AgentProcess` has it."""

    folder: Path
    tasks: ProcessTasks

    @property
    def host(self) -> HostProcess:
        """The present host process."""
        ...

    @property
    def exit_code(self) -> int | None:
        """How the host has ended."""
        ...

    async def status(self) -> dict[str, Any]:
        """Return the ``/status`` document."""
        ...

    async def worker_pid(self) -> int:
        """Return the worker's process id."""
        ...

    def logs(self, event: str | None = None, **values: object) -> list[dict[str, Any]]:
        """Return records."""
        ...

    async def wait_logged(self, event: str, **values: object) -> dict[str, Any]:
        """Wait for a record."""
        ...

    async def wait_until(self, condition: Condition, what: str = ...) -> None:
        """Wait for a condition."""
        ...

    async def wait_ready(self) -> None:
        """Wait until the agent takes tasks."""
        ...

    async def terminate(self) -> int:
        """Ask the agent to stop, and return its exit code."""
        ...


class ProcessFaults:
    """The faults of one agent. All of it works without root.

    Args:
        process: the agent.
    """

    def __init__(self, process: FaultyAgent) -> None:
        self._process = process

    async def kill_worker(self) -> int:
        """Kill the worker in the middle of what it does (SIGKILL); return its process id.

        Proof: the process is gone, and the host has noted a crash of that very process. Returns when
        the agent takes tasks again.
        """
        process = self._process
        pid = await process.worker_pid()
        os.kill(pid, signal.SIGKILL)
        await process.wait_logged("worker_crashed", worker_pid=pid)
        assert not psutil.pid_exists(pid) or not _is_alive(pid)
        await process.wait_ready()
        return pid

    @asynccontextmanager
    async def blocked_loop(self) -> AsyncIterator[int]:
        """Let the worker's event loop stand still for the time of the block; gives its process id.

        The process is stopped (SIGSTOP), which the host cannot tell from a loop that C code holds;
        but a stack that it asks for never comes. Proof: the kernel shows the process as stopped
        (``T``), and at the end of the block the host has noted the silence, ``health.stall_warn_s``
        after it began; with ``health.stall_fail_s`` over it replaces the worker. Returns when the
        agent takes tasks again.
        """
        process = self._process
        pid = await process.worker_pid()
        worker = psutil.Process(pid)
        os.kill(pid, signal.SIGSTOP)
        try:
            await process.wait_until(
                lambda: worker.status() == psutil.STATUS_STOPPED, "the worker's stop"
            )
            yield pid
            await process.wait_until(lambda: self._has_noted_silence(pid), "the host's notice")
        finally:
            if worker.is_running():
                os.kill(pid, signal.SIGCONT)
        await process.wait_ready()

    def _has_noted_silence(self, pid: int) -> bool:
        events = ("worker_stalled", "worker_stuck")
        return any(self._process.logs(event, worker_pid=pid) for event in events)

    async def terminate_during(self, task_id: str) -> Interruption:
        """Send SIGTERM while a task is at work, and wait for the host's end.

        Proof: the task was ``working`` right before. `AgentProcess.start` then starts the agent
        again; what it was promised to finish it goes on with.
        """
        process = self._process
        task = await self._wait_working(task_id)
        return Interruption(task, await process.terminate())

    async def _wait_working(self, task_id: str) -> dict[str, Any]:
        process, tasks = self._process, self._process.tasks

        async def has_begun() -> bool:
            return bool((await tasks.get(task_id))["state"] != "submitted")

        await process.wait_until(has_begun, f"the start of task {task_id}")
        task = await tasks.get(task_id)
        if task["state"] != "working":
            raise process.host.fail(f"task {task_id} is not at work: it is {task['state']}")
        return task

    async def deliver_twice(
        self, capability: str, input: object = None, *, id: str = "delivered-twice"
    ) -> Deliveries:
        """Deliver one task at the same moment twice, and once more after its end.

        Proof: all three were answered by the agent; `Deliveries.is_one` tells whether it ran once.

        Raises:
            TaskError: one of them was refused.
        """
        tasks = self._process.tasks
        sent = (tasks.submit(capability, input, id=id) for _ in range(2))
        await asyncio.gather(*sent)
        both = await asyncio.gather(tasks.wait(id), tasks.wait(id))
        await tasks.submit(capability, input, id=id)
        return Deliveries((*both, await tasks.wait(id)))

    def tear_state_file(self, *, with_database: bool = True) -> TornFile:
        """Leave only the first half of ``runtime/memory_store.json``, as a power cut may.

        Args:
            with_database: remove ``runtime/journal.db`` as well, whose copy the file is: only
                without it does the file count. The agent must not run then.

        Proof: what is left is no JSON any more.
        """
        process = self._process
        if with_database and process.exit_code is None:
            raise RuntimeError("stop the agent first: its database is in use")
        path = process.folder / STATE_FILE
        before = path.read_bytes()
        os.truncate(path, len(before) // 2)
        if with_database:
            for file in process.folder.glob(f"{DATABASE}*"):
                file.unlink()
        torn = TornFile(path, before, path.read_bytes())
        assert not _is_json(torn.after), "half of the file is whole again"
        return torn

    async def rotate_vault(self, secrets: Mapping[str, Any]) -> int:
        """Replace ``secrets/vault.json`` in one step, as an operator does; return the generation.

        Proof: the host has taken the new file: ``vault.generation`` in ``/status`` has grown.
        """
        process = self._process
        before = (await process.status())["vault"]["generation"]
        self.write_vault(secrets)
        await process.wait_logged("vault_reloaded", generation=before + 1)
        vault = (await process.status())["vault"]
        assert vault["generation"] > before, vault
        return int(vault["generation"])

    def write_vault(self, secrets: Mapping[str, Any]) -> None:
        """Put a vault in its place, readable by its owner alone, in one step."""
        path = self._process.folder / VAULT
        path.parent.mkdir(exist_ok=True)
        new = path.with_name(".vault.json.new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(secrets, file)
        new.replace(path)

    @asynccontextmanager
    async def full_disk(self) -> AsyncIterator[None]:
        """Let every write of the host to a file fail for the time of the block.

        By its limit for the size of files (RLIMIT_FSIZE, setrlimit(2)), which needs no root: the error is
        EFBIG in place of ENOSPC, and the host treats the two alike. Workers that are started
        meanwhile inherit it.

        Proof: the kernel shows the limit, and at the end of the block the journal has failed at least
        once: a task of ``/v1/tasks`` that comes meanwhile is refused with ``journal_unavailable``.
        Returns when the journal has recovered.
        """
        process = self._process
        pid = process.host.pid
        soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        failed = len(process.logs("journal_failed"))
        recovered = len(process.logs("journal_recovered"))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
        try:
            assert resource.prlimit(pid, resource.RLIMIT_FSIZE)[0] == 0
            yield
            await process.wait_until(
                lambda: len(process.logs("journal_failed")) > failed,
                "a write of the journal that fails (send a task to /v1/tasks)",
            )
        finally:
            if process.exit_code is None:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
        await process.wait_until(
            lambda: len(process.logs("journal_recovered")) > recovered, "the journal's recovery"
        )


def _is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True
