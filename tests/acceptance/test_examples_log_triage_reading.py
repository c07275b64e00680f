"""How the example `log_triage` reads: formats, levels, records, files of every kind."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sample import write_sample
from triage.formats import HeadReader, LogClock
from triage.levels import Level, find_level, guess_level
from triage.parsing import MAX_EXTRA_LINES, sanitise
from triage.sources import MAX_LINE_BYTES, BoundedLines, NoSuchLogError, find_logs
from triage.survey import SurveyLimits, SurveyStoppedError, survey_logs

from tests.acceptance.triage_surveys import CLOCK, LIMITS, at, records_of, report_of, survey_of

HEADS = [
    ("2025-06-24 14:36:25 status installed libc6:amd64 2.36-9", "dpkg", "status=installed libc6"),
    ("2025-06-24T14:36:25Z plain text", "iso8601", "plain text"),
    ("2025-06-24 14:36:25,000 ERROR app: it broke", "iso8601", "ERROR app: it broke"),
    ("[2025-06-24 16:36:25 +02:00] hello", "iso8601", "hello"),
    ("2025-06-24T14:36:25.000000+00:00 host sshd[7]: closed", "iso8601", "closed"),
    ("update-alternatives 2025-06-24 14:36:25: link group", "name+time", "link group"),
    ("Start-Date: 2025-06-24  14:36:25", "name+time", "Start-Date:"),
    ("Jun 24 14:36:25 host cron[12]: job done", "syslog", "job done"),
    ("<11>Jun 24 14:36:25 host app: job failed", "syslog", "job failed"),
    (r'<34>1 2025-06-24T14:36:25Z host su 7 ID47 [a b="\]"] denied', "rfc5424", "denied"),
    (
        '1.2.3.4 - ada [24/Jun/2025:14:36:25 +0000] "GET /a/7?q=1 HTTP/1.1" 502 12 "-" "x"',
        "access",
        "HTTP-502 GET /a/7",
    ),
    ("2025/06/24 14:36:25 [error] 7#7: *1 upstream timed out", "nginx_error", "upstream"),
    ("[Tue Jun 24 14:36:25.1 2025] [core:error] [pid 7] AH1: no", "apache_error", "AH1: no"),
    ("E0624 14:36:25.000000       7 server.go:42] lost", "klog", "lost"),
    ("250624 143625 143 WARN dfs.DataNode: slow block", "hadoop", "slow block"),
    ("1750775785.0 tick", "epoch", "tick"),
    ('{"ts": 1750775785000, "level": "error", "msg": "no", "error": "x"}', "json", "no: x"),
    ('time=2025-06-24T14:36:25Z level=warn msg="low disk"', "logfmt", "low disk"),
]


@pytest.mark.parametrize(("line", "name", "message"), HEADS, ids=[head[1] for head in HEADS])
def test_a_line_of_a_known_format_gives_its_time_and_message(
    line: str, name: str, message: str
) -> None:
    """Logs of one machine mix formats; a timeline needs the time of every one."""
    head = HeadReader(CLOCK).read(line)

    assert head is not None
    assert head.format == name
    assert head.message.startswith(message)
    assert head.at == at("2025-06-24T14:36:25")


def test_a_time_without_a_year_is_dated_by_the_file() -> None:
    """A syslog of New Year's Eve that is read in January is of last year."""
    clock = LogClock(datetime(2026, 1, 2, tzinfo=UTC), UTC)

    head = HeadReader(clock).read("Dec 31 23:59:59 host app: late")

    assert head is not None
    assert head.at == at("2025-12-31T23:59:59")


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("ERROR it broke", Level.ERROR),
        ("main [warn] low disk", Level.WARNING),
        ('level="fatal" msg=x', Level.CRITICAL),
        ("the error was small", Level.UNKNOWN),
    ],
)
def test_a_stated_level_is_read(text: str, level: Level) -> None:
    """What a program says of its own line beats any guess."""
    assert find_level(text) is level


@pytest.mark.parametrize(
    ("message", "level"),
    [
        ("Failed password for root", Level.ERROR),
        ("KeyError: 'x'", Level.ERROR),
        ("kernel: Out of memory: Killed process 7", Level.CRITICAL),
        ("retrying in 5 s", Level.WARNING),
        ("status installed libgpg-error0:amd64", Level.UNKNOWN),
        ("Unpacking liberror-perl (0.17) ...", Level.UNKNOWN),
        ("finished with 0 errors", Level.UNKNOWN),
        ("errors=0 warnings=0", Level.UNKNOWN),
        ("0 errors, but the disk failed", Level.ERROR),
        ("GET /error.html", Level.UNKNOWN),
    ],
)
def test_a_level_is_guessed_from_words_and_not_from_names(message: str, level: Level) -> None:
    """A package called liberror-perl is no error; a report full of those would not be read."""
    assert guess_level(message) is level


