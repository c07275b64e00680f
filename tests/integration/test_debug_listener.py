"""Where the debug socket listens: private from its first moment, and nobody else's place."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import stat
from pathlib import Path

import pytest

from kagent_sdk.errors import StartupError
from kagent_sdk.host import debug_listener
from kagent_sdk.host.debug_listener import DebugListener, choose_path, open_listener

NOBODY = 65_534


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder that is nobody else's."""
    made = tmp_path / "own"
    made.mkdir(mode=0o755)
    return made


def _connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_the_socket_is_its_owners_alone_whatever_the_umask(folder: Path, umask: int) -> None:
    """There is no moment in which others could connect, and none in which the owner cannot."""
    before = os.umask(umask)
    try:
        listener = open_listener(folder / "debug.sock")
    finally:
        os.umask(before)

    assert stat.S_IMODE(listener.path.stat().st_mode) == 0o600
    assert _connects(listener.path)
    listener.close()
    assert not listener.path.exists()
    listener.close()


def test_the_socket_of_a_dead_host_is_replaced(folder: Path) -> None:
    """SIGKILL leaves it behind."""
    path = folder / "debug.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    listener = open_listener(path)

    assert _connects(path)
    listener.close()


def test_that_of_a_living_host_is_not(folder: Path) -> None:
    """Two agents that were given one path would take each other's sessions."""
    first = open_listener(folder / "debug.sock")

    with pytest.raises(StartupError, match="another process listens"):
        open_listener(first.path)

    assert _connects(first.path)
    first.close()


def test_what_another_has_put_there_since_is_left_to_it(folder: Path) -> None:
    """A host that ends late must not take away its successor's socket."""
    first = open_listener(folder / "debug.sock")
    first.path.unlink()
    second = open_listener(first.path)

    first.close()

    assert _connects(second.path)
    second.close()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_is_left_alone(folder: Path, kind: str) -> None:
    """It may be somebody's work."""
    path = folder / "debug.sock"
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(folder / "elsewhere")

    with pytest.raises(StartupError, match="is no socket"):
        open_listener(path)

    assert os.path.lexists(path)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        (0o777, "anyone may write"),
        (0o1777, "anyone may write"),
        (0o702, "anyone may write"),
        (0o770, "group 65534 may write"),
    ],
)
def test_a_folder_that_others_may_write_to_is_refused(folder: Path, mode: int, reason: str) -> None:
    """Whoever can put a socket of their own there can read what a person types at 3 a.m."""
    if os.geteuid() == 0:
        os.chown(folder, 0, NOBODY)
    elif mode == 0o770:
        mode, reason = 0o772, "anyone may write"  # no group of others is to be had
    folder.chmod(mode)

    with pytest.raises(StartupError, match=reason):
        open_listener(folder / "debug.sock")

    assert list(folder.iterdir()) == []


def test_a_folder_that_is_somebody_elses_is_refused(folder: Path) -> None:
    """Its owner could move the socket away."""
    status = os.stat_result((stat.S_IFDIR | 0o755, 1, 1, 2, os.geteuid() + 7, 0, 0, 0, 0, 0))

    with pytest.raises(StartupError, match="belongs to user"):
        debug_listener.check_folder(folder, status)


@pytest.mark.parametrize(("members", "is_own"), [([], True), (["ada"], True), (["bob"], False)])
def test_a_group_of_ones_own_may_write(
    folder: Path, monkeypatch: pytest.MonkeyPatch, members: list[str], *, is_own: bool
) -> None:
    """With a umask of 002 and a group for each user every folder is like that."""
    user = pwd.struct_passwd(("ada", "x", os.geteuid(), 77, "", "/", "/bin/sh"))
    group = grp.struct_group(("ada", "x", 77, members))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: user)
    monkeypatch.setattr(grp, "getgrgid", lambda _: group)
    status = os.stat_result((stat.S_IFDIR | 0o775, 1, 1, 2, os.geteuid(), 77, 0, 0, 0, 0))

    if is_own:
        debug_listener.check_folder(folder, status)
        return
    with pytest.raises(StartupError, match="group 77 may write"):
        debug_listener.check_folder(folder, status)


def test_a_path_that_the_kernel_does_not_take_is_refused(tmp_path: Path) -> None:
    """The error of the kernel would name no file."""
    with pytest.raises(StartupError, match="too long"):
        open_listener(tmp_path / ("x" * 108))


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A mount that was forgotten."""
    with pytest.raises(StartupError, match=r"nowhere/debug\.sock: No such file"):
        open_listener(tmp_path / "nowhere" / "debug.sock")


def test_the_images_folder_is_taken_where_it_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere it is the agent's own."""
    monkeypatch.setattr(debug_listener, "SHARED_FOLDER", tmp_path / "debug")
    assert choose_path(tmp_path, None) == tmp_path / "runtime" / "debug.sock"
    (tmp_path / "debug").mkdir()
    assert choose_path(tmp_path, None) == tmp_path / "debug" / "socket"
    assert choose_path(tmp_path, "my.sock") == tmp_path / "my.sock"
    assert choose_path(tmp_path, "/run/my.sock") == Path("/run/my.sock")


def test_two_that_replace_a_dead_socket_at_once_do_not_both_get_it(folder: Path) -> None:
    """The second would take the first one's away."""
    with debug_listener._locked(folder), pytest.raises(StartupError, match="cannot listen"):
        open_listener(folder / "debug.sock")
    listener: DebugListener = open_listener(folder / "debug.sock")
    listener.close()
