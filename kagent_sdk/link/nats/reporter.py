"""Tells what has become of tasks: events to their stream, ends to the records."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from kagent_sdk.errors import StorageError
from kagent_sdk.link.nats import names
from kagent_sdk.link.nats.bodies import decode_object
from kagent_sdk.link.nats.connection import FAILURES, describe
from kagent_sdk.link.nats.record_store import RecordError, RecordStore
from kagent_sdk.link.nats.records import TaskRecord
from kagent_sdk.protocol.link import ATTEMPT_HEADER

if TYPE_CHECKING:
    from kagent_sdk.link.nats.connection import Bus
    from kagent_sdk.link.nats.holdings import Holdings
    from kagent_sdk.link.port import LinkHost, LinkStatus, Report

BATCH = 256
BATCH_BYTES = 4 * 1024 * 1024


class Reporter:
    """Empties the host's outbox, in its order for each task; nothing leaves it before it is kept."""

    def __init__(self, bus: Bus, host: LinkHost, holdings: Holdings, status: LinkStatus) -> None:
        self._bus = bus
        self._host = host
        self._holdings = holdings
        self._status = status
        self._records = RecordStore(bus)
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        """Report whatever comes, until cancelled; what fails is tried again without end."""
        limits = self._bus.limits
        delay_s = limits.backoff_s
        while True:
            added = self._host.reports.added
            added.clear()
            try:
                while await self.flush():
                    pass
            except (*FAILURES, StorageError) as exc:
                self._host.log("debug", "link_report_failed", error=describe(exc))
                await asyncio.sleep(delay_s * (0.5 + random.random() / 2))  # noqa: S311 - jitter
                delay_s = min(2 * delay_s, limits.max_backoff_s)
                continue
            delay_s = limits.backoff_s
            await added.wait()

    async def flush(self) -> bool:
        """Report some; whether there was anything.

        Raises:
            FAILURES: the server is away, after what it took is settled.
            StorageError: the journal cannot be used.
        """
        async with self._lock:
            reports = await self._host.reports.first(BATCH, BATCH_BYTES)
            by_task: dict[str, list[Report]] = {}
            for report in reports:
                by_task.setdefault(report.task, []).append(report)
            settled: list[str] = []
            outcomes = await asyncio.gather(
                *(self._report_task(of_task, settled) for of_task in by_task.values()),
                return_exceptions=True,
            )
            if settled:
                await self._host.reports.settle(settled)
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise outcome
            return bool(reports)

    async def _report_task(self, reports: list[Report], settled: list[str]) -> None:
        for report in reports:
            try:
                reason = await self._report(report)
            except (RecordError, ValueError) as exc:
                self._host.log(
                    "error", "link_report_malformed", task_id=report.task, error=str(exc)[:200]
                )
                reason = "malformed"
            if reason is None:
                self._status.reported += 1
            else:
                self._status.refused += 1
                self._host.log("warning", "link_report_refused", task_id=report.task, reason=reason)
            settled.append(report.id)

    async def _report(self, report: Report) -> str | None:
        record = await self._record_of(report)
        if record is not None and record.lease != report.lease:
            return "ended" if record.has_ended else "lease_lost"
        if report.kind == "event":
            return await self._publish(report, record)
        if record is None:
            record = await self._forgotten(report)
        reason = await self._records.end(record, report.payload)
        if reason is None:
            await self._holdings.acknowledge(record)
        else:
            self._holdings.drop(record)
        return reason

    async def _record_of(self, report: Report) -> TaskRecord | None:
        """Return the record as this replica knows it, or else as it is; None when there is none."""
        holding = self._holdings.find(report.task, report.lease)
        if holding is not None:
            return holding.record
        agent = self._host.registration().agent
        return (await self._records.read(agent, report.task)).record

    async def _publish(self, report: Report, record: TaskRecord | None) -> str | None:
        if record is None:
            return "unknown"
        key = f"{report.lease}:{report.id}"
        body, headers = await self._bus.blobs.pack(
            f"event.{key}", report.payload, self._bus.inline_bytes
        )
        headers |= {"Nats-Msg-Id": key, ATTEMPT_HEADER: str(record.attempt)}
        subject = names.events_subject(record.agent, record.task)
        await self._bus.js.publish(subject, body, headers=headers)
        return None

    async def _forgotten(self, report: Report) -> TaskRecord:
        """Return a record for a task whose own was kept no longer than it has run."""
        document = await decode_object(report.payload)
        return TaskRecord(
            task=report.task,
            agent=self._host.registration().agent,
            capability=str(document.get("capability", ""))[:64],
            created_at=0.0,
            lease=report.lease,
        )