def test_a_line_is_shown_as_a_terminal_would_leave_it_and_cannot_command_one() -> None:
    """Progress displays overwrite themselves; escape sequences in a log attack its reader."""
    assert sanitise("5%\r100% done\r\n") == "100% done"
    assert sanitise("\x1b[31mred\x1b[0m \x1b]0;title\x07x\x07\u202e") == "red x"


def test_a_python_traceback_belongs_to_the_line_before_it() -> None:
    """Fifty lines of stack are one event, and its exception is what matters."""
    lines = [
        "2025-06-24 14:00:00 ERROR request failed",
        "Traceback (most recent call last):",
        '  File "a.py", line 1, in f',
        "    f()",
        "KeyError: 'x'",
        "",
        "During handling of the above exception, another exception occurred:",
        "",
        "Traceback (most recent call last):",
        '  File "b.py", line 2, in g',
        "app.errors.Gone: no x",
        "2025-06-24 14:00:01 INFO next",
    ]

    first, second = records_of(lines)

    assert first.message == "ERROR request failed | app.errors.Gone: no x"
    assert first.level is Level.ERROR
    assert len(first.extra) == 8
    assert (second.line_number, second.message) == (12, "INFO next")


def test_a_traceback_without_a_head_is_a_record_of_its_exception() -> None:
    """Stderr of a crashed program has tracebacks alone; two of them are two."""
    trace = ["Traceback (most recent call last):", '  File "a.py", line 1', "ValueError: bad"]

    records = records_of([*trace, *trace])

    assert [record.message for record in records] == ["ValueError: bad", "ValueError: bad"]


def test_a_java_stack_is_named_by_its_last_cause() -> None:
    """The first exception of a chain is the wrapper, the last the reason."""
    (record,) = records_of(
        [
            "2025-06-24 14:00:00 ERROR o.a.Server - failed",
            "java.lang.RuntimeException: wrapped",
            "\tat a.B.c(B.java:1)",
            "Caused by: java.io.IOException: disk gone",
            "\t... 12 more",
        ]
    )

    assert record.message.endswith("| java.io.IOException: disk gone")


def test_an_endless_stack_is_cut_and_keeps_its_end() -> None:
    """A recursion error writes thousands of lines: memory must not grow with them."""
    lines = ["Traceback (most recent call last):", *["  frame"] * 5000, "RecursionError: deep"]

    (record,) = records_of(lines)

    assert len(record.extra) == MAX_EXTRA_LINES
    assert record.message == "RecursionError: deep"


def test_a_line_without_a_time_has_that_of_the_line_before() -> None:
    """Apt's terminal log dates its sections alone."""
    first, second = records_of(["Log started: 2025-06-24  14:36:25", "Unpacking it ..."])

    assert first.at == second.at == at("2025-06-24T14:36:25")


@pytest.mark.parametrize("compress", [None, gzip.compress, bz2.compress, lzma.compress])
def test_compressed_logs_are_read_like_plain_ones(tmp_path: Path, compress: object) -> None:
    """Rotated logs are compressed, and the interesting part is often in yesterday's."""
    text = b"2025-06-24 14:00:00 one\n2025-06-24 14:00:01 two\n"
    path = tmp_path / "app.log.1"
    path.write_bytes(compress(text) if callable(compress) else text)

    survey = survey_of(path)

    assert (survey.lines, survey.mine.total, survey.size_bytes) == (2, 2, len(text))


def test_a_damaged_file_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    """A full disk cuts a rotated log short; what is there still counts."""
    text = "".join(f"2025-06-24 14:00:00 line {os.urandom(8).hex()}\n" for _ in range(2000))
    path = tmp_path / "app.log.gz"
    path.write_bytes(gzip.compress(text.encode())[:-5000])

    report = report_of(path)

    assert 0 < report.lines < 2000
    assert report.files[0].damage
    assert "damaged" in report.notes[0]


def test_bytes_that_are_not_utf8_are_read_as_latin1(tmp_path: Path) -> None:
    """One umlaut of an old program must not end the reading."""
    path = tmp_path / "app.log"
    path.write_bytes("2025-06-24 14:00:00 Gerät ä\n".encode("latin-1"))

    report = report_of(path)

    assert "Gerät ä" in report.common[0].template
    assert report.notes == ["app.log: 1 line not in UTF-8"]


