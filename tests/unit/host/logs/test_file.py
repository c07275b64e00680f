"""The log file is rotated, and found again when somebody else moved it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kagent_sdk.host.logs import file as file_module
from kagent_sdk.host.logs.file import RotatingFile


def notice(count: int, reason: str) -> bytes:
    """Return what is written about a loss."""
    return b"lost %d: %b\n" % (count, reason.encode())


def make_file(path: Path, max_bytes: int = 100, keep_files: int = 3) -> RotatingFile:
    """Return a file that is open."""
    made = RotatingFile(path, max_bytes=max_bytes, keep_files=keep_files, notice=notice)
    made.open()
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the log is to be."""
    return tmp_path / "logs" / "runtime.log"


@pytest.fixture
def opened(path: Path) -> Iterator[RotatingFile]:
    """Return an open file of 100 bytes at most."""
    made = make_file(path)
    yield made
    made.close()


def write_numbers(opened: RotatingFile, first: int, last: int) -> None:
    """Write records of ten bytes."""
    opened.write(b"".join(b"%09d\n" % n for n in range(first, last)), last - first)


def read_all(path: Path) -> str:
    """Return all records, rotated ones first."""
    rotated = sorted(path.parent.glob("runtime.log.*"), key=lambda p: -int(p.suffix[1:]))
    return "".join(part.read_text() for part in [*rotated, path])


def numbers(first: int, last: int) -> str:
    """Return what `write_numbers` wrote."""
    return "".join(f"{n:09d}\n" for n in range(first, last))


def test_a_full_file_is_rotated_without_a_loss(opened: RotatingFile, path: Path) -> None:
    """One batch may be larger than a file."""
    write_numbers(opened, 0, 7)
    write_numbers(opened, 7, 35)

    assert read_all(path) == numbers(0, 35)
    assert [p.stat().st_size for p in sorted(path.parent.iterdir())] == [50, 100, 100, 100]
    assert (opened.lines, opened.lost_lines, opened.rotations) == (35, 0, 3)
    assert opened.size_bytes == 50


def test_only_so_many_rotated_files_stay(opened: RotatingFile, path: Path) -> None:
    """A log must not fill the disk; the newest lines stay."""
    write_numbers(opened, 0, 75)

    assert {p.name for p in path.parent.iterdir()} == {
        "runtime.log", "runtime.log.1", "runtime.log.2", "runtime.log.3"
    }  # fmt: skip
    assert read_all(path) == numbers(40, 75)


def test_a_record_larger_than_a_file_is_whole(opened: RotatingFile, path: Path) -> None:
    """Sizes are a wish, records are not."""
    write_numbers(opened, 0, 1)
    opened.write(b"x" * 300 + b"\n" + b"y" * 300 + b"\n", 2)
    write_numbers(opened, 1, 2)

    assert read_all(path) == f"{numbers(0, 1)}{'x' * 300}\n{'y' * 300}\n{numbers(1, 2)}"
    assert opened.rotations == 3


def test_a_restart_goes_on_in_the_same_file(path: Path) -> None:
    """And counts what is there for its size."""
    for first in (0, 6):
        opened = make_file(path)
        write_numbers(opened, first, first + 6)
        opened.close()

    assert read_all(path) == numbers(0, 12)
    assert path.stat().st_size == 20


def test_a_torn_line_of_a_killed_host_does_not_swallow_the_next(path: Path) -> None:
    """What was written of it stays, on a line of its own."""
    path.parent.mkdir()
    path.write_text("torn")
    opened = make_file(path)
    write_numbers(opened, 0, 1)
    opened.close()

    assert path.read_text() == f"torn\n{numbers(0, 1)}"


def test_an_outside_rotator_moves_the_file_and_says_so(opened: RotatingFile, path: Path) -> None:
    """Logrotate moves, then sends SIGUSR1; what comes between the two is in the moved file."""
    write_numbers(opened, 0, 1)
    moved = path.rename(path.with_name("moved"))
    write_numbers(opened, 1, 2)
    opened.reopen()
    write_numbers(opened, 2, 3)

    assert moved.read_text() == numbers(0, 2)
    assert path.read_text() == numbers(2, 3)


