"""What goes in and out of the agent's capabilities."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

MEBIBYTE = 1024 * 1024

LevelName = Literal["unknown", "debug", "info", "warning", "error", "critical"]
Verdict = Literal["ok", "warning", "error", "critical"]
ReportStyle = Literal["markdown", "text", "ansi"]
LogPath = Annotated[str, StringConstraints(min_length=1, max_length=4096)]


class Model(BaseModel):
    """Frozen, and strict about unknown members: a misspelt option is an error, not a surprise."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TriageRequest(Model):
    """Which logs to look at, and how far."""

    paths: Annotated[list[LogPath], Field(min_length=1, max_length=100)] = Field(
        description="Files, globs (`/var/log/nginx/*.log*`) and folders; .gz, .xz and .bz2 are read."
    )
    since: AwareDatetime | None = Field(
        None, description="Leave out what was logged before; lines without a time stay in."
    )
    top: int = Field(10, ge=1, le=100, description="How many templates each ranking holds.")
    style: ReportStyle = Field(
        "markdown", description="How `report` is written; ansi is for a terminal with colours."
    )
    width: int = Field(100, ge=60, le=200, description="Columns of a report in text or ansi.")
    max_bytes: int = Field(
        256 * MEBIBYTE, ge=1024, le=16_384 * MEBIBYTE, description="Stop after so much text."
    )
    max_lines: int = Field(2_000_000, ge=1, le=100_000_000, description="Stop after so many lines.")
    max_templates: int = Field(
        2000, ge=10, le=50_000, description="Templates to keep apart; the rest counts as one."
    )
    max_files: int = Field(200, ge=1, le=5000, description="Files to read, the newest first.")


class Example(Model):
    """A line as it was logged."""

    file: str
    line: int = Field(description="Line number, from 1 on.")
    at: datetime | None
    text: str
    more: list[str] = Field(description="Lines that belong to it, such as a traceback.")


class TemplateSummary(Model):
    """A template and what is known of its lines."""

    number: int
    template: str = Field(
        description="The message; `<*>`, `<IP>`, `<NUM>` … stand for what varies."
    )
    source: str = Field(description="The program; empty if not known.")
    level: LevelName
    level_is_guess: bool = Field(description="No level was logged; the words suggest this one.")
    count: int
    share: float = Field(description="Of all records, 0 to 1.")
    surprise: float = Field(description="The larger the more remarkable; 0 is everyday business.")
    reasons: list[str] = Field(description="Why it is remarkable, in words.")
    is_new: bool = Field(description="Seen for the first time near the end.")
    first_at: datetime | None
    last_at: datetime | None
    files: dict[str, int] = Field(description="Records in each file.")
    examples: list[Example]


class FileSummary(Model):
    """A file that was read."""

    path: str
    lines: int
    size_bytes: int = Field(description="Of text, after decompression.")
    formats: list[str] = Field(description="Formats of its lines, the commonest first.")
    first_at: datetime | None
    last_at: datetime | None
    problems: int = Field(description="Records at warning level or above.")
    damage: str | None = Field(None, description="Why it could not be read to its end.")


class SkippedSummary(Model):
    """A file that was not read."""

    path: str
    reason: str


class TimelineSummary(Model):
    """Records over time, in equal columns from `start_at` to `end_at`."""

    start_at: datetime
    end_at: datetime
    records: list[int]
    problems: list[int]


class TriageReport(Model):
    """What the logs say."""

    verdict: Verdict
    headline: str
    lines: int
    records: int = Field(description="Lines with their continuation lines counted as one.")
    size_bytes: int
    templates: int
    problem_records: int = Field(description="Records at warning level or above.")
    took_s: float
    timeline: TimelineSummary | None = Field(description="null if no line has a time.")
    problems: list[TemplateSummary] = Field(description="Warning or worse, most surprising first.")
    unusual: list[TemplateSummary] = Field(description="Others that stand out: bursts, new, rare.")
    common: list[TemplateSummary] = Field(description="The most frequent.")
    files: list[FileSummary]
    skipped: list[SkippedSummary]
    notes: list[str] = Field(description="What the reader should know of the reading itself.")
    report: str = Field("", description="All of this, written for a person.")


class FollowedLine(Model):
    """One item of the stream of `follow`."""

    kind: Literal["line", "rotated", "truncated", "waiting"] = Field(
        description="line; or what happened to the file: rotated (a new one took its place), "
        "truncated (it became shorter), waiting (it is not there at the moment)."
    )
    file: str
    line: int | None = Field(None, description="Line number; null if the start was not read.")
    at: datetime | None = None
    level: LevelName = "unknown"
    template: str = ""
    number: int = Field(0, description="The template's number.")
    count: int = Field(0, description="Records of this template so far, this one included.")
    is_new: bool = Field(default=False, description="The first of its template.")
    text: str = ""
    more: list[str] = []


class WatchedPicture(Model):
    """What the loop `watch` has seen since the agent started."""

    paths: list[str]
    rounds: int = Field(description="How often it looked.")
    lines: int
    templates: int
    problems: list[TemplateSummary]
    recent: list[FollowedLine] = Field(description="The last problems and new templates.")
    files: list[str]
    error: str | None = Field(None, description="Why the last look saw nothing, if it did not.")
