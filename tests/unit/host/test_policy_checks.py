"""Paths of ``sandbox:`` that cannot be meant are refused, with line and reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from kagent_sdk.config import read_config
from kagent_sdk.errors import ConfigError
from kagent_sdk.host.confinement import Confinement
from kagent_sdk.host.grounds import Grounds
from kagent_sdk.host.policy_checks import MAX_LOOKED_AT, check_policy


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an agent's folder as a host has prepared it."""
    folder = tmp_path / "agent"
    for name in ("runtime/cache", "runtime/data/x", "logs", "secrets", "models/deep", "package"):
        (folder / name).mkdir(parents=True)
    for name in ("entrypoint.py", "secrets/vault.json", "models/weights", "package/part.py"):
        (folder / name).touch()
    (tmp_path / "python/site").mkdir(parents=True)
    return folder


def check(folder: Path, sandbox: str) -> None:
    """Check a configuration with this ``sandbox:``, on a machine with a little interpreter."""
    (folder / "config.yaml").write_text(f"name: a\nsandbox:\n{sandbox}\n")
    python = str(folder.parent / "python")
    grounds = Grounds(("/etc/hosts",), ("/dev/null",), (python, "/usr"), (python,))
    loaded = read_config(folder, environ={})
    check_policy(loaded, Confinement(str(folder), grounds))


@pytest.mark.parametrize(
    ("sandbox", "told"),
    [
        ("  read: [none]", 'config.yaml:3: sandbox.read[0]: there is no "none"'),
        ("  write: [models, none]", 'sandbox.write[1]: there is no "none"; make it first'),
        ("  write:\n  - models\n  - .", 'config.yaml:5: sandbox.write[1]: "." covers the entry'),
        ("  write: [/]", '"/" covers the entrypoint'),
        ("  write: [entrypoint.py]", "covers the entrypoint"),
        ("  write: [config.yaml]", "covers the configuration"),
        ("  write: [runtime]", "covers the journal"),
        ("  write: [runtime/notes]", "is in the journal"),
        ("  write: [logs]", "covers the logs"),
        ("  write: [secrets]", "covers secrets"),
        ("  write: [secrets/vault.json]", "is in secrets"),
        ("  write: [../python/site]", "should be a path without"),
        ("  write: [package]", "covers code (package/part.py); name a folder that holds data"),
        ("  write: [package/part.py]", "covers code"),
        ("  write: [/etc/ssl]", "is in the system"),
        ("  write: [/usr/share]", "is in the system"),
        ("  write: [/dev]", "covers the devices"),
        ("  read: [secrets]", "for the host alone (it is in secrets); give secrets to the worker"),
        ("  read: [logs]", "it is in logs); keep what workers share in runtime/data"),
        ("  execute: [models]\n  write: [models/deep]", "what is written is never executed"),
        ("  execute: [runtime/data]", "what is written is never executed"),
        ("  execute: [/dev/shm]", "what is written is never executed"),
        ("  execute: [secrets]", "is for the host alone"),
    ],
)
def test_what_cannot_be_meant_is_refused(folder: Path, sandbox: str, told: str) -> None:
    """Each of these would give the worker what the host or the next worker relies on."""
    (folder / "runtime/notes").touch()

    with pytest.raises(ConfigError) as caught:
        check(folder, sandbox)

    assert told in str(caught.value)


def test_code_that_the_worker_imports_is_refused_wherever_it_is(folder: Path) -> None:
    """What is written there runs in the next worker before its sandbox is known."""
    with pytest.raises(ConfigError, match="is in code that the worker imports"):
        check(folder, f"  write: [{folder.parent}/python/site]")
    with pytest.raises(ConfigError, match="covers the entrypoint"):
        check(folder, f"  write: [{folder.parent}]")


def test_everything_that_is_wrong_is_told_at_once(folder: Path) -> None:
    """Nobody likes to learn of mistakes one by one."""
    with pytest.raises(ConfigError) as caught:
        check(folder, "  read: [none, secrets]\n  write: [logs]")

    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    "sandbox",
    [
        "  read: [/etc/hostname, runtime/data/x]",
        "  write: [models, runtime/cache]",
        "  write: [models/weights]",
        "  write: [/dev/zero]",
        "  execute: [package]",
    ],
)
def test_what_can_be_meant_is_taken(folder: Path, sandbox: str) -> None:
    """Data of the agent's own, and devices that are named one by one."""
    check(folder, sandbox)


def test_an_agent_inside_a_package_may_have_folders_of_data(folder: Path) -> None:
    """A package that is being developed is on the path with all that is in its repository."""
    (folder / "config.yaml").write_text("sandbox:\n  write: [models]\n")
    top = str(folder.parent)
    grounds = Grounds((), (), (top,), (top,))

    check_policy(read_config(folder, environ={}), Confinement(str(folder), grounds))


def test_looking_for_code_has_an_end(folder: Path) -> None:
    """A folder of data can be a million files: a start must not read them all."""
    for number in range(MAX_LOOKED_AT + 10):
        (folder / f"models/{number:05d}").touch()
    (folder / "models/deep/late.py").touch()
    (folder / "models/closed").mkdir()

    check(folder, "  write: [models]")


def test_a_configuration_that_is_named_elsewhere_is_guarded_too(folder: Path) -> None:
    """Who could write it would have another policy at the next start."""
    elsewhere = folder.parent / "settings"
    elsewhere.mkdir()
    file = elsewhere / "agent.yaml"
    file.write_text(f"name: a\nsandbox:\n  write: [{elsewhere}]\n")
    loaded = read_config(folder, environ={"AGENT_CONFIG": str(file)})
    grounds = Grounds(("/etc/hosts",), ("/dev/null",), ("/usr",), ("/usr",))

    with pytest.raises(ConfigError, match="covers the configuration"):
        check_policy(loaded, Confinement(str(folder), grounds))
