"""Where snapshots are kept: one contract for folders and object stores."""

from __future__ import annotations

import builtins
import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from obstore.exceptions import GenericError
from obstore.store import MemoryStore

from kagent_sdk.errors import SnapshotError
from kagent_sdk.snapshots.destination import FolderDestination, open_destination
from kagent_sdk.snapshots.port import Destination, Stored
from kagent_sdk.snapshots.stores import PIECE_BYTES, StoreDestination, open_store

NAME = "ada-20260131T235959Z-0a1b2c3d.tar.zst"
OTHER = "ada-20260131T235958Z-0a1b2c3d.tar.zst"
MAX_BYTES = 64 * 1024 * 1024

KINDS: dict[str, Callable[[Path], Destination]] = {
    "folder": lambda folder: FolderDestination(folder / "kept"),
    "file": lambda folder: StoreDestination((folder / "kept").as_uri(), folder / "runtime"),
    "memory": lambda folder: StoreDestination("memory:///", folder / "runtime", MemoryStore()),
}


@pytest.fixture(params=KINDS)
def destination(request: pytest.FixtureRequest, tmp_path: Path) -> Destination:
    """Return each kind in turn."""
    if request.param == "file":
        (tmp_path / "kept").mkdir()
    return KINDS[request.param](tmp_path)


def keep(destination: Destination, name: str, content: bytes) -> int:
    """Keep a file; return how often bytes were told of."""
    told: list[int] = []
    with destination.partial() as (file, path):
        file.write(content)
        file.flush()
        destination.keep(path, name, told.append)
    return len(told)


def fetch(destination: Destination, name: str, max_bytes: int = MAX_BYTES) -> bytes:
    """Return what is kept."""
    with destination.fetch(name, max_bytes, lambda _count: None) as path:
        return path.read_bytes()


@pytest.mark.parametrize("size", [0, 10, 2 * PIECE_BYTES + 7])
def test_what_is_kept_is_given_back(destination: Destination, size: int, tmp_path: Path) -> None:
    """To the byte, and nothing is left beside it."""
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    keep(destination, NAME, content)

    assert fetch(destination, NAME) == content
    assert destination.list() == [Stored(NAME, size)]
    assert not list(tmp_path.rglob(".partial-*"))


def test_what_is_not_kept_is_gone(destination: Destination, tmp_path: Path) -> None:
    """A snapshot that failed in the middle takes no room."""

    def fail() -> None:
        with destination.partial() as (file, _path):
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert destination.list() == []
    assert not list(tmp_path.rglob(".partial-*"))


def test_what_is_not_there_is_told(destination: Destination) -> None:
    """By its name."""
    with pytest.raises(SnapshotError, match=f"there is no snapshot {NAME}"):
        fetch(destination, NAME)


def test_other_files_are_not_listed(destination: Destination) -> None:
    """A bucket may have more in it."""
    keep(destination, NAME, b"x")
    keep(destination, "notes.txt", b"y")

    assert [stored.name for stored in destination.list()] == [NAME]


def test_a_folder_keeps_the_newest_and_leaves_the_rest(tmp_path: Path) -> None:
    """What is not ours is not ours to delete."""
    destination = FolderDestination(tmp_path)
    (tmp_path / "notes.txt").touch()
    for name in (NAME, OTHER, "eve-20250131T235959Z-0a1b2c3d.tar.zst"):
        keep(destination, name, b"x")
    destination.prune("ada", 1, NAME)

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        NAME,
        "eve-20250131T235959Z-0a1b2c3d.tar.zst",
        "notes.txt",
    ]


def test_a_bucket_is_not_cleaned_up() -> None:
    """It has rules of its own for that."""
    destination = StoreDestination("memory:///", Path(), MemoryStore())
    destination.prune("ada", 1, NAME)


