"""How the example `log_triage` judges: templates, ranking, report, and what it follows."""

from __future__ import annotations

import re
from datetime import UTC
from pathlib import Path

import pytest
from sample import write_sample
from triage.follow import Follower, Tail
from triage.mining import OTHER_ID, TemplateMine
from triage.report import write_report
from triage.timeline import MAX_BUCKETS, Timeline, sparkline
from triage.watch import Watcher

from tests.acceptance.triage_surveys import mine_of, report_of


def test_messages_that_differ_in_their_parameters_share_a_template() -> None:
    """A thousand lines of one kind are one line of the report."""
    mine = mine_of(
        f"Jun 24 14:00:{second:02} h sshd[{second}]: Failed password for u{second} "
        f"from 10.0.0.{second} port {second + 1000} ssh2"
        for second in range(60)
    )

    (template,) = mine.templates

    assert template.text == "Failed password for <*> from <IP> port <NUM> ssh2"
    assert (template.count, template.source) == (60, "sshd")


def test_messages_of_different_level_or_status_never_share_a_template() -> None:
    """One failing request among a thousand good ones must not drown in their template."""
    line = '1.2.3.4 - - [24/Jun/2025:14:36:25 +0000] "GET /a/{} HTTP/1.1" {} 12'

    mine = mine_of([line.format(number, 500 if number == 70 else 200) for number in range(100)])

    assert {template.text: template.count for template in mine.templates} == {
        "HTTP-200 GET /a/<NUM>": 99,
        "HTTP-500 GET /a/<NUM>": 1,
    }


def test_templates_over_the_limit_are_counted_as_one() -> None:
    """A log of random text must not eat the machine's memory."""
    words = [f"{chr(97 + number // 26)}{chr(97 + number % 26)}" * 3 for number in range(200)]

    mine = mine_of((f"{word} went {word}" for word in words), max_templates=20)

    assert len(mine.templates) == 21
    assert next(t for t in mine.templates if t.number == OTHER_ID).count == 180


def test_a_timeline_stays_bounded_and_loses_no_count() -> None:
    """A year of logs at one-second resolution would be 31 million counters."""
    timeline = Timeline()

    for second in range(0, 400 * 86_400, 4 * 3600):
        timeline.add(1_700_000_000 + second)

    assert len(timeline.counts) <= MAX_BUCKETS
    assert sum(timeline.counts.values()) == 2400
    assert sum(timeline.columns(1_700_000_000, 1_700_000_000 + 400 * 86_400, 7)) == 2400


def test_a_sparkline_shows_the_smallest_count_and_leaves_nothing_blank() -> None:
    """One error among a million lines must be visible in the drawing."""
    assert sparkline([0, 1, 1000]) == " ▁█"
    assert sparkline([0, 0]) == "  "


PLANTED = {
    "shop: payment of order <NUM> failed | KeyError: 'XAU'": "new: not seen before",
    "access: HTTP-502 POST /api/orders/<NUM>/checkout": "burst: ",
    "sshd: Failed password for invalid user <*> from <IP> port <NUM> ssh2": "burst: ",
    "sshd: fatal: Too many open files": "rare: once",
    "dfs.DataNode: IOException in blk_<NUM>: No space left on device": "rare: once",
    "dfs.FSNamesystem: replication round finished, <NUM> blocks missing": "went quiet after",
}


@pytest.mark.parametrize("seed", [1, 20260511])
def test_every_planted_anomaly_is_found_with_its_reason(tmp_path: Path, seed: int) -> None:
    """The promise of the agent: what a person should see first comes first, and says why."""
    write_sample(tmp_path, 12_000, seed)

    report = report_of(tmp_path)

    found = {f"{one.source}: {one.template}": one for one in [*report.problems, *report.unusual]}
    for template, reason in PLANTED.items():
        assert any(text.startswith(reason) for text in found[template].reasons), template
    assert report.verdict == "critical"
    assert len(report.problems) == 7
    assert len(report.unusual) == 1


