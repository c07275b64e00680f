"""Whoever writes the agent's code does not get out of its container, nor out of the sandbox in it.

The same attempts as in tests/integration, as they are: there each has to succeed outside. Here each
is made twice, by a process of the agent's user that the container alone confines, and by the worker.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import pytest

from tests.images.breakout import (
    FIELD,
    VARIABLES,
    build_breakout,
    put_secret,
    running_breakout,
)
from tests.images.lockdown import Launcher
from tests.images.podman import Podman
from tests.integration.escapes.ground import ATTEMPTS
from tests.integration.escapes.open_ways import NAMED_OPEN
from tests.integration.escapes.runner import BLOCKED, BROKEN, THROUGH
from tests.integration.sandbox_stage import Results, lay_out_field

FEWEST = 80
"""Attempts that the container lets through and the worker's sandbox must block."""

CLOSED_HERE = {
    "shut_agents_configuration": (BLOCKED, "Read-only file system"),
    "run_program_by_loader": (BROKEN, "returned non-zero exit status 127"),
    "load_library_from_scratch_folder": (BROKEN, "failed to map segment from shared object"),
}
"""What is named open and a container closes: its root is read-only, what can be written is noexec."""

SAYS_NOTHING = {"signal_its_group@host"}
"""The host's group is 1 in its container, and kill(-1) is to all that may be signalled (kill(2))."""


@pytest.fixture
def breakout(
    podman: Podman, agent_base: str, agent_folder: Path, unique: str, tmp_path: Path
) -> Launcher:
    """Return what starts the agent whose code is the attempts."""
    image = f"localhost/{unique}/breakout"
    source = build_breakout(podman, tmp_path / "source", agent_base, image)
    put_secret(agent_folder / "secrets" / "vault.json")
    return Launcher(podman, image, source, agent_folder, unique)


def test_no_attempt_gets_out(
    breakout: Launcher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is blocked on a desk is blocked in a container too, and a container closes more."""
    field = lay_out_field(tmp_path / "field")
    mount = f"--volume={field}:{FIELD}:rw,noexec,nosuid,nodev"
    container = breakout.start(mount, env=VARIABLES)
    with running_breakout(container, breakout.folder, field) as stage:
        beside = stage.run_beside(ATTEMPTS, stage.ground())
        inside = stage.run_inside(ATTEMPTS, stage.ground())
        stage.container.exec("kos-agent", "health")
        code = stage.container.stop()
    telling = ATTEMPTS.keys() - SAYS_NOTHING
    tally = Counter((beside[name][0], inside[name][0]) for name in telling)
    with capsys.disabled():
        sys.stdout.write(describe(tally))

    assert code == 0
    assert find_wrong(inside) == {}
    assert tally[THROUGH, BLOCKED] >= FEWEST


def find_wrong(
    inside: Results, unsaid: Collection[str] = SAYS_NOTHING
) -> dict[str, tuple[str, str]]:
    """Return what got through and is not named, or is named and did not; by name."""
    wrong = {}
    for name, (outcome, reason) in inside.items():
        isolations, _ = NAMED_OPEN.get(name, (frozenset[str](), ""))
        wanted, words = (THROUGH, "") if "process" in isolations else (BLOCKED, "")
        wanted, words = CLOSED_HERE.get(name, (wanted, words))
        if name not in unsaid and (outcome != wanted or words not in reason):
            wrong[name] = (outcome, reason)
    return wrong


def describe(tally: Counter[tuple[str, str]]) -> str:
    """Count the attempts in a line, for the output of the run."""
    kept = tally[BLOCKED, BLOCKED] + tally[BROKEN, BROKEN]
    return (
        f"\n{tally.total()} attempts in a container: {kept} blocked by the container, "
        f"{tally[THROUGH, BLOCKED]} more by the worker's sandbox, {tally[THROUGH, THROUGH]} open by "
        "the threat model\n"
    )
