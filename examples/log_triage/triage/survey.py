"""Read log files into a `TemplateMine`, within limits, telling how far it is."""

from __future__ import annotations

import lzma
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path

from .formats import LogClock, reference_of
from .levels import Level
from .mining import TemplateMine
from .parsing import Record, RecordAssembler
from .sources import BoundedLines, LogFile
from .times import size_text

LINES_PER_STEP = 500
"""Lines between two looks at the clock of progress and at cancellation: about 20 ms of work."""

# What reading raises on a file that is cut short or corrupt.
DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError)

Progress = Callable[[float, str], object]


class SurveyStoppedError(Exception):
    """The caller asked to stop."""


@dataclass(frozen=True, slots=True)
class SurveyLimits:
    """How much to read at most."""

    max_bytes: int
    max_lines: int
    max_templates: int
    since_s: float | None = None


@dataclass(slots=True)
class FileTally:
    """What was read of one file."""

    path: str
    lines: int = 0
    size_bytes: int = 0
    problems: int = 0
    cut_lines: int = 0
    foreign_lines: int = 0
    first_s: float | None = None
    last_s: float | None = None
    formats: Counter[str] = field(default_factory=Counter)
    damage: str | None = None


@dataclass(slots=True)
class Survey:
    """The result: templates, and a tally per file."""

    mine: TemplateMine
    tallies: list[FileTally] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    stopped_by: str | None = None

    @property
    def lines(self) -> int:
        """Lines of all files."""
        return sum(tally.lines for tally in self.tallies)

    @property
    def size_bytes(self) -> int:
        """Bytes of text of all files."""
        return sum(tally.size_bytes for tally in self.tallies)


def survey_logs(
    files: Sequence[LogFile],
    limits: SurveyLimits,
    *,
    zone: tzinfo | None = None,
    progress: Progress = lambda _fraction, _message: None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Survey:
    """Read the files in their order and mine their lines. Blocks; for a thread.

    Args:
        files: what to read, the most important first: `SurveyLimits` may end it early.
        limits: where to stop.
        zone: zone of times that name none; None is the machine's own.
        progress: called with the share of bytes read and a few words, every `LINES_PER_STEP` lines.
        is_stopped: asked as often; if true, the survey ends.

    Raises:
        SurveyStoppedError: ``is_stopped`` said so.
    """
    surveyor = _Surveyor(Survey(TemplateMine(limits.max_templates)), limits, zone)
    total_bytes = sum(file.size_bytes for file in files) or 1
    done_bytes = 0
    for file in files:
        if surveyor.is_full:
            surveyor.survey.unread.append(str(file.path))
            continue
        for position_bytes in surveyor.read(file):
            if is_stopped():
                raise SurveyStoppedError
            fraction = min((done_bytes + position_bytes) / total_bytes, 1.0)
            progress(fraction, surveyor.describe(file.path))
        done_bytes += file.size_bytes
    return surveyor.survey


class _Surveyor:
    """Carries the counts of all files through the reading of each."""

    def __init__(self, survey: Survey, limits: SurveyLimits, zone: tzinfo | None) -> None:
        self.survey = survey
        self._limits = limits
        self._zone = zone
        self._lines = 0
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        return self.survey.stopped_by is not None

    def describe(self, path: Path) -> str:
        templates = len(self.survey.mine.templates)
        return f"{path.name}: {self._lines:,} lines, {templates:,} templates"

    def read(self, file: LogFile) -> Iterator[int]:
        """Read one file; yield the position in it now and then, and at the end."""
        tally = FileTally(str(file.path))
        self.survey.tallies.append(tally)
        assembler = RecordAssembler(LogClock(reference_of(file.modified_at_s), self._zone))
        try:
            with BoundedLines(file.path) as lines:
                yield from self._read_lines(lines, assembler, tally)
        except DAMAGE as exc:
            tally.damage = f"{type(exc).__name__} after line {tally.lines:,}"
        self._take(assembler.flush(), tally)
        yield file.size_bytes

    def _read_lines(
        self, lines: BoundedLines, assembler: RecordAssembler, tally: FileTally
    ) -> Iterator[int]:
        for line in lines:
            self._take(assembler.feed(line), tally)
            self._lines += 1
            tally.lines += 1
            if tally.lines % LINES_PER_STEP == 0:
                self._count_bytes(lines, tally)
                yield lines.position_bytes
            if self._lines >= self._limits.max_lines:
                self.survey.stopped_by = f"{self._limits.max_lines:,} lines"
            elif self._bytes + lines.read_bytes - tally.size_bytes >= self._limits.max_bytes:
                self.survey.stopped_by = size_text(self._limits.max_bytes)
            if self.is_full:
                break
        self._count_bytes(lines, tally)
        tally.cut_lines, tally.foreign_lines = lines.cut_lines, lines.foreign_lines

    def _count_bytes(self, lines: BoundedLines, tally: FileTally) -> None:
        self._bytes += lines.read_bytes - tally.size_bytes
        tally.size_bytes = lines.read_bytes

    def _take(self, record: Record | None, tally: FileTally) -> None:
        if record is None or self._is_too_old(record):
            return
        self.survey.mine.add(record, tally.path)
        tally.formats[record.format] += 1
        tally.problems += record.level >= Level.WARNING
        if record.at is not None:
            tally.first_s = min(tally.first_s or record.at, record.at)
            tally.last_s = max(tally.last_s or record.at, record.at)

    def _is_too_old(self, record: Record) -> bool:
        since_s = self._limits.since_s
        return since_s is not None and record.at is not None and record.at < since_s
