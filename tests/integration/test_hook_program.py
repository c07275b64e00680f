"""The exported hook as engines run it: by itself, in the folder of a bundle that nobody trusts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kagent_sdk.deploy.oci_hook import PROGRAM, render
from tests.unit.deploy.bundles import deploy, good_bundle

MEBIBYTE = 1024 * 1024


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Return where the hook of a plain agent is."""
    path = tmp_path / PROGRAM
    path.write_text(render(deploy()).files[PROGRAM], encoding="utf-8")
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return the folder of a bundle that is locked down."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    config = folder / "config.json"
    config.write_text(json.dumps(good_bundle()), encoding="utf-8")
    config.chmod(0o644)
    return folder


def state_of(bundle: Path) -> bytes:
    """Return the state that an engine hands to the hook; the process is this one."""
    return json.dumps({"bundle": str(bundle), "pid": os.getpid(), "status": "creating"}).encode()


def run(program: Path, state: bytes, folder: Path) -> str:
    """Run the hook with nothing but the interpreter's own library; return its one line."""
    # -S: no site-packages, where this package is.
    ended = subprocess.run(
        [sys.executable, "-I", "-S", str(program)],
        input=state,
        capture_output=True,
        cwd=folder,
        env={},
        timeout=30,
        check=False,
    )
    lines = ended.stderr.decode().splitlines()

    assert (ended.returncode, ended.stdout, len(lines)) == (1, b"", 1)
    return lines[0].removeprefix("kos-agent-hook: refused: ")


def test_a_process_in_the_namespaces_of_the_machine_is_refused(program: Path, bundle: Path) -> None:
    """What the bundle says is one thing: this process is in no namespace of its own."""
    line = run(program, state_of(bundle), bundle)

    assert line == (
        "namespaces: found the machine's own pid namespace; wanted one of the container"
    )


def test_no_module_of_the_bundle_is_imported(program: Path, bundle: Path) -> None:
    """Engines start a hook in the bundle, as root: a json.py there would be run as root."""
    trap = bundle / "ran"
    (bundle / "json.py").write_text(f"open({str(trap)!r}, 'w')\n", encoding="utf-8")

    run(program, state_of(bundle), bundle)

    assert not trap.exists()


def _absent(config: Path) -> None:
    config.unlink()


def _link(config: Path) -> None:
    config.rename(config.with_name("other.json"))
    config.symlink_to("other.json")


def _fifo(config: Path) -> None:
    config.unlink()
    os.mkfifo(config, 0o600)


def _writable(config: Path) -> None:
    config.chmod(0o666)


def _huge(config: Path) -> None:
    with config.open("wb") as file:
        file.truncate(5 * MEBIBYTE)


def _deep(config: Path) -> None:
    config.write_text('{"linux":' * 300_000, encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_absent, "cannot open config.json of the bundle: No such file or directory"),
        (_link, "cannot open config.json of the bundle: Too many levels of symbolic links"),
        (_fifo, "config.json of the bundle is no file"),
        (_writable, "config.json of the bundle can be written by others"),
        (_huge, "config.json is larger than 4194304 bytes"),
        (_deep, "no JSON: RecursionError"),
    ],
)
def test_a_bundle_that_cannot_be_judged_is_refused(
    program: Path, bundle: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    """A hook that hangs or lets through what it cannot read guards nothing."""
    spoil(bundle / "config.json")

    line = run(program, state_of(bundle), bundle)

    assert line == f"bundle: found {reason}; wanted one that can be judged"


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (b"", "no JSON: JSONDecodeError"),
        (b"{}", "the state names no bundle"),
        (b'{"bundle": "bundle"}', "the state names no bundle"),
        (b" " * (MEBIBYTE + 1), "the state is larger than 1048576 bytes"),
    ],
)
def test_a_state_that_cannot_be_read_is_refused(
    program: Path, bundle: Path, state: bytes, reason: str
) -> None:
    """Without the state there is nothing to judge: the container does not start."""
    line = run(program, state, bundle)

    assert line == f"bundle: found {reason}; wanted one that can be judged"


@pytest.mark.parametrize("pid", [None, 0, -1, "1", 2**22 + 1])
def test_a_state_without_a_process_is_refused(program: Path, bundle: Path, pid: object) -> None:
    """The namespaces that count are those that the process is in."""
    state = json.dumps({"bundle": str(bundle), "pid": pid}).encode()

    assert run(program, state, bundle).startswith("bundle: found ")
