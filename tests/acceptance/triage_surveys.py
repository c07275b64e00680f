"""Short ways through the example `log_triage` for its tests."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from triage.formats import LogClock
from triage.mining import TemplateMine
from triage.models import TriageReport
from triage.parsing import Record, RecordAssembler
from triage.sources import find_logs
from triage.summary import summarise
from triage.survey import Survey, SurveyLimits, survey_logs

CLOCK = LogClock(datetime(2025, 7, 1, tzinfo=UTC), UTC)
LIMITS = SurveyLimits(max_bytes=10**8, max_lines=10**6, max_templates=500)


def at(text: str) -> float:
    """Return a time in UTC as seconds since the epoch."""
    return datetime.fromisoformat(f"{text}+00:00").timestamp()


def records_of(lines: Iterable[str]) -> list[Record]:
    """Return the records of a file with these lines."""
    assembler = RecordAssembler(CLOCK)
    found = [record for line in lines if (record := assembler.feed(line))]
    last = assembler.flush()
    return [*found, last] if last else found


def mine_of(lines: Iterable[str], max_templates: int = 500) -> TemplateMine:
    """Return a mine that has seen these lines."""
    mine = TemplateMine(max_templates)
    for record in records_of(lines):
        mine.add(record, "app.log")
    return mine


def survey_of(*paths: Path, limits: SurveyLimits = LIMITS) -> Survey:
    """Survey files or folders."""
    files, _ = find_logs([str(path) for path in paths], 100)
    return survey_logs(files, limits, zone=UTC)


def report_of(*paths: Path) -> TriageReport:
    """Return the report on files or folders."""
    return summarise(survey_of(*paths), [], top=20, took_s=0.1, zone=UTC)
