"""``scripts/demo``: what a newcomer runs first."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from sample import write_sample

from tests.agents import REPOSITORY


@pytest.mark.timeout(600)
def test_the_demo_shows_an_agent_at_work_and_leaves_nothing(tmp_path: Path) -> None:
    """Without a terminal, on logs that are named; its first run installs what it needs."""
    write_sample(tmp_path / "logs", 2000)

    demo = subprocess.run(
        [REPOSITORY / "scripts" / "demo", tmp_path / "logs"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )

    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "\x1b" not in demo.stdout
    for part in ("LOG TRIAGE", "Too many open files", "KeyError: 'XAU'", "NEW", "exit code 0"):
        assert part in demo.stdout
    assert not (REPOSITORY / "examples" / "log_triage" / "runtime" / "host.json").exists()


def test_the_demo_refuses_a_path_that_does_not_exist(tmp_path: Path) -> None:
    """Before it installs anything."""
    demo = subprocess.run(
        [REPOSITORY / "scripts" / "demo", tmp_path / "nothing"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert demo.returncode == 2
    assert "does not exist" in demo.stderr
