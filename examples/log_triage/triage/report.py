"""Write a `TriageReport` for a person: as Markdown, or as text for a terminal. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import PurePath

from .models import Example, FileSummary, ReportStyle, TemplateSummary, TriageReport
from .timeline import sparkline
from .times import clock_text, length_text, size_text, span_text

MAX_EXAMPLES = 2
MAX_UNUSUAL = 4
"""Unusual templates that a reader is shown; the document has all."""

MAX_MORE_LINES = 6
_INDENT = " " * 5
_COLOURS = {
    "bold": "1",
    "dim": "2",
    "critical": "1;37;41",
    "error": "1;31",
    "warning": "33",
    "ok": "32",
    "info": "36",
    "title": "1;36",
}


def write_report(
    report: TriageReport, *, style: ReportStyle, width: int, zone: tzinfo | None = None
) -> str:
    """Return the report as text; ``width`` is for ``text`` and ``ansi``."""
    if style == "markdown":
        return "\n".join(_Markdown(report, zone).lines()) + "\n"
    return "\n".join(_Screen(report, zone, width, Paint(is_on=style == "ansi")).lines()) + "\n"


@dataclass(frozen=True, slots=True)
class Paint:
    """Colours by ANSI escape sequences, or none."""

    is_on: bool

    def __call__(self, colour: str, text: str) -> str:
        """Return the text in a colour of `_COLOURS`."""
        code = _COLOURS.get(colour)
        return f"\x1b[{code}m{text}\x1b[0m" if self.is_on and code else text


class _Screen:
    """The report for a terminal."""

    def __init__(self, report: TriageReport, zone: tzinfo | None, width: int, paint: Paint) -> None:
        self._report = report
        self._zone = zone
        self._width = width
        self._paint = paint

    def lines(self) -> Iterator[str]:
        report = self._report
        yield from self._head()
        yield from self._timeline()
        if report.problems:
            yield from self._title("Problems", _problems_remark(report.problems))
            for rank, template in enumerate(report.problems, 1):
                yield from self._template(rank, template)
        if report.unusual:
            yield from self._title("Unusual", "no problem by its words, but it stands out")
            for rank, template in enumerate(report.unusual[:MAX_UNUSUAL], 1):
                yield from self._template(rank, template, examples=1)
        if report.common:
            yield from self._title("Everyday", "most frequent first")
            for template in report.common:
                yield self._common(template)
        yield from self._files()

    def _head(self) -> Iterator[str]:
        report, paint = self._report, self._paint
        verdict = paint(report.verdict, f" {report.verdict.upper()} ")
        yield f"{paint('bold', 'LOG TRIAGE')} {verdict} {_totals(report)}"
        yield from textwrap.wrap(_sentence(report.headline), self._width)

    def _timeline(self) -> Iterator[str]:
        timeline = self._report.timeline
        if timeline is None:
            return
        start_s, end_s = timeline.start_at.timestamp(), timeline.end_at.timestamp()
        yield ""
        length = length_text(end_s - start_s)
        yield self._paint("dim", f"{span_text(start_s, end_s, self._zone)} ({length})")
        rows = (("records", timeline.records, "info"), ("problems", timeline.problems, "error"))
        for name, counts, colour in rows:
            bars = self._paint(colour, sparkline(counts))
            peak = self._paint("dim", f"peak {max(counts):,}")
            yield f"  {name:<8} │{bars}│ {peak}"

    def _title(self, title: str, remark: str) -> Iterator[str]:
        yield ""
        rule = "─" * max(3, self._width - len(title) - len(remark) - 6)
        yield (
            f"{self._paint('dim', '──')} {self._paint('title', title)} "
            f"{self._paint('dim', f'{remark} {rule}')}"
        )

    def _template(
        self, rank: int, template: TemplateSummary, examples: int = MAX_EXAMPLES
    ) -> Iterator[str]:
        paint = self._paint
        label = _label(template)
        head = f"{rank:>3}. {label:<9} ×{template.count:<6,} "
        first, *rest = _wrap(_titled(template), self._width - len(head), 2) or [""]
        yield head.replace(label, paint(template.level, label), 1) + paint("bold", first)
        for line in rest:
            yield " " * len(head) + paint("bold", line)
        for line in _wrap(" · ".join(template.reasons), self._width - 5, 2):
            yield _INDENT + paint("dim", line)
        for example in template.examples[:examples]:
            yield from self._example(example)

    def _example(self, example: Example) -> Iterator[str]:
        paint = self._paint
        room = self._width - len(_INDENT) - 2
        where = f"{PurePath(example.file).name}:{example.line}"
        when = example.at and clock_text(example.at.timestamp(), self._zone)
        yield _INDENT + paint("info", where) + (paint("dim", f"  {when}") if when else "")
        text = _wrap(example.text, room, 2)
        for line in (*text, *(_cut(line, room) for line in _tail(example.more))):
            yield f"{_INDENT}{paint('dim', '│')} {line}"

    def _common(self, template: TemplateSummary) -> str:
        head = f"{template.count:>8,}  {template.share:>6.1%}  "
        return head + _cut(_titled(template), self._width - len(head))

    def _files(self) -> Iterator[str]:
        report, paint = self._report, self._paint
        yield from self._title("Files", "newest first")
        room = min(max(self._width - 60, 20), 60)
        for file in report.files:
            problems = _plural(file.problems, "problem") if file.problems else "–"
            size = size_text(file.size_bytes)
            yield (
                f"  {_cut_left(file.path, room):<{room}} {file.lines:>9,} lines {size:>10}"
                f"  {problems:<14} {paint('dim', _cut(_formats(file), 16))}"
            ).rstrip()
        for skipped in report.skipped:
            path = _cut_left(skipped.path, room)
            yield paint("dim", f"  {path:<{room}} not read: {skipped.reason}")
        for note in report.notes:
            yield paint("warning", f"  note: {note}")


class _Markdown:
    """The report as a document."""

    def __init__(self, report: TriageReport, zone: tzinfo | None) -> None:
        self._report = report
        self._zone = zone

    def lines(self) -> Iterator[str]:
        report = self._report
        yield f"# Log triage: {report.verdict}"
        yield ""
        yield f"{_escape(_sentence(report.headline))}"
        yield ""
        yield f"{_totals(report)}."
        yield from self._timeline()
        yield from self._templates("Problems", report.problems, MAX_EXAMPLES)
        yield from self._templates("Unusual", report.unusual[:MAX_UNUSUAL], 1)
        yield from self._common()
        yield from self._files()

    def _timeline(self) -> Iterator[str]:
        timeline = self._report.timeline
        if timeline is None:
            return
        start_s, end_s = timeline.start_at.timestamp(), timeline.end_at.timestamp()
        yield ""
        yield "```text"
        yield span_text(start_s, end_s, self._zone)
        for name, counts in (("records", timeline.records), ("problems", timeline.problems)):
            yield f"{name:<8} |{sparkline(counts)}| peak {max(counts):,}"
        yield "```"

    def _templates(
        self, title: str, templates: Sequence[TemplateSummary], examples: int
    ) -> Iterator[str]:
        if not templates:
            return
        yield ""
        yield f"## {title}"
        for rank, template in enumerate(templates, 1):
            yield ""
            yield f"{rank}. **{_label(template)}** ×{template.count:,} {_code(_titled(template))}"
            yield f"   — {_escape('; '.join(template.reasons))}."
            for example in template.examples[:examples]:
                yield ""
                yield f"   {_code(f'{example.file}:{example.line}')}"
                yield ""
                yield "   ```text"
                for line in (example.text, *_tail(example.more)):
                    yield f"   {line.replace('```', '` ` `')}"
                yield "   ```"

    def _common(self) -> Iterator[str]:
        if not self._report.common:
            return
        yield ""
        yield "## Everyday"
        yield ""
        yield "| records | share | template |"
        yield "| ---: | ---: | --- |"
        for template in self._report.common:
            text = _code(_titled(template).replace("|", "\\|"))
            yield f"| {template.count:,} | {template.share:.1%} | {text} |"

    def _files(self) -> Iterator[str]:
        yield ""
        yield "## Files"
        yield ""
        yield "| file | lines | size | problems | format |"
        yield "| --- | ---: | ---: | ---: | --- |"
        for file in self._report.files:
            size = size_text(file.size_bytes)
            yield (
                f"| {_code(file.path)} | {file.lines:,} | {size} | {file.problems:,} "
                f"| {_formats(file)} |"
            )
        notes = [
            f"{_code(file.path)} was not read: {file.reason}." for file in self._report.skipped
        ]
        notes += [f"Note: {_escape(note)}." for note in self._report.notes]
        for note in notes:
            yield ""
            yield note


def _totals(report: TriageReport) -> str:
    parts = (
        _plural(len(report.files), "file"),
        _plural(report.lines, "line"),
        size_text(report.size_bytes),
        _plural(report.templates, "template"),
        f"{report.took_s:.1f} s",
    )
    return " · ".join(parts)


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '…')) else '.'}"


def _label(template: TemplateSummary) -> str:
    if template.level == "unknown":
        return "–"
    return f"{template.level}{'?' if template.level_is_guess else ''}"


def _titled(template: TemplateSummary) -> str:
    return f"{template.source}: {template.template}" if template.source else template.template


def _problems_remark(templates: Sequence[TemplateSummary]) -> str:
    guessed = any(template.level_is_guess for template in templates)
    return "most surprising first" + ("; “?” is a level guessed from the words" if guessed else "")


def _formats(file: FileSummary) -> str:
    return ", ".join(file.formats)


def _tail(lines: Sequence[str]) -> list[str]:
    if len(lines) <= MAX_MORE_LINES:
        return list(lines)
    return ["…", *lines[-MAX_MORE_LINES:]]


def _wrap(text: str, width: int, max_lines: int) -> list[str]:
    return textwrap.wrap(
        text, max(width, 20), max_lines=max_lines, placeholder=" …", break_on_hyphens=False
    )


def _cut(text: str, chars: int) -> str:
    text = text.replace("\t", "    ")
    return text if len(text) <= chars else f"{text[: chars - 1]}…"


def _cut_left(text: str, chars: int) -> str:
    return text if len(text) <= chars else f"…{text[1 - chars :]}"


def _code(text: str) -> str:
    """Return text as Markdown code, whatever backticks it holds (CommonMark 0.31, 6.1)."""
    fence = "`"
    while fence in text:
        fence += "`"
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _escape(text: str) -> str:
    for character in "\\`*_<>[]|":
        text = text.replace(character, f"\\{character}")
    return text
