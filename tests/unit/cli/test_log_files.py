"""The log's files, read while they are written and rotated."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, Any

import pytest

from kagent_sdk.cli import log_files
from kagent_sdk.cli.log_files import LogFiles


class Log:
    """What a host writes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "logs" / "runtime.log"
        self.path.parent.mkdir()

    def write(self, *lines: str, end: str = "\n") -> None:
        """Add lines to the current file."""
        with self.path.open("a") as file:
            file.write("\n".join(lines) + end)

    def rotate(self) -> None:
        """Give every file the next number."""
        numbers = sorted(int(p.suffix[1:]) for p in self.path.parent.glob("runtime.log.*"))
        for number in reversed(numbers):
            self.numbered(number).rename(self.numbered(number + 1))
        self.path.rename(self.numbered(1))

    def numbered(self, number: int) -> Path:
        """Return the name of a rotated file."""
        return self.path.with_name(f"runtime.log.{number}")


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """An empty folder for logs."""
    return Log(tmp_path)


@pytest.fixture
def files(log: Log) -> Iterator[LogFiles]:
    """What reads it."""
    with closing(LogFiles(log.directory)) as files:
        yield files


class _DoneError(Exception):
    """The story of a test has come to its end."""


def follow(files: LogFiles, *steps: Callable[[], object]) -> list[str]:
    """Follow a log through a story: the next step happens whenever there is nothing to read."""
    story = iter(steps)

    def pause() -> None:
        step = next(story, None)
        if step is None:
            raise _DoneError
        step()

    found: list[str] = []
    with suppress(_DoneError):  # there is no other end
        for lines in files.follow(pause):
            found += [line.decode() for line in lines]
    return found


def test_all_files_are_read_the_oldest_first(log: Log, files: LogFiles) -> None:
    """Ten comes before nine, and what is no log stays out."""
    for number in range(12):
        log.write(f"line {number}")
        log.rotate()
    log.write("last")
    for name in ("runtime.log.gz", "runtime.log.x", "runtime.log.\u0663", "other.log"):
        (log.path.parent / name).write_text("no\n")
    assert files.open()

    assert [line.decode() for line in files.read()] == [
        *(f"line {number}" for number in range(12)),
        "last",
    ]


def test_a_line_without_its_end_is_kept_for_the_end(log: Log, files: LogFiles) -> None:
    """In an older file nothing will follow; in the current one it may."""
    log.write("old", end="")
    log.rotate()
    log.write("whole", "half", end="")
    files.open()

    assert list(files.read()) == [b"old", b"whole"]
    assert files.take_rest() == [b"half"]
    assert files.take_rest() == []


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 9])
def test_the_last_lines_may_lie_in_several_files(log: Log, files: LogFiles, count: int) -> None:
    """A log that was rotated a moment ago is nearly empty."""
    log.write("a", "no", "b")
    log.rotate()
    log.write("c", "no")
    log.rotate()
    log.write("d")
    files.open()
    wanted = [b"a", b"b", b"c", b"d"][max(0, 4 - count) :]

    assert files.read_last(count, lambda line: line != b"no") == wanted


