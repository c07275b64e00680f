"""`kos-agent sandbox exec`, typed as a user does."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.acceptance.cli import Result, kos

WRITE = "echo text >{}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that a program runs in, with a file that a worker may not read."""
    folder = tmp_path / "agent"
    for name in ("runtime/cache", "secrets"):
        (folder / name).mkdir(parents=True)
    (folder / "secrets" / "vault.json").write_text("{}")
    (folder / "code.py").write_text("1\n")
    return folder


def execute(folder: Path, *words: str, options: tuple[str, ...] = ()) -> Result:
    """Run a program confined, as the caller: user 1000 cannot read pytest's folders."""
    return kos("sandbox", "exec", "--keep-user", *options, "--", *words, cwd=folder)


def test_a_program_runs_confined_and_its_exit_code_is_the_commands(folder: Path) -> None:
    """It is as if the program had been typed alone, but for what it may not do."""
    allowed = execute(
        folder, "sh", "-c", f"{WRITE.format('runtime/cache/file')}; cat code.py; exit 7"
    )
    refused = execute(folder, "sh", "-c", WRITE.format("code.py"))
    secret = execute(folder, "cat", "secrets/vault.json")

    assert (allowed.code, allowed.out) == (7, "1\n")
    assert (folder / "runtime" / "cache" / "file").read_text() == "text\n"
    assert refused.code == 2
    assert "code.py: Permission denied" in refused.err
    assert "Permission denied" in secret.err


def test_options_of_the_program_are_its_own(folder: Path) -> None:
    """Nothing behind the dashes is ours."""
    assert execute(folder, "echo", "--json", "--policy").out == "--json --policy\n"


def test_a_policy_allows_more(folder: Path, tmp_path: Path) -> None:
    """A section of config.yaml, tried before it is deployed."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (folder / "policy.yaml").write_text(f"write: [{outside}]\nlimits: {{open_files: 50}}\n")
    options = ("--policy", "policy.yaml")
    done = execute(
        folder, "sh", "-c", f"ulimit -n; {WRITE.format(outside / 'new')}", options=options
    )

    assert done.code == 0, done.err
    assert done.out == "50\n"
    assert (outside / "new").read_text() == "text\n"


def test_a_policy_that_is_wrong_names_its_line(folder: Path) -> None:
    """As config.yaml does."""
    (folder / "policy.yaml").write_text("network:\n  alow: []\n")
    done = execute(folder, "true", options=("--policy", "policy.yaml"))

    assert done.code == 78
    assert done.err == "error: policy.yaml:2: network.alow: unknown key; did you mean allow?\n"


def test_a_control_that_is_required_and_missing_fails_the_start(folder: Path) -> None:
    """A script sees that nothing has run."""
    if os.geteuid() != 0:
        pytest.skip("platform: only root can be root")
    (folder / "policy.yaml").write_text("require: [user]\n")
    done = execute(folder, "echo", "started", options=("--policy", "policy.yaml"))

    assert done.code == 3
    assert done.out == ""
    assert done.err.startswith(
        "error: sandbox: user: required, and weaker: root without capabilities; "
    )


def test_what_does_not_hold_is_said_on_stderr(folder: Path) -> None:
    """In words, or as one document; stdout is the program's."""
    (folder / "policy.yaml").write_text("mode: off\n")
    words = execute(folder, "echo", "out", options=("--policy", "policy.yaml"))
    document = execute(folder, "echo", "out", options=("--policy", "policy.yaml", "--json"))

    assert words.out == document.out == "out\n"
    assert "sandbox: files: missing: off; set sandbox.mode: enforce" in words.err.splitlines()
    findings = json.loads(document.err)["findings"]
    assert {finding["verdict"] for finding in findings} == {"missing"}


def test_a_program_that_is_not_there_is_a_clear_error(folder: Path) -> None:
    """127 is what shells say."""
    done = execute(folder, "no-such-program")

    assert (done.code, done.err) == (127, "error: there is no program no-such-program\n")


def test_root_becomes_user_1000() -> None:
    """What runs is nobody special, whoever has started it."""
    if os.geteuid() != 0:
        pytest.skip("platform: only root can become another user")
    done = kos("sandbox", "exec", "--", "id", "-u", cwd=Path("/"))

    assert (done.code, done.out) == (0, "1000\n"), done.err