def test_a_line_of_megabytes_is_cut(tmp_path: Path) -> None:
    """A program that logs its core dump as one line must not be held in memory."""
    path = tmp_path / "app.log"
    path.write_bytes("ä".encode() * 2_000_000 + b"\nnext line\n")

    with BoundedLines(path) as lines:
        texts = list(lines)

    assert [text.strip() for text in texts[1:]] == ["next line"]
    assert 0 < len(texts[0].encode()) <= MAX_LINE_BYTES
    assert set(texts[0]) == {"ä"}
    assert (lines.cut_lines, lines.foreign_lines) == (1, 0)


def test_reading_ends_at_the_limits_and_says_so(tmp_path: Path) -> None:
    """A caller that names /var/log on a busy server must get an answer."""
    for name in ("a.log", "b.log"):
        (tmp_path / name).write_text("2025-06-24 14:00:00 same words here\n" * 1000)

    by_lines = survey_of(tmp_path, limits=SurveyLimits(10**8, 300, 100))
    by_bytes = survey_of(tmp_path, limits=SurveyLimits(5000, 10**6, 100))

    assert (by_lines.lines, len(by_lines.unread)) == (300, 1)
    assert by_bytes.size_bytes < 5100
    assert by_bytes.stopped_by == "4.9 KiB"


def test_lines_before_since_are_left_out_and_undated_ones_stay(tmp_path: Path) -> None:
    """After an incident people ask for the last hour."""
    path = tmp_path / "app.log"
    path.write_text("undated\n2025-06-24 14:00:00 old\n2025-06-24 15:00:00 new\n")
    limits = SurveyLimits(10**6, 1000, 100, since_s=at("2025-06-24T14:30:00"))

    survey = survey_of(path, limits=limits)

    assert [template.text for template in survey.mine.templates] == ["undated", "new"]


def test_progress_rises_to_one_by_bytes_read(tmp_path: Path) -> None:
    """A bar that jumps back or stops at 90 % looks like a hang."""
    write_sample(tmp_path, 8000)
    files, _ = find_logs([str(tmp_path)], 10)
    seen: list[float] = []

    survey_logs(files, LIMITS, progress=lambda fraction, _: seen.append(fraction))

    assert seen == sorted(seen)
    assert len(seen) > 10
    assert seen[-1] == 1.0


def test_a_survey_that_is_told_to_stop_ends_within_a_step(tmp_path: Path) -> None:
    """Cancelling a task must free its thread at once, not after the last gigabyte."""
    write_sample(tmp_path, 8000)
    files, _ = find_logs([str(tmp_path)], 10)
    steps: list[float] = []

    with pytest.raises(SurveyStoppedError):
        survey_logs(
            files,
            LIMITS,
            progress=lambda fraction, _: steps.append(fraction),
            is_stopped=lambda: len(steps) >= 2,
        )

    assert len(steps) == 2


def test_folders_and_globs_find_logs_and_name_what_they_leave_out(tmp_path: Path) -> None:
    """Nobody types the names of twenty rotated files."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "deep.log").write_text("x\n")
    (tmp_path / "syslog.1").write_text("x\n")
    (tmp_path / "notes.txt").write_text("x\n")
    (tmp_path / "empty.log").touch()
    (tmp_path / "wtmp.log").write_bytes(b"\x00\x01\x02")
    os.mkfifo(tmp_path / "pipe.log")

    found, skipped = find_logs([str(tmp_path)], 10)
    globbed, _ = find_logs([f"{tmp_path}/**/*.log"], 10)

    assert {file.path.name for file in found} == {"deep.log", "syslog.1"}
    assert {file.path.name: file.reason for file in skipped} == {
        "empty.log": "empty",
        "pipe.log": "not a regular file",
        "wtmp.log": "binary",
    }
    assert [file.path.name for file in globbed] == ["deep.log"]


def test_the_newest_files_are_kept_when_there_are_too_many(tmp_path: Path) -> None:
    """What went wrong is in the latest log."""
    for age in range(5):
        path = tmp_path / f"app{age}.log"
        path.write_text("x\n")
        os.utime(path, (1_700_000_000 - age, 1_700_000_000 - age))

    found, skipped = find_logs([str(tmp_path)], 2)

    assert [file.path.name for file in found] == ["app0.log", "app1.log"]
    assert {file.reason for file in skipped} == {"over 2 files"}


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [("dpgk.log", "dpkg.log"), ("nowhere/dpkg.log", ""), ("DPKG.LOG", "dpkg.log"), ("*.gz", "")],
)
def test_a_path_that_does_not_exist_names_its_nearest(
    tmp_path: Path, asked: str, nearest: str
) -> None:
    """A typo should cost a second, not a look at the folder."""
    (tmp_path / "dpkg.log").write_text("x\n")

    with pytest.raises(NoSuchLogError) as failure:
        find_logs([str(tmp_path / asked)], 10)

    assert failure.value.nearest[0] == str(tmp_path / nearest).rstrip("/")
