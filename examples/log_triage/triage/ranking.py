"""Judge templates: which of them should surprise a person, and why. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo

from .levels import Level, telling_word
from .mining import OTHER_ID, Template, TemplateMine
from .timeline import Timeline
from .times import clock_text, length_text

RARE_SHARE = 0.001
"""A template below this share of all lines is rare, if there are lines enough to say so."""

MIN_LINES_FOR_RARE = 200
MAX_RARITY_BITS = 8.0
RARITY_WEIGHT = {True: 0.5, False: 0.25}
"""Bits of surprise per bit of rarity, for problems and for the rest: most logs are full of lines
that come once and mean nothing."""

MIN_BURST_COUNT = 5
MIN_BURST_RATIO = 4.0
BURST_SHARE = 0.8
"""A burst: most of the lines in a time that holds a quarter as much of everything else, or less."""

MIN_BUCKETS = 6
"""A log that is shorter than this has no rhythm to compare with."""

MIN_STEADY_COUNT = 30
STEADY_SHARE = 0.6
"""Seen in so many of the columns until its end: then its silence afterwards means something."""

COLUMNS = 40
LATE_SHARE = 0.9
"""Seen for the first time after this share of the span: new."""

_LEVEL_BITS = {Level.CRITICAL: 12.0, Level.ERROR: 8.0, Level.WARNING: 3.0}


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is remarkable about a template.

    Attributes:
        template: the template.
        surprise: the larger the more remarkable; about bits of information.
        reasons: why, in words for a person, the weightiest first.
        is_new: first seen near the end of the span.
    """

    template: Template
    surprise: float
    reasons: tuple[str, ...]
    is_new: bool


@dataclass(frozen=True, slots=True)
class Span:
    """From the first to the last dated line, in seconds since the epoch."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        """How long it is."""
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True)
class _Finding:
    bits: float
    reason: str


def span_of(templates: Sequence[Template]) -> Span | None:
    """Return the span of all dated lines, or None if no line has a date."""
    starts = [template.first.at for template in templates if template.first.at is not None]
    ends = [template.last.at for template in templates if template.last.at is not None]
    return Span(min(starts), max(ends)) if starts and ends else None


def judge(mine: TemplateMine, zone: tzinfo | None = None) -> list[Judgement]:
    """Judge every template of a mine, the most surprising first.

    ``zone`` is for the times in the reasons; None is the machine's own.
    """
    span = span_of(mine.templates)
    judgements = [
        _judge_one(template, mine, span, zone)
        for template in mine.templates
        if template.number != OTHER_ID
    ]
    return sorted(judgements, key=_order)


def _order(judgement: Judgement) -> tuple[float, int, int]:
    template = judgement.template
    return (-judgement.surprise, -template.count, template.number)


def _judge_one(
    template: Template, mine: TemplateMine, span: Span | None, zone: tzinfo | None
) -> Judgement:
    burst = _find_burst(template, mine.timeline, zone)
    new = _find_new(template, span, zone)
    findings = [
        finding
        for finding in (
            _find_level(template),
            burst,
            _find_silence(template, span, zone),
            new,
            _find_rarity(template, mine.total),
        )
        if finding is not None
    ]
    return Judgement(
        template,
        round(sum(finding.bits for finding in findings), 1),
        tuple(finding.reason for finding in findings),
        new is not None,
    )


def _find_level(template: Template) -> _Finding | None:
    bits = _LEVEL_BITS.get(template.level)
    if bits is None:
        return None
    if not template.is_guess:
        return _Finding(bits, f"logged as {template.level.label}")
    word = telling_word(template.first.text) or telling_word(template.text)
    return _Finding(bits - 1, f"says “{word}”" if word else f"looks like {template.level.label}")


def _find_rarity(template: Template, total: int) -> _Finding | None:
    if total < MIN_LINES_FOR_RARE or template.count / total > RARE_SHARE:
        return None
    weight = RARITY_WEIGHT[template.level >= Level.WARNING]
    bits = min(MAX_RARITY_BITS, math.log2(total / template.count) * weight)
    times = "once" if template.count == 1 else f"{template.count} times"
    return _Finding(bits, f"rare: {times} in {total:,} records")


def _find_burst(template: Template, whole: Timeline, zone: tzinfo | None) -> _Finding | None:
    """Find a short time that holds most of a template but little of everything else."""
    if template.count < MIN_BURST_COUNT:
        return None
    width_s = max(whole.width_s, template.timeline.width_s, 60)
    counts, all_counts = template.timeline.at_width(width_s), whole.at_width(width_s)
    dated, all_dated = sum(counts.values()), sum(all_counts.values())
    if dated < MIN_BURST_COUNT or len(all_counts) < MIN_BUCKETS:
        return None
    first, last = _densest(counts, dated)
    inside = sum(count for bucket, count in counts.items() if first <= bucket <= last)
    then = sum(count for bucket, count in all_counts.items() if first <= bucket <= last)
    # What else came at that time: half a record more, so that it is never nothing.
    others_share = (then - inside + 0.5) / (all_dated - dated + 0.5)
    ratio = inside / dated / others_share
    if inside < MIN_BURST_COUNT or ratio < MIN_BURST_RATIO:
        return None
    length, at = length_text((last - first + 1) * width_s), clock_text(first * width_s, zone)
    reason = f"burst: {inside:,} of {dated:,} within {length} from {at}"
    return _Finding(min(6.0, math.log2(ratio)), reason)


def _densest(counts: dict[int, int], total: int) -> tuple[int, int]:
    """Return the shortest range of buckets that holds `BURST_SHARE` of the counts."""
    buckets = sorted(counts)
    best = (buckets[0], buckets[-1])
    start, held = 0, 0
    for bucket in buckets:
        held += counts[bucket]
        while held - counts[buckets[start]] >= total * BURST_SHARE:
            held -= counts[buckets[start]]
            start += 1
        if held >= total * BURST_SHARE and bucket - buckets[start] < best[1] - best[0]:
            best = (buckets[start], bucket)
    return best


def _find_new(template: Template, span: Span | None, zone: tzinfo | None) -> _Finding | None:
    first_s = template.first.at
    if span is None or first_s is None or span.length_s <= 0:
        return None
    if (first_s - span.start_s) / span.length_s < LATE_SHARE:
        return None
    return _Finding(2.0, f"new: not seen before {clock_text(first_s, zone)}")


def _find_silence(template: Template, span: Span | None, zone: tzinfo | None) -> _Finding | None:
    """Find a steady stream that ended well before the end."""
    last_s = template.last.at
    if span is None or last_s is None or template.count < MIN_STEADY_COUNT or span.length_s <= 0:
        return None
    if (last_s - span.start_s) / span.length_s > 0.8:
        return None
    columns = template.timeline.columns(span.start_s, span.end_s, COLUMNS)
    used = max(index for index, count in enumerate(columns) if count) + 1
    steady = sum(1 for count in columns[:used] if count) / used
    if used < 4 or steady < STEADY_SHARE:
        return None
    return _Finding(5.0, f"went quiet after {clock_text(last_s, zone)}")