def test_a_file_that_was_moved_without_a_word_is_noticed(
    opened: RotatingFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a second; nothing is lost meanwhile."""
    monkeypatch.setattr(file_module, "LOOK_EVERY_S", 0.0)
    write_numbers(opened, 0, 1)
    path.rename(path.with_name("moved"))
    write_numbers(opened, 1, 2)

    assert path.read_text() == numbers(1, 2)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_removed_file_is_made_anew_at_once(opened: RotatingFile, path: Path, what: str) -> None:
    """Lines that go to a file without a name are lost."""
    write_numbers(opened, 0, 1)
    path.unlink() if what == "file" else shutil.rmtree(path.parent)
    write_numbers(opened, 1, 2)

    assert path.read_text() == numbers(1, 2)
    assert opened.lost_lines == 0


def test_a_file_that_was_emptied_is_written_from_its_beginning(
    opened: RotatingFile, path: Path
) -> None:
    """Logrotate's copytruncate: no hole of zeros."""
    write_numbers(opened, 0, 5)
    os.truncate(path, 0)
    write_numbers(opened, 5, 6)

    assert path.read_text() == numbers(5, 6)
    assert opened.size_bytes == 10


def test_what_cannot_be_written_is_counted_and_told_once(opened: RotatingFile, path: Path) -> None:
    """The folder is gone and cannot be made: something else has its name."""
    shutil.rmtree(path.parent)
    path.parent.write_text("in the way")
    write_numbers(opened, 0, 3)
    write_numbers(opened, 3, 5)
    was_owing = opened.is_owing
    assert (opened.lines, opened.lost_lines, opened.last_error) == (0, 5, "File exists")

    path.parent.unlink()
    opened.write(b"", 0)
    is_owing = opened.is_owing
    write_numbers(opened, 5, 6)

    assert (was_owing, is_owing) == (True, False)
    assert path.read_text() == f"lost 5: File exists\n{numbers(5, 6)}"
    assert (opened.lines, opened.lost_lines) == (1, 5)


def test_a_moved_file_is_better_than_none(opened: RotatingFile, path: Path) -> None:
    """As long as no other can be made, lines go on to where they went."""
    folder = path.parent.rename(path.parent.with_name("moved"))
    path.parent.write_text("in the way")
    opened.reopen()
    write_numbers(opened, 0, 1)

    assert (folder / "runtime.log").read_text() == numbers(0, 1)
    assert (opened.lost_lines, opened.last_error) == (0, "File exists")


def test_a_file_that_cannot_be_rotated_grows(opened: RotatingFile, path: Path) -> None:
    """Over its limit, rather than that a line is lost; and it is not tried with every line."""
    path.with_name("runtime.log.3").mkdir()
    path.with_name("runtime.log.2").write_text("x")
    write_numbers(opened, 0, 15)
    write_numbers(opened, 15, 20)

    assert path.read_text() == numbers(0, 20)
    assert (opened.lost_lines, opened.rotations) == (0, 0)
    assert opened.last_error == "Is a directory"


def test_no_regular_file_is_not_rotated(tmp_path: Path) -> None:
    """A link to the container's stdout is common."""
    path = tmp_path / "runtime.log"
    path.symlink_to("/dev/null")
    opened = make_file(path)
    write_numbers(opened, 0, 20)
    opened.close()

    assert opened.rotations == 0
    assert list(tmp_path.iterdir()) == [path]


def test_a_start_without_a_file_fails(tmp_path: Path) -> None:
    """An agent whose log cannot be written at all says so at once."""
    (tmp_path / "logs").write_text("in the way")

    with pytest.raises(OSError, match="File exists"):
        make_file(tmp_path / "logs" / "runtime.log")