@pytest.mark.parametrize("count", [0, 1, 5, 39, 40, 41, 80, 99])
def test_the_last_lines_are_found_from_the_end(
    log: Log, files: LogFiles, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Nobody waits for a gigabyte to see ten lines."""
    monkeypatch.setattr(log_files, "CHUNK_BYTES", 64)
    lines = [f"line {number} {'x' * (number % 40)}" for number in range(80)]
    log.write(*lines[:40])
    log.rotate()
    log.write(*lines[40:])
    log.write("half", end="")
    files.open()
    found = files.read_last(count, lambda _: True, is_chosen=False)

    assert [line.decode() for line in found] == lines[max(0, 80 - count) :]
    assert files.take_rest() == [b"half"]
    assert follow(files, lambda: log.write("next")) == ["next"]


def test_files_that_ended_before_the_time_are_not_read(log: Log, files: LogFiles) -> None:
    """`--since 10m` in gigabytes of logs."""
    log.write("long ago")
    os.utime(log.path, (1000, 1000))
    log.rotate()
    log.write("now")
    files.open(since_s=2000)

    assert list(files.read()) == [b"now"]


def test_it_is_followed_line_by_line(log: Log, files: LogFiles) -> None:
    """Half a line waits for its other half."""
    log.write("before")
    files.open()
    list(files.read())

    assert follow(
        files,
        lambda: log.write("one", "two"),
        lambda: log.write("thr", end=""),
        lambda: log.write("ee", "four"),
    ) == ["one", "two", "three", "four"]


def test_a_rotation_loses_and_repeats_nothing(log: Log, files: LogFiles) -> None:
    """Also what was written right before it, and when there were several at once."""
    log.write("0")
    files.open()
    list(files.read())

    def rotate_thrice() -> None:
        for number in (3, 4, 5):
            log.write(f"{number}a")
            log.rotate()
            log.write(f"{number}b")

    def write_and_rotate() -> None:
        log.write("1")
        log.rotate()

    assert follow(
        files,
        write_and_rotate,
        lambda: log.write("2"),
        rotate_thrice,
        lambda: log.write("6"),
    ) == ["1", "2", "3a", "3b", "4a", "4b", "5a", "5b", "6"]


@pytest.mark.parametrize("moment", range(3))
def test_rotations_while_the_files_are_being_opened_change_nothing(
    log: Log, files: LogFiles, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """A reader that gets no turn of a busy machine may find all names changed, and changed again."""
    opened = 0
    original = Path.open

    def rotate(*texts: str) -> None:
        for text in texts:
            log.rotate()
            log.write(text)

    def open_late(path: Path, mode: str = "r") -> IO[Any]:
        nonlocal opened
        if mode == "rb":
            opened += 1
            if opened == moment + 2:  # the first one is the file that is followed
                rotate("fifth", "sixth")
        return original(path, mode)

    log.write("first")
    monkeypatch.setattr(Path, "open", open_late)
    found = follow(files, lambda: rotate("second", "third", "fourth"))

    assert opened > moment + 2
    assert found == [*("first", "second", "third", "fourth", "fifth", "sixth")]


def test_a_half_line_before_a_rotation_is_a_line(log: Log, files: LogFiles) -> None:
    """Nothing follows it any more."""
    log.write("0")
    files.open()
    list(files.read())

    def tear() -> None:
        log.write("torn", end="")
        log.rotate()
        log.write("next")

    assert follow(files, tear) == ["torn", "next"]


def test_the_file_that_was_followed_may_be_gone(log: Log, files: LogFiles) -> None:
    """Rotated so often that it was removed, or the folder was emptied by hand."""
    log.write("0")
    files.open()
    list(files.read())

    def replace() -> None:
        log.path.unlink()
        log.write("older")
        log.rotate()
        log.write("new")

    assert follow(files, log.path.unlink, lambda: log.write("other"), replace) == [
        "other",
        "older",
        "new",
    ]


def test_a_truncated_file_is_read_from_its_start(log: Log, files: LogFiles) -> None:
    """As `logrotate` does with copytruncate."""
    log.write("a long line")
    files.open()
    list(files.read())

    def truncate() -> None:
        log.path.write_text("")
        log.write("new")

    assert follow(files, lambda: log.write("half", end=""), truncate) == ["new"]


def test_a_log_that_is_not_there_yet_is_waited_for(log: Log, files: LogFiles) -> None:
    """`kos-agent logs -f` may come before `kos-agent run`."""
    assert not files.open()
    assert list(files.read()) == []
    assert files.read_last(5, bool) == []

    assert follow(files, lambda: None, lambda: log.write("first")) == ["first"]


def test_memory_is_bounded_whatever_the_file_holds(
    log: Log, files: LogFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file without a newline is none of ours."""
    monkeypatch.setattr(log_files, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(log_files, "CHUNK_BYTES", 300)
    log.write("x" * 2500)
    log.write("y" * 1000, end="")
    files.open()
    read = list(files.read())
    followed = follow(files, lambda: log.write("z" * 2500, end=""))

    assert max(map(len, read)) <= 1000
    assert b"".join(read) == b"x" * 2500 + b"y" * 1000
    assert max(map(len, followed)) <= 1300
    assert "".join(followed) == "z" * sum(map(len, followed))
