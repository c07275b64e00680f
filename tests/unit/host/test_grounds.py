"""What every Python program needs of a machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from kagent_sdk.host import grounds as module
from kagent_sdk.host.grounds import (
    find_gpu_devices,
    find_gpu_files,
    find_grounds,
    outermost,
    resolve,
    resolve_safely,
    worker_search_path,
)
from kagent_sdk.sandbox.paths import is_within


def test_what_lies_in_another_is_left_out() -> None:
    """A rule for a folder is one for all in it."""
    assert outermost(["/a/b", "/c", "/a", "/a/d", "/c"]) == ("/c", "/a")


def test_links_are_followed_and_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    """Rules are for what a path leads to."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")

    real = str((tmp_path / "real").resolve())
    assert resolve([f"{tmp_path}/link", f"{tmp_path}/real", f"{tmp_path}/none"]) == (real,)


def test_the_interpreter_and_its_packages_may_be_read_and_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without them there is no worker; and what a wheel brings along is found by the loader."""
    monkeypatch.setenv("LD_LIBRARY_PATH", f":{tmp_path}")
    grounds = find_grounds([str(tmp_path / "none")])

    def may_execute(path: str) -> bool:
        return any(is_within(str(Path(path).resolve()), one) for one in grounds.execute)

    assert all(map(may_execute, (sys.executable, sys.prefix, sys.base_prefix, str(tmp_path))))
    assert any(is_within(str(Path(pytest.__file__).resolve()), one) for one in grounds.code)
    assert not any(is_within(str(tmp_path), one) for one in grounds.code)
    assert "/dev/null" in grounds.write
    assert "/proc" in grounds.read


def test_devices_of_gpus_are_found_by_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cards, their parts, and what all of them need; no screen, and nothing that looks alike."""
    names = ("nvidia0", "nvidiactl", "nvidia-uvm", "nvidia-fs0", "sda", "nvidia-caps/nvidia-cap1")
    for name in (*names, "dri/card0", "dri/renderD128"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to("/dev/null")
    monkeypatch.setattr(os, "lstat", os.stat)  # to make a device takes root: links stand for them

    assert find_gpu_devices(str(tmp_path)) == tuple(
        f"{tmp_path}/{name}"
        for name in (
            *("nvidia-uvm", "nvidia0", "nvidiactl"),
            *("nvidia-caps/nvidia-cap1", "dri/renderD128"),
        )
    )


def test_what_only_has_the_name_of_a_gpu_is_none(tmp_path: Path) -> None:
    """Whoever may write in /dev does not choose what a worker gets."""
    (tmp_path / "nvidia0").write_text("")
    (tmp_path / "nvidia1").symlink_to("/dev/null")

    assert find_gpu_devices(str(tmp_path)) == ()
    assert find_gpu_devices(str(tmp_path / "none")) == ()


def test_a_device_that_goes_meanwhile_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drivers are unloaded while agents start."""
    monkeypatch.setattr(module, "_names", lambda _folder: ["nvidia0"])

    assert find_gpu_devices(str(tmp_path)) == ()


def test_what_drivers_of_gpus_read_is_there_or_left_out() -> None:
    """The buses of a machine have numbers."""
    assert all(Path(path).exists() for path in find_gpu_files())


def test_where_the_host_was_started_is_not_on_a_workers_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`python -m` puts the present folder first: it may be a home with keys in it."""
    monkeypatch.setattr(sys, "path", ["/home/someone", "", "/usr/lib/python"])

    assert worker_search_path() == ["/usr/lib/python"]


def test_links_that_a_worker_may_have_planted_are_not_followed(tmp_path: Path) -> None:
    """They would give the worker of the next start whatever they point to."""
    root = tmp_path.resolve()
    for name in ("data", "secret", "fine"):
        (root / name).mkdir()
    (root / "data/planted").symlink_to("../secret")
    (root / "door").symlink_to("data")
    (root / "way").symlink_to(f"{root}/fine/../fine")
    (root / "circle").symlink_to("circle")
    (root / "out").symlink_to("/")

    def follow(*names: str) -> tuple[str, ...]:
        return resolve_safely([f"{root}/{name}" for name in names], [f"{root}/data"])

    assert follow("data/planted", "door/planted", "data/planted/..", "circle", "none") == ()
    assert follow("way", "./fine/.") == (f"{root}/fine",)
    assert follow("door") == (f"{root}/data",)
    assert follow("out") == ("/",)
