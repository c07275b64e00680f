"""Where secrets may lie, and what their files are called."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.errors import VaultError
from kagent_sdk.host.secret_folder import find_file_system, name_files

MOUNTS = r"""
overlay / overlay rw 0 0
tmpfs /mem tmpfs rw 0 0
ext4 /mem/shm ext4 rw 0 0
shm /mem/shm tmpfs rw 0 0
disk /mem/shm/in\040between ext4 rw 0 0
tmpfs /run tmpfs rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/mem/shm", "tmpfs"),
        ("/mem/shm/a/b", "tmpfs"),
        ("/mem/shm/in between/a", "ext4"),
        ("/mem/shmoo", "tmpfs"),
        ("/running", "overlay"),
        ("/run/user/1000", "tmpfs"),
    ],
)
def test_the_nearest_and_last_mount_counts(folder: str, kind: str) -> None:
    """A disk that is mounted over a tmpfs is a disk."""
    assert find_file_system(MOUNTS, Path(folder)) == kind


def test_nothing_mounted_is_nothing_known() -> None:
    """What cannot be seen is not taken for memory."""
    assert find_file_system("", Path("/mem/shm")) is None


def test_names_become_names_of_files() -> None:
    """A path in the vault is no path on the disk."""
    assert name_files(["key", "db.password", "a b/c"]) == {
        "key": "key",
        "db.password": "db.password",
        "a b/c": "a_b_c",
    }


@pytest.mark.parametrize("name", ["", ".", "..", "x" * 256])
def test_a_name_that_cannot_be_a_file_is_refused(name: str) -> None:
    """At the start, when somebody looks."""
    with pytest.raises(VaultError, match="cannot be the name of a file"):
        name_files([name])


@given(st.lists(st.text(max_size=20), unique=True, max_size=6))
def test_every_file_lies_in_the_folder(names: list[str]) -> None:
    """No name reaches out of the folder, and no two secrets share a file."""
    try:
        files = name_files(names)
    except VaultError:
        return

    assert len(set(files.values())) == len(names)
    assert all("/" not in file and file.strip(".") for file in files.values())
