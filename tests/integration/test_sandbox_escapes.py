"""Whoever writes the agent's code does not get out: every way out is tried, outside and inside.

An attempt counts when it succeeds outside: in a process that nothing confines, of the same user, or of
root where nobody else may. The same function then runs in a child of a real agent's worker.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.escapes.ground import ATTEMPTS, Attempt
from tests.integration.escapes.open_ways import NAMED_OPEN
from tests.integration.escapes.runner import BLOCKED, THROUGH
from tests.integration.readable_python import is_root
from tests.integration.sandbox_stage import Results, Scenario, Stage, running_stage

FEWEST = 60
"""Functions that must succeed outside; attempts on several processes count once."""

CONFIG = """\
sandbox:
  network:
    allow: ["api.example.com:443"]
"""
"""With an exit, so that there are TCP sockets in the worker: without one there is less to attack."""

SCENARIOS = [
    Scenario(starter, isolation)
    for starter in ("root", "user")
    for isolation in ("process", "bwrap")
]

ABSENT = ("[Errno 2]", "[Errno 3]")
"""ENOENT and ESRCH: refusals only where there is another view of files or processes."""


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_there_is_no_way_out_but_the_named_ones(
    scenario: Scenario, readable_python: Path, request: pytest.FixtureRequest
) -> None:
    """An operator relies on the threat model: what it does not name is closed."""
    if scenario.starter == "root" and not is_root():
        pytest.skip("platform: these tests were not started by root")
    with running_stage(readable_python, scenario, CONFIG) as stage:
        outside = run_outside(stage)
        assert stage.agent.call("identity")["user"] != 0
        inside = stage.run_inside(ATTEMPTS, stage.ground())
        assert stage.agent.get("/healthz").status == 200
        code = stage.agent.stop()
    uncounted = [ATTEMPTS[name] for name, (outcome, _) in outside.items() if outcome != THROUGH]
    tell(request, scenario, uncounted, outside)

    assert code == 0
    assert not [each.name for each in uncounted if not may_fail_outside(each)], "outside"
    assert len({name.partition("@")[0] for name in ATTEMPTS}) - len(uncounted) >= FEWEST
    assert find_wrong(inside, scenario, {each.name for each in uncounted}) == {}


def test_a_program_that_is_started_inside_gets_no_further(readable_python: Path) -> None:
    """What a task starts has the same walls around it: exec(2) takes nothing away."""
    scenario = Scenario("user", "process")
    # The worker that started it may be signalled: it is in the same walls.
    names = [name for name in ATTEMPTS if not name.endswith("@sibling")]
    with running_stage(readable_python, scenario, CONFIG) as stage:
        found = stage.run_inside(names, stage.ground(), capability="try_in_program")
        code = stage.agent.stop()

    assert code == 0
    assert len(found) == len(names)
    assert find_wrong(found, scenario, set(NAMED_OPEN)) == {}


def run_outside(stage: Stage) -> Results:
    """Run every attempt where nothing confines it."""
    ground = stage.ground()
    found: Results = {}
    for as_root in (False, True) if is_root() else (False,):
        names = [each.name for each in ATTEMPTS.values() if each.needs_root is as_root]
        found |= stage.run_outside(names, ground, as_root=as_root)
    return found


def may_fail_outside(attempt: Attempt) -> bool:
    """Tell whether an attempt may fail without being a fault of its own."""
    return bool(attempt.lacking) or attempt.is_guarded or (attempt.needs_root and not is_root())


def find_wrong(inside: Results, scenario: Scenario, uncounted: set[str]) -> dict[str, str]:
    """Return what got through and is not named, or is named and did not; by name."""
    wrong = {}
    for name, (outcome, reason) in inside.items():
        isolations, why = NAMED_OPEN.get(name, (frozenset(), ""))
        is_absent = scenario.isolation == "process" and any(each in reason for each in ABSENT)
        if scenario.isolation in isolations:
            if outcome != THROUGH and name not in uncounted:
                wrong[name] = f"named open ({why}), but {outcome}: {reason}"
        elif outcome != BLOCKED or is_absent:
            wrong[name] = f"{outcome}: {reason}"
    return wrong


def tell(
    request: pytest.FixtureRequest,
    scenario: Scenario,
    uncounted: list[Attempt],
    outside: Results,
) -> None:
    """Name the attempts that do not count, and why, in the output of the run."""
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return
    reporter.write_line(f"\n{scenario}: {len(ATTEMPTS)} attempts, not counted for failing outside:")
    for attempt in uncounted:
        if not attempt.is_guarded:
            why = attempt.lacking or "UNEXPECTED"
            reporter.write_line(f"  {attempt.name}: {outside[attempt.name][1]} ({why})")
    guarded = sum(attempt.is_guarded for attempt in uncounted)
    reporter.write_line(f"  and {guarded} on the host or a worker, which guard themselves")