def test_a_log_without_problems_says_so(tmp_path: Path) -> None:
    """The best report is short."""
    path = tmp_path / "app.log"
    path.write_text("".join(f"2025-06-24 14:00:{i % 60:02} INFO tick {i}\n" for i in range(300)))

    report = report_of(path)

    assert report.verdict == "ok"
    assert report.headline == "no problems in 300 records"
    assert report.problems == report.unusual == []


def test_a_report_is_readable_in_every_style(tmp_path: Path) -> None:
    """Text must fit the screen, Markdown must not be broken by what was logged."""
    write_sample(tmp_path, 3000)
    (tmp_path / "evil.log").write_text("ERROR ```| <b>*x*</b> \x1b[2J `tick`\n")
    report = report_of(tmp_path)

    markdown = write_report(report, style="markdown", width=100, zone=UTC)
    text = write_report(report, style="text", width=80, zone=UTC)
    coloured = write_report(report, style="ansi", width=80, zone=UTC)

    assert "\x1b" not in markdown + text
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == text
    assert max(map(len, text.splitlines())) <= 80
    assert markdown.count("```") % 2 == 0
    for part in ("Problems", "Everyday", "Files", "Too many open files", "auth.log:"):
        assert part in text
        assert part in markdown


def write_over(path: Path, text: str) -> None:
    """Append to a file."""
    with path.open("a") as file:
        file.write(text)


def test_a_tail_goes_on_through_rotation_and_truncation(tmp_path: Path) -> None:
    """Logrotate runs at midnight; a follower that then sees nothing more is worse than none."""
    path = tmp_path / "app.log"
    path.write_text("old\n")
    tail = Tail(path)
    tail.open_near_end(0)
    kinds: list[tuple[str, str]] = []

    def read() -> None:
        kinds.extend((item.kind, item.text) for item in tail.read())

    write_over(path, "one\npart")
    read()
    write_over(path, "ial\n")
    read()
    path.write_text("t\n")
    for _ in range(2):
        read()
    path.rename(tmp_path / "app.log.1")
    write_over(tmp_path / "app.log.1", "last words\n")
    for _ in range(3):
        read()
    path.write_text("fresh\n")
    for _ in range(2):
        read()
    tail.close()

    assert kinds == [
        ("line", "one"),
        ("line", "partial"),
        ("truncated", ""),
        ("line", "t"),
        ("line", "last words"),
        ("waiting", ""),
        ("rotated", ""),
        ("line", "fresh"),
    ]


def test_a_follower_knows_the_old_templates_and_flags_the_new_one(tmp_path: Path) -> None:
    """Whoever follows a log waits for the line that was never there before."""
    path = tmp_path / "app.log"
    path.write_text("".join(f"2025-06-24 14:00:00 INFO request {i} served\n" for i in range(50)))
    follower = Follower(path, TemplateMine(100), UTC)

    known = follower.start()
    write_over(path, "2025-06-24 14:00:01 INFO request 51 served\n2025-06-24 14:00:02 ERROR no\n")
    added = [*follower.step(), *follower.step()]
    follower.close()

    assert (len(known), known[0].is_new, known[-1].line) == (50, True, 50)
    assert [(line.is_new, line.level, line.line) for line in added] == [
        (False, "info", 51),
        (True, "error", 52),
    ]


def test_a_watcher_keeps_a_bounded_picture_and_finds_new_files(tmp_path: Path) -> None:
    """A file that appears while the agent runs is often the one that matters."""
    watcher = Watcher([str(tmp_path)])
    watcher.look()
    empty = watcher.picture()
    (tmp_path / "app.log").write_text("2025-06-24 14:00:00 INFO all well\n")
    watcher.look()
    write_over(tmp_path / "app.log", "2025-06-24 14:00:01 ERROR lost\n" * 200)

    remarkable = [*watcher.look(), *watcher.look()]
    picture = watcher.picture()
    watcher.close()

    assert empty.error is not None
    assert picture.error is None
    assert len(remarkable) == 200
    assert (picture.lines, picture.problems[0].count, len(picture.recent)) == (201, 200, 50)
