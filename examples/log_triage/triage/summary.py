"""Turn a survey into a `TriageReport`: rank, choose, and say in words what matters. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from pathlib import Path

from .levels import Level
from .mining import OTHER_ID, Sighting, Template
from .models import (
    Example,
    FileSummary,
    SkippedSummary,
    TemplateSummary,
    TimelineSummary,
    TriageReport,
    Verdict,
)
from .ranking import Judgement, judge, span_of
from .sources import SkippedFile
from .survey import FileTally, Survey

MIN_SURPRISE = 2.0
"""Below this, a template without a problem is everyday business."""

TIMELINE_COLUMNS = 56
MAX_FILES_PER_TEMPLATE = 20


def summarise(
    survey: Survey,
    skipped: Sequence[SkippedFile],
    *,
    top: int,
    took_s: float,
    zone: tzinfo | None = None,
) -> TriageReport:
    """Return the report of a survey, its text still empty."""
    judgements = judge(survey.mine, zone)
    problems = [one for one in judgements if one.template.level >= Level.WARNING]
    unusual = [one for one in judgements if _is_unusual(one)]
    common = sorted(judgements, key=lambda one: (-one.template.count, one.template.number))
    total = survey.mine.total
    return TriageReport(
        verdict=_verdict(problems),
        headline=_headline(problems, unusual, total),
        lines=survey.lines,
        records=total,
        size_bytes=survey.size_bytes,
        templates=len(survey.mine.templates),
        problem_records=sum(one.template.count for one in problems),
        took_s=round(took_s, 3),
        timeline=_timeline(survey),
        problems=[describe(one, total) for one in problems[:top]],
        unusual=[describe(one, total) for one in unusual[:top]],
        common=[describe(one, total) for one in common[:top]],
        files=[_file(tally) for tally in survey.tallies],
        skipped=[SkippedSummary(path=str(file.path), reason=file.reason) for file in skipped],
        notes=_notes(survey, len(problems), len(unusual), top),
    )


def describe(judgement: Judgement, total: int) -> TemplateSummary:
    """Return a judged template as the model that callers get."""
    template = judgement.template
    busiest = sorted(template.files.items(), key=lambda item: (-item[1], item[0]))
    return TemplateSummary(
        number=template.number,
        template=template.text,
        source=template.source,
        level=template.level.label,
        level_is_guess=template.is_guess,
        count=template.count,
        share=round(template.count / max(total, 1), 6),
        surprise=judgement.surprise,
        reasons=list(judgement.reasons),
        is_new=judgement.is_new,
        first_at=utc(template.first.at),
        last_at=utc(template.last.at),
        files=dict(busiest[:MAX_FILES_PER_TEMPLATE]),
        examples=[_example(seen) for seen in _examples(template)],
    )


def utc(at_s: float | None) -> datetime | None:
    """Return seconds since the epoch as a time in UTC."""
    return None if at_s is None else datetime.fromtimestamp(at_s, UTC)


def _is_unusual(judgement: Judgement) -> bool:
    return judgement.template.level < Level.WARNING and judgement.surprise >= MIN_SURPRISE


def _verdict(problems: Sequence[Judgement]) -> Verdict:
    worst = max((one.template.level for one in problems), default=Level.UNKNOWN)
    verdicts: dict[Level, Verdict] = {
        Level.CRITICAL: "critical",
        Level.ERROR: "error",
        Level.WARNING: "warning",
    }
    return verdicts.get(worst, "ok")


def _headline(problems: Sequence[Judgement], unusual: Sequence[Judgement], total: int) -> str:
    if not total:
        return "nothing was logged"
    if not problems:
        rest = f", {_count(len(unusual), 'unusual template')}" if unusual else ""
        return f"no problems in {total:,} records{rest}"
    records = sum(one.template.count for one in problems)
    seen = problems[0].template.last
    where = f"{Path(seen.file).name}:{seen.line_number}"
    return (
        f"{_count(len(problems), 'kind')} of problem in {records:,} of {total:,} records; "
        f"look first at {where}: {_shorten(seen.message, 120)}"
    )


def _timeline(survey: Survey) -> TimelineSummary | None:
    span = span_of(survey.mine.templates)
    if span is None:
        return None
    columns = (span.start_s, span.end_s, TIMELINE_COLUMNS)
    return TimelineSummary(
        start_at=datetime.fromtimestamp(span.start_s, UTC),
        end_at=datetime.fromtimestamp(span.end_s, UTC),
        records=survey.mine.timeline.columns(*columns),
        problems=survey.mine.problems.columns(*columns),
    )


def _examples(template: Template) -> list[Sighting]:
    """The first ones that differ, and the last one: it shows how things stand."""
    seen = list(template.examples)
    if template.count > len(seen) and all(template.last.text != one.text for one in seen):
        seen[-1:] = [template.last] if len(seen) > 1 else [*seen, template.last]
    return seen


def _example(seen: Sighting) -> Example:
    return Example(
        file=seen.file,
        line=seen.line_number,
        at=utc(seen.at),
        text=seen.text,
        more=list(seen.extra),
    )


def _file(tally: FileTally) -> FileSummary:
    return FileSummary(
        path=tally.path,
        lines=tally.lines,
        size_bytes=tally.size_bytes,
        formats=[name for name, _ in tally.formats.most_common(4)],
        first_at=utc(tally.first_s),
        last_at=utc(tally.last_s),
        problems=tally.problems,
        damage=tally.damage,
    )


def _notes(survey: Survey, problems: int, unusual: int, top: int) -> list[str]:
    notes = []
    if survey.stopped_by:
        rest = f"; {_count(len(survey.unread), 'file')} not read" if survey.unread else ""
        notes.append(f"reading stopped after {survey.stopped_by}{rest}")
    for tally in survey.tallies:
        name = Path(tally.path).name
        if tally.damage:
            notes.append(f"{name} is damaged: {tally.damage}")
        if tally.cut_lines:
            notes.append(f"{name}: {_count(tally.cut_lines, 'very long line')} cut")
        if tally.foreign_lines:
            notes.append(f"{name}: {_count(tally.foreign_lines, 'line')} not in UTF-8")
    for count, kind in ((problems, "problem"), (unusual, "unusual template")):
        if count > top:
            notes.append(f"{_count(count - top, f'more {kind}')} than shown")
    if any(template.number == OTHER_ID for template in survey.mine.templates):
        notes.append("more templates than max_templates: the rest counts as one")
    return notes


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _shorten(text: str, chars: int) -> str:
    return text if len(text) <= chars else f"{text[: chars - 1]}…"
