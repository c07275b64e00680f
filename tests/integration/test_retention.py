"""What the journal forgets, and the room that it gives back."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from kagent_sdk.journal.pruning import SPARE_SHARE
from tests.agents import running_agent
from tests.integration.mayhem import connect_reader
from tests.integration.restarts import doomed_agent, run
from tests.integration.waiting import wait_until

MEGABYTE = 1_000_000
TASKS = 10
"""Each leaves 2 MB."""


def test_the_journal_shrinks_when_results_are_forgotten(subject: Path) -> None:
    """One day with large results does not take the disk away for ever, kill or no kill."""
    journal = subject / "runtime" / "journal.db"
    with running_agent(subject) as agent:
        for number in range(TASKS):
            run(agent, f"big-{number}", "mark_big", {"token": f"big-{number}", "pause_s": 0})
    full = journal.stat().st_size

    with doomed_agent(subject, env={"AGENT_TASKS__RETENTION_S": "0"}) as agent:
        wait_until(lambda: agent.get("/v1/tasks").json()["tasks"] == [])
    with running_agent(subject):
        wait_until(lambda: _is_shrunk(journal))

    assert full > TASKS * 2 * MEGABYTE
    assert journal.stat().st_size < MEGABYTE


def _is_shrunk(journal: Path) -> bool:
    """Whether no more of the file is unused than is kept for the next tasks."""
    with closing(connect_reader(journal)) as connection:
        (unused,) = connection.execute("PRAGMA freelist_count").fetchone()
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        return bool((unused - 1) * SPARE_SHARE < pages)
