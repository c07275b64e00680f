"""Files of secrets: only those that are kept as such, and no word of their content."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kagent_sdk.errors import ConfigError, VaultError
from kagent_sdk.host.secret_file import (
    find_fault,
    find_reach,
    read_secret_file,
    refuse_own_writes,
)

if TYPE_CHECKING:
    from pathlib import Path

SECRET = b"hunter2-hunter2-hunter2"


def write(path: Path, mode: int = 0o600) -> Path:
    """Write a secret."""
    path.write_bytes(SECRET)
    path.chmod(mode)
    return path


def read(path: Path) -> bytes | None:
    """Read it as the vault does."""
    return read_secret_file(path, "secrets/x", 1000, VaultError)


def status(mode: int, uid: int) -> os.stat_result:
    """Return the status of a regular file with these permissions."""
    return os.stat_result((0o100000 | mode, 1, 1, 1, uid, 0, 10, 0, 0, 0))


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_of_its_owner_is_read(tmp_path: Path, mode: int) -> None:
    """The normal case."""
    assert read(write(tmp_path / "vault.json", mode)) == SECRET


def test_no_file_is_none(tmp_path: Path) -> None:
    """An agent without secrets has no vault, and perhaps no folder for it."""
    write(tmp_path / "file")

    assert read(tmp_path / "vault.json") is None
    assert read(tmp_path / "secrets" / "vault.json") is None
    assert read(tmp_path / "file" / "vault.json") is None


@pytest.mark.parametrize(
    ("mode", "uid", "fault"),
    [
        (0o600, 1000, ""),
        (0o440, 0, ""),
        (0o640, 0, ""),
        (0o640, 1000, "open to its group (mode 0640)"),
        (0o620, 0, "open to its group (mode 0620)"),
        (0o660, 0, "open to its group (mode 0660)"),
        (0o604, 0, "open to every user (mode 0604)"),
        (0o602, 0, "open to every user (mode 0602)"),
        (0o644, 1000, "open to every user (mode 0644)"),
    ],
)
def test_who_may_read_it_is_checked(mode: int, uid: int, fault: str) -> None:
    """Kubernetes mounts secrets as root's with a group; everything wider is a leak."""
    found = find_fault(status(mode, uid), "vault.json")

    assert fault in found
    assert bool(found) == bool(fault)
    assert not found or found.endswith("run: chmod 600 vault.json")


@pytest.mark.parametrize(
    ("owner", "read_only", "may_write", "reach"),
    [
        (0, True, False, ""),
        (0, False, False, ""),
        (1000, True, False, ""),
        (1000, False, False, "who could make it writable"),
        (0, False, True, "can be changed or replaced"),
        (1000, False, True, "can be changed or replaced"),
    ],
)
def test_who_could_change_it_is_checked(
    owner: int, read_only: bool, may_write: bool, reach: str
) -> None:
    """The owner of a file gives himself the right to write it, unless the mount forbids all."""
    found = find_reach(1000, owner, is_mounted_read_only=read_only, may_write=may_write)

    assert reach in found
    assert bool(found) == bool(reach)


def test_a_file_that_went_away_is_an_error(tmp_path: Path) -> None:
    """It may be replaced between the read and the look at who could change it."""
    with pytest.raises(VaultError, match="secrets/x cannot be read: No such file"):
        refuse_own_writes(tmp_path / "none", "secrets/x", VaultError)


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """The check is in the way of the read, with the way out in the message."""
    with pytest.raises(VaultError, match=r"open to every user.*chmod 600 secrets/x"):
        read(write(tmp_path / "vault.json", 0o644))


def test_the_links_of_kubernetes_are_followed(tmp_path: Path) -> None:
    """A mounted secret is vault.json -> ..data/vault.json, ..data -> ..2026_11_23."""
    (tmp_path / "..2026_11_23").mkdir()
    write(tmp_path / "..2026_11_23" / "vault.json")
    (tmp_path / "..data").symlink_to("..2026_11_23")
    (tmp_path / "vault.json").symlink_to("..data/vault.json")

    assert read(tmp_path / "vault.json") == SECRET


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    """Whoever may write a link there must not choose which file of the host's is read."""
    (tmp_path / "secrets").mkdir()
    write(tmp_path / "elsewhere")
    (tmp_path / "secrets" / "vault.json").symlink_to("../elsewhere")

    with pytest.raises(VaultError, match="leads out of its folder"):
        read(tmp_path / "secrets" / "vault.json")


@pytest.mark.parametrize(
    ("target", "reason"),
    [("nowhere", "a symbolic link to nothing"), ("vault.json", "lead nowhere")],
)
def test_a_link_to_nothing_is_no_missing_file(tmp_path: Path, target: str, reason: str) -> None:
    """It would silently be an agent without secrets."""
    (tmp_path / "vault.json").symlink_to(target)

    with pytest.raises(VaultError, match=reason):
        read(tmp_path / "vault.json")


def test_a_pipe_and_a_folder_are_refused_at_once(tmp_path: Path) -> None:
    """A pipe without a writer would hang the start for ever."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir(mode=0o700)

    for name in ("pipe", "folder"):
        with pytest.raises(VaultError, match="is not a regular file"):
            read(tmp_path / name)


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    """The reason is the system's; root can open any regular file, so a socket stands in."""
    import socket  # noqa: PLC0415

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(VaultError, match="secrets/x cannot be read: "):
            read(tmp_path / "s")


def test_a_file_over_the_limit_is_refused(tmp_path: Path) -> None:
    """A log file in the wrong place must not be read into memory."""
    (tmp_path / "vault.json").write_bytes(SECRET * 1000)
    (tmp_path / "vault.json").chmod(0o600)

    with pytest.raises(ConfigError, match="over 1000 bytes") as caught:
        read(tmp_path / "vault.json")
    assert "hunter2" not in str(caught.value)
