"""What is damaged is put aside under a name that nothing has, and never lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from kagent_sdk.storage.quarantine import free_name, put_aside
from tests.unit.storage.databases import NOW_S


def test_a_file_goes_with_what_belongs_to_it(tmp_path: Path) -> None:
    """A database without its log is half of it: whoever repairs it needs both."""
    for name in ("journal.db", "journal.db-wal", "other"):
        (tmp_path / name).write_text(name)

    target = put_aside(tmp_path / "journal.db", NOW_S, side_files=("-wal", "-shm"))
    assert target.name == "journal.db.corrupt-20250615T150640"
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        target.name: "journal.db",
        f"{target.name}-wal": "journal.db-wal",
        "other": "other",
    }


def test_two_in_one_second_are_both_kept(tmp_path: Path) -> None:
    """A crash loop must not overwrite the file that mattered."""
    for content in ("first", "second", "third"):
        (tmp_path / "file").write_text(content)
        put_aside(tmp_path / "file", NOW_S)

    contents = {file.name: file.read_text() for file in tmp_path.iterdir()}
    name = "file.corrupt-20250615T150640"
    assert contents == {name: "first", f"{name}-1": "second", f"{name}-2": "third"}


def test_a_name_that_only_a_dangling_link_has_is_taken(tmp_path: Path) -> None:
    """Renaming onto it would be harmless, writing through it not."""
    (tmp_path / "file").symlink_to(tmp_path / "nowhere")

    assert free_name(tmp_path / "file").name == "file-1"


def test_a_link_is_put_aside_itself(tmp_path: Path) -> None:
    """What it points to belongs to somebody else."""
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "file").symlink_to("theirs")

    target = put_aside(tmp_path / "file", NOW_S)
    assert target.readlink() == Path("theirs")
    assert (tmp_path / "theirs").read_text() == "theirs"


def test_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    """The caller thinks that it put something aside: it must hear that it did not."""
    with pytest.raises(FileNotFoundError):
        put_aside(tmp_path / "file", NOW_S)