def test_what_a_dead_host_has_left_is_removed(tmp_path: Path) -> None:
    """Killed in the middle of a snapshot, ten times a day: the disk must not fill up."""
    (tmp_path / ".partial-dead.tar.zst").write_bytes(b"half")
    living = (tmp_path / ".partial-living.tar.zst").open("wb")
    fcntl.flock(living, fcntl.LOCK_EX)
    with living:
        keep(FolderDestination(tmp_path), NAME, b"x")

        assert sorted(path.name for path in tmp_path.iterdir()) == [".partial-living.tar.zst", NAME]


def test_a_folder_lists_files_alone(tmp_path: Path) -> None:
    """A link could be to anything."""
    (tmp_path / NAME).symlink_to("/etc/passwd")
    (tmp_path / OTHER).mkdir()

    assert FolderDestination(tmp_path).list() == []
    assert FolderDestination(tmp_path / "nothing").list() == []
    with pytest.raises(SnapshotError, match="there is no snapshot"):
        fetch(FolderDestination(tmp_path / "x"), "../" + NAME)


def test_a_folder_that_cannot_be_used_is_told_without_its_path(tmp_path: Path) -> None:
    """The message goes over HTTP."""
    (tmp_path / "file").touch()
    with pytest.raises(SnapshotError) as caught:
        keep(FolderDestination(tmp_path / "file" / "inner"), NAME, b"x")

    assert str(caught.value) == "snapshots.destination cannot be used: not a directory"


@pytest.mark.parametrize("text", ["", ".", "../x", "a/../b"])
def test_a_folder_outside_must_be_meant(text: str, tmp_path: Path) -> None:
    """An absolute path says so plainly."""
    with pytest.raises(SnapshotError, match=r"a folder inside the agent's, an absolute path"):
        open_destination(text, tmp_path)


def test_snapshots_do_not_go_into_what_they_hold(tmp_path: Path) -> None:
    """Each would hold all before it."""
    for text in ("runtime/cache", "runtime/cache/x", str(tmp_path / "runtime/cache/x")):
        with pytest.raises(SnapshotError, match="must not lie in runtime/cache"):
            open_destination(text, tmp_path)

    assert isinstance(open_destination("runtime/snapshots", tmp_path), FolderDestination)
    assert isinstance(open_destination("s3://b/p", tmp_path), StoreDestination)


def test_an_address_of_no_store_is_refused() -> None:
    """With those that are known."""
    with pytest.raises(SnapshotError, match="known are s3, gs, az and nats"):
        open_store("ftp://host/x")
    with pytest.raises(SnapshotError, match=r"snapshots\.destination \(s3\) cannot be opened"):
        open_store("s3://")


def test_a_missing_extra_is_one_command_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most agents keep their snapshots in a folder, and need no library for it."""
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("obstore"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SnapshotError, match=r"pip install 'kagent-sdk\[snapshots\]'"):
        open_store("s3://bucket/prefix")


def test_what_a_store_says_stays_with_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may hold an address with a signature in it."""

    def fail(*_arguments: object) -> None:
        raise GenericError("https://host/?signature=abc")

    destination = StoreDestination("s3://bucket", Path(), MemoryStore())
    monkeypatch.setattr("obstore.list", fail)
    with pytest.raises(SnapshotError) as caught:
        destination.list()

    assert str(caught.value) == "snapshots.destination (s3) failed: GenericError"
    assert "signature" in str(caught.value.__cause__)


def test_a_download_is_bounded(tmp_path: Path) -> None:
    """What lies in a bucket may be of any size."""
    destination = StoreDestination("memory:///", tmp_path, MemoryStore())
    keep(destination, NAME, bytes(1001))
    with pytest.raises(SnapshotError, match=r"over snapshots\.max_bytes \(1000\)"):
        fetch(destination, NAME, 1000)


def test_a_bucket_that_is_not_there_is_told(tmp_path: Path) -> None:
    """A typing error in its name is the usual reason."""
    with pytest.raises(SnapshotError, match=r"snapshots\.destination"):
        StoreDestination((tmp_path / "nothing").as_uri(), tmp_path).list()
