"""Tells the orchestrator what is in the outbox, in its order, until it has been told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from kagent_sdk.errors import StorageError
from kagent_sdk.link.decisions import ContactError, Fault
from kagent_sdk.link.http.client import MAX_ANSWER_BYTES
from kagent_sdk.link.http.messages import encode_reports, not_klink, parse_answer
from kagent_sdk.link.http.session import Grievance, LinkSession
from kagent_sdk.link.port import Report
from kagent_sdk.protocol.link import ReportAnswer, ReportsAnswer

BATCH = 100
BATCH_BYTES = 4 * 1024 * 1024

BYTES_PER_ANSWER = 1024

_GIVE_UP_ON = frozenset({Fault.UNKNOWN, Fault.MALFORMED, Fault.BROKEN})


class Reporter:
    """Empties the outbox.

    Args:
        session: the agent's standing.
    """

    def __init__(self, session: LinkSession) -> None:
        self._session = session
        self._host = session.host
        self._box = session.host.reports
        self._sending = asyncio.Lock()
        self._grievance = Grievance(session.host, "link_reports_not_taken")
        self._storage_grievance = Grievance(session.host, "link_outbox_not_readable")

    async def run(self) -> None:
        """Send what there is and what comes, until cancelled."""
        while True:
            await self._session.registered.wait()
            self._box.added.clear()
            if not await self.send_some():
                await self._box.added.wait()

    async def is_empty(self) -> bool:
        """Whether there is nothing to tell, as far as can be seen."""
        try:
            return not await self._box.first(1, 1)
        except StorageError:
            return True

    async def send_some(self) -> bool:
        """Send the oldest reports; the agent is registered.

        Returns:
            Whether there were any, or may have been. They are sent again if they were not settled.
        """
        async with self._sending:
            try:
                reports = await self._box.first(BATCH, BATCH_BYTES)
                if reports:
                    await self._deliver(reports)
            except StorageError as exc:
                self._storage_grievance.complain(str(exc))
                await asyncio.sleep(self._session.interval_s)
                return True
            self._storage_grievance.settle()
            return bool(reports)

    async def _deliver(self, reports: Sequence[Report]) -> None:
        generation = self._session.generation
        try:
            async with self._session.waits.scope():
                answers = await self._session.persist(
                    partial(self._send, reports), self._grievance.complain, give_up_on=_GIVE_UP_ON
                )
        except TimeoutError:
            return  # the link is back: what was asked before may never be answered, and is sent anew
        except ContactError as exc:
            if exc.fault is Fault.UNKNOWN:
                self._session.note_unknown(generation)
            elif len(reports) > 1:
                # One of them is to blame, and must not hold up the others.
                for report in reports:
                    await self._deliver([report])
            elif exc.fault is Fault.BROKEN:
                # It is kept, and is the first of the next ones again; those behind it have their turn.
                self._grievance.complain(exc.reason)
                await asyncio.sleep(self._session.interval_s)
            else:
                await self._settle([_refuse(reports[0])], reports)
            return
        self._grievance.settle()
        await self._settle(answers, reports)

    async def _send(self, reports: Sequence[Report]) -> list[ReportAnswer]:
        answer = await self._session.ask(
            "reports",
            encode_reports(reports),
            timeout_s=self._session.settings.timeout_s,
            limit_bytes=MAX_ANSWER_BYTES + BYTES_PER_ANSWER * len(reports),
        )
        sent = {report.id for report in reports}
        parsed = parse_answer(ReportsAnswer, answer.body)
        answers = {item.id: item for item in parsed.items if item.id in sent}
        if not answers:
            raise not_klink("it says nothing of the reports that were sent")
        return [*answers.values()]

    async def _settle(self, answers: Sequence[ReportAnswer], reports: Sequence[Report]) -> None:
        await self._box.settle([answer.id for answer in answers])
        tasks = {report.id: report.task for report in reports}
        for answer in answers:
            if answer.outcome == "taken":
                self._session.status.reported += 1
                continue
            self._session.status.refused += 1
            is_ours = answer.reason == "malformed"
            self._host.log(
                "error" if is_ours else "info",
                "link_report_refused",
                task_id=tasks[answer.id],
                reason=(answer.reason or "not said")[:50],
            )


def _refuse(report: Report) -> ReportAnswer:
    return ReportAnswer(id=report.id, outcome="refused", reason="malformed")
