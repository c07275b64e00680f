"""One agent of the fleet: its releases, its replicas, and what is done with all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from kagent_sdk.errors import KagentError
from kagent_sdk.orchestrator.fleet.decisions import State, pick_release, pick_replicas
from kagent_sdk.orchestrator.fleet.hosts import end, find_running
from kagent_sdk.orchestrator.fleet.layout import TRIAL, Layout
from kagent_sdk.orchestrator.fleet.news import News, Tell
from kagent_sdk.orchestrator.fleet.operation import (
    Operation,
    OperationFailedError,
    Operations,
)
from kagent_sdk.orchestrator.fleet.ownership import read_secret
from kagent_sdk.orchestrator.fleet.process import HostProcess, Identity
from kagent_sdk.orchestrator.fleet.record import AgentRecord, ProcessRecord
from kagent_sdk.orchestrator.fleet.releases import release_in
from kagent_sdk.orchestrator.fleet.replica import Replica
from kagent_sdk.orchestrator.fleet.shelf import ReleaseShelf
from kagent_sdk.orchestrator.fleet.trial import TRIAL_NUMBER, Trial

if TYPE_CHECKING:
    from kagent_sdk.orchestrator.fleet.client import ReplicaClient
    from kagent_sdk.orchestrator.fleet.preparation import Preparation

SNAPSHOT_TIMEOUT_S = 300.0

Save = Callable[[], Awaitable[None]]


class AgentGroup:
    """Keeps the replicas of one agent.

    Args:
        preparation: makes their folders.
        layout: of the mesh.
        client: asks them.
        record: what is written down of the agent; changed in place.
        save: writes it down.
        tell: told of what happens.
    """

    def __init__(
        self,
        preparation: Preparation,
        layout: Layout,
        client: ReplicaClient,
        *,
        record: AgentRecord,
        save: Save,
        tell: Tell,
    ) -> None:
        self.name = preparation.name
        self.replicas: list[Replica] = []
        self._preparation = preparation
        self._layout = layout
        self._client = client
        self._record = record
        self._save = save
        self._tell = tell
        self._operations = Operations(preparation.name, tell)
        self._shelf = ReleaseShelf(preparation, layout)
        self._trial = Trial(preparation, layout, client, remember=self._remember)
        self._snapshots: asyncio.Task[None] | None = None
        self._is_begun = False

    @property
    def operation(self) -> Operation | None:
        """What is done with all replicas, or was done last."""
        return self._operations.last

    def begin(self, *, is_moved: bool) -> None:
        """Bring the agent up: its release, what runs already, what has to be started.

        Args:
            is_moved: what runs already looks for its orchestrator where that is no more.
        """
        self._operations.begin("start", lambda _: self._begin(is_moved=is_moved))
        every_s = self._preparation.spec.snapshot_every_s
        if every_s is not None:
            self._snapshots = asyncio.create_task(self._snapshot_for_ever(every_s))

    async def update(self) -> Operation:
        """Make a release of the author's folder, and replace one replica after the other.

        Raises:
            GroupBusyError: something else is being done.
        """
        return await self._operations.carry_out("update", self._update)

    async def restart(self) -> Operation:
        """Start one replica after the other again.

        Raises:
            GroupBusyError: something else is being done.
        """
        return await self._operations.carry_out("restart", lambda _: self._restart())

    async def scale(self, replicas: int) -> Operation:
        """Run as many replicas; those that go keep their folders.

        Raises:
            GroupBusyError: something else is being done.
        """
        return await self._operations.carry_out("scale", lambda it: self._scale(it, replicas))

    async def snapshot(self) -> list[dict[str, Any]]:
        """Let every replica that runs make a snapshot; return what came of each."""
        running = [one for one in self.replicas if one.facts.address is not None]
        made = await asyncio.gather(*(one.snapshot(SNAPSHOT_TIMEOUT_S) for one in running))
        found: list[dict[str, Any]] = []
        for one, (name, reason) in zip(running, made, strict=True):
            values: dict[str, Any] = {"snapshot": name} if name else {"reason": reason}
            event = "snapshot_made" if name else "snapshot_failed"
            self._tell(News(event, self.name, one.number, values))
            found.append({"replica": one.number, "snapshot": name, "reason": reason or None})
        return found

    async def stop(self, within_s: float) -> None:
        """End everything that runs of the agent, and begin nothing any more."""
        self._operations.close()
        # What is tried has its own time to stop, which may be longer than this.
        await asyncio.gather(self._drop_jobs(), self._trial.stop(within_s))
        await asyncio.gather(*(replica.stop(within_s) for replica in self.replicas))

    async def release(self) -> None:
        """Watch the agent no more, and let it run."""
        self._operations.close()
        await self._drop_jobs()
        for replica in self.replicas:
            await replica.release()

    def hurry(self, *, by_force: bool) -> None:
        """Let those that are stopping stop sooner, or kill them."""
        for replica in self.replicas:
            replica.hurry(by_force=by_force)

    def document(self) -> dict[str, Any]:
        """Return what is known of the agent, as JSON."""
        spec = self._preparation.spec
        return {
            "agent": self.name,
            "driver": spec.driver,
            "path": str(self._preparation.source),
            "release": self._record.release,
            "previous": self._record.previous,
            "ready": sum(one.facts.state is State.READY for one in self.replicas),
            "replicas": [one.document() for one in self.replicas],
            "operation": None if self.operation is None else self.operation.document(),
        }

    async def _drop_jobs(self) -> None:
        snapshots, self._snapshots = self._snapshots, None
        if snapshots is not None:
            snapshots.cancel()
            await asyncio.wait([snapshots])
        await self._operations.drop()

    async def _begin(self, *, is_moved: bool) -> None:
        await self._start(await self._make_or_recall(), is_moved=is_moved)

    async def _start(self, made: str, *, is_moved: bool) -> None:
        record, spec = self._record, self._preparation.spec
        recorded = None if record.release is None else (record.asked, record.replicas)
        count = pick_replicas(spec.replicas, recorded)
        self.replicas = [self._make_replica(number) for number in range(count)]
        before = dict(record.processes)
        await self._end_strays(before, count)
        running = [await one.adopt(_identity(before, one.number)) for one in self.replicas]
        release = pick_release(made, record.release, any_running=any(running))
        if release != made:
            self._tell(News("release_differs", self.name, None, {"running": release}))
        await self._set_release(release)
        record.asked, record.replicas = spec.replicas, count
        await self._save()
        for one, is_running in zip(self.replicas, running, strict=True):
            if is_running and (is_moved or await asyncio.to_thread(self._is_other, one, release)):
                await one.stop(self._shelf.grace_s)
            elif is_running:
                self._tell(News("replica_adopted", self.name, one.number, {"pid": one.pid}))
            one.start(self._shelf.path(release))
        self._is_begun = True

    async def _make_or_recall(self) -> str:
        """Make a release; where that fails, take the one that ran: an agent must survive a restart."""
        try:
            return await asyncio.to_thread(self._shelf.make)
        except KagentError as exc:
            known = self._record.release
            if known is None or not await asyncio.to_thread(self._shelf.path(known).is_dir):
                raise
            values = {"reason": str(exc), "running": known}
            self._tell(News("release_not_made", self.name, None, values))
            return known

    async def _update(self, operation: Operation) -> None:
        if not self._is_begun:
            # The start has failed: what was wrong may be right now.
            await self._start(await asyncio.to_thread(self._shelf.make), is_moved=False)
            return
        old = self._record.release
        new = await asyncio.to_thread(self._shelf.make)
        operation.result = {"from": old, "to": new}
        if new == old:
            operation.result["unchanged"] = True
            return
        await asyncio.to_thread(self._shelf.check, new)
        self._tell(News("update_started", self.name, None, dict(operation.result)))
        if self._preparation.spec.trial:
            await self._try(new)
        done: list[Replica] = []
        for one in self.replicas:
            done.append(one)
            reason = await self._replace(one, new)
            if reason is not None:
                await self._go_back(done, old)
                raise OperationFailedError(
                    f"replica {one.number} of the new release: {reason}; went back to {old}"
                )
        await self._set_release(new)

    async def _try(self, release: str) -> None:
        reason = await self._trial.run(self._shelf.path(release), self._shelf.grace_s)
        if reason is not None:
            raise OperationFailedError(
                f"the new release did not come up when it was tried: {reason}; nothing was replaced"
            )

    async def _replace(self, one: Replica, release: str) -> str | None:
        """Stop a replica and start it with another release; return why that is not ready."""
        await one.stop(self._shelf.grace_s)
        one.start(self._shelf.path(release))
        return await one.wait_ready(self._preparation.spec.start_timeout_s)

    async def _go_back(self, replicas: list[Replica], release: str | None) -> None:
        if release is None:
            return
        for one in replicas:
            await self._replace(one, release)

    async def _restart(self) -> None:
        self._check_begun()
        assert self._record.release is not None
        for one in self.replicas:
            reason = await self._replace(one, self._record.release)
            if reason is not None:
                raise OperationFailedError(f"replica {one.number}: {reason}")

    async def _scale(self, operation: Operation, count: int) -> None:
        self._check_begun()
        operation.result = {"replicas": count}
        gone, self.replicas = self.replicas[count:], self.replicas[:count]
        assert self._record.release is not None
        release = self._shelf.path(self._record.release)
        for number in range(len(self.replicas), count):
            one = self._make_replica(number)
            self.replicas.append(one)
            one.start(release)
        self._record.replicas = count
        await self._save()
        try:
            await asyncio.gather(*(one.stop(self._shelf.grace_s) for one in gone))
        except asyncio.CancelledError:
            self.replicas += gone  # to be stopped with the others
            raise

    def _check_begun(self) -> None:
        if not self._is_begun:
            raise OperationFailedError(f"{self.name} has no release that works: update it first")

    async def _end_strays(self, before: dict[str, ProcessRecord], count: int) -> None:
        """End what an orchestrator before this one has left and nobody asks for any more."""
        labels = {label for label in before if not _is_number_below(label, count)}
        for label in (*sorted(labels - {str(TRIAL_NUMBER)}), TRIAL):
            place = self._layout.place(self.name, label)
            known = before.get(str(TRIAL_NUMBER) if label == TRIAL else label)
            identity = None if known is None else known.identity
            found = await asyncio.to_thread(find_running, place, identity)
            if found is not None:
                await end(HostProcess(found, None, adopted=True), self._shelf.grace_s)
            await asyncio.to_thread(self._preparation.driver.clear, place)
        for label in labels:
            self._record.processes.pop(label, None)

    async def _set_release(self, release: str) -> None:
        record = self._record
        if record.release != release:
            record.previous, record.release = record.release, release
        await asyncio.to_thread(self._shelf.choose, release, record.previous)
        await self._save()

    def _is_other(self, one: Replica, release: str) -> bool:
        """Tell whether what runs is not what should run; it blocks.

        Another release is there when an orchestrator was killed in an update.
        """
        is_old = release_in(one.place.folder) != release
        return is_old or read_secret(one.place.link_token) != self._preparation.link.token

    def _make_replica(self, number: int) -> Replica:
        return Replica(
            number,
            self._layout.place(self.name, str(number)),
            self._preparation,
            self._client,
            remember=self._remember,
            tell=self._tell,
        )

    async def _remember(self, number: int, identity: Identity | None) -> None:
        if identity is None:
            self._record.processes.pop(str(number), None)
        else:
            self._record.processes[str(number)] = ProcessRecord(
                pid=identity.pid, started=identity.started, boot=identity.boot
            )
        await self._save()

    async def _snapshot_for_ever(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            await self.snapshot()


def _identity(before: dict[str, ProcessRecord], number: int) -> Identity | None:
    found = before.get(str(number))
    return None if found is None else found.identity


def _is_number_below(label: str, count: int) -> bool:
    return label.isdigit() and int(label) < count
