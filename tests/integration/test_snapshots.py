"""Snapshots of real agents: made under load, and brought back to life elsewhere."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kagent_sdk.config import load_config
from kagent_sdk.errors import SnapshotError
from kagent_sdk.snapshots.restore import Target, restore
from kagent_sdk.snapshots.verify import verify
from tests.agents import RunningAgent, running_agent
from tests.integration.conftest import copy_blabber, copy_ledger
from tests.integration.restarts import doomed_agent, let_go, submit, wait_working
from tests.integration.vaults import EXPOSE, make_vault, put_vault
from tests.integration.waiting import wait_until

MAX_BYTES = 4 << 30
NOW_S = 1_800_000_000.0
OPENING_SUM = 8 * 1000
SLOW_BYTES = 3 << 30
"""A cache with a hole of this size takes seconds to read, and no room."""


def take(agent: RunningAgent, **order: Any) -> Path:
    """Make a snapshot; return the file."""
    answer = agent.post("/v1/snapshots", order or None)
    assert answer.status == 201, answer.body
    return agent.directory / "runtime" / "snapshots" / str(answer.json()["name"])


def bring_back(snapshot: Path, origin: Path, parent: Path) -> Path:
    """Restore a snapshot into a fresh copy of an agent's code; return the folder."""
    fresh = parent / "fresh" / origin.name
    left = shutil.ignore_patterns("runtime", "logs", "__pycache__")
    shutil.copytree(origin, fresh, ignore=left)
    config = load_config(fresh, environ={})
    restore(snapshot, Target(fresh, config.name or "", config.version, MAX_BYTES), NOW_S)
    return fresh


def state_of(directory: Path) -> dict[str, Any]:
    """Return the state of an agent that does not run."""
    with closing(sqlite3.connect(directory / "runtime" / "journal.db")) as connection:
        return {
            key: json.loads(value)
            for key, value in connection.execute("SELECT key, value FROM state")
        }


def partials(directory: Path) -> list[Path]:
    """Return what an unfinished snapshot has left."""
    return list((directory / "runtime").rglob(".partial-*"))


def test_open_tasks_go_on_in_another_folder(subject: Path, tmp_path: Path) -> None:
    """A node is lost with its disk; what was accepted before the last snapshot runs elsewhere."""
    env = {"AGENT_TASKS__MAX_CONCURRENCY": "2"}
    with running_agent(subject, env=env) as agent:
        submit(agent, "again", "retried_wait_for", {"name": "go"})
        submit(agent, "once", "wait_for", {"name": "go"})
        wait_working(agent, "again")
        wait_working(agent, "once")
        submit(agent, "waits", "echo", {"text": "hé"})
        snapshot = take(agent)
        let_go(agent, "go")

    verdict = verify(snapshot, MAX_BYTES)
    assert verdict.problems == ()
    assert verdict.manifest.open_tasks == 3
    fresh = bring_back(snapshot, subject, tmp_path)
    with running_agent(fresh, env=env) as agent:
        let_go(agent, "go")
        again, once, waits = (
            agent.get(f"/v1/tasks/{name}?wait_s=20").json() for name in ("again", "once", "waits")
        )

        assert (again["state"], again["output"]) == ("completed", 2)
        assert (once["state"], once["error"]["code"]) == ("failed", "interrupted")
        assert (waits["state"], waits["output"], waits["attempt"]) == ("completed", "hé", 1)
        same = agent.post(
            "/v1/tasks", {"id": "waits", "capability": "echo", "input": {"text": "hé"}}
        )
        assert same.json() == waits


def test_a_snapshot_under_load_is_one_moment(tmp_path: Path) -> None:
    """Money is moved all the time; in no snapshot is any of it under way, and no caller waits."""
    ledger = copy_ledger(tmp_path)
    snapshots: list[Path] = []
    failures: list[bytes] = []
    with running_agent(ledger) as agent:
        assert agent.call("open_accounts", {}) == OPENING_SUM
        is_over = threading.Event()

        def move(worker: int) -> None:
            number = 0
            while not is_over.is_set():
                token = f"{worker}-{number}"
                body = {
                    "id": token,
                    "capability": "transfer",
                    "input": {
                        "token": token,
                        "source": number % 8,
                        "target": (number + worker + 1) % 8,
                        "amount": 3,
                        "pause_s": 0,
                    },
                }
                answer = agent.post("/v1/tasks", body)
                if answer.status != 200 or answer.json()["state"] != "completed":
                    failures.append(answer.body)
                number += 1

        movers = [threading.Thread(target=move, args=(worker,)) for worker in range(4)]
        for mover in movers:
            mover.start()
        snapshots += [take(agent) for _ in range(8)]
        is_over.set()
        for mover in movers:
            mover.join()

    assert failures == []
    fresh = ledger
    for number, snapshot in enumerate(snapshots):
        fresh = bring_back(snapshot, ledger, tmp_path / str(number))
        state = state_of(fresh)
        accounts = [value for key, value in state.items() if key.startswith("account/")]

        assert sum(accounts) == OPENING_SUM
        assert "broken/sum" not in state
    with running_agent(fresh) as agent:
        agent.call("count", {"token": "t", "counter": "c", "pause_s": 0, "hold_s": 0})
        tasks = agent.status()["tasks"]
        assert tasks["working"] == tasks["queued"] == 0
    after = state_of(fresh)
    assert sum(value for key, value in after.items() if key.startswith("account/")) == OPENING_SUM
    assert after["counter/c"] == 1


def test_a_secret_keeps_a_snapshot_from_being_made(tmp_path: Path) -> None:
    """A snapshot goes where the vault must not: the caller learns where, and not what."""
    agent_folder = copy_blabber(tmp_path)
    (agent_folder / "config.yaml").write_text(EXPOSE)
    vault = make_vault(7)
    put_vault(agent_folder, vault)
    password = vault["db"]["password"]
    with running_agent(agent_folder, env={"AGENT_TASKS__MAX_CONCURRENCY": "1"}) as agent:
        cache = agent_folder / "runtime" / "cache"
        cache.mkdir(exist_ok=True)
        (cache / "netrc").write_text(f"machine x password {password}")
        answer = agent.post("/v1/snapshots", {"cache": True})

        assert (answer.status, answer.json()["code"]) == (500, "snapshot_failed")
        assert "'netrc' in runtime/cache holds a secret" in answer.json()["detail"]
        assert password not in answer.body.decode()
        assert agent.status()["snapshots"]["last_error"] == answer.json()["detail"]
        assert list((agent_folder / "runtime" / "snapshots").iterdir()) == []
        assert take(agent).exists()
        assert agent.status()["snapshots"]["last_error"] is None


def slow_agent(subject: Path) -> dict[str, str]:
    """Give an agent a cache that takes seconds to read; return its environment."""
    cache = subject / "runtime" / "cache"
    cache.mkdir(parents=True)
    with (cache / "hole").open("wb") as file:
        file.truncate(SLOW_BYTES)
    return {"AGENT_SNAPSHOTS__INCLUDE_CACHE": "true"}


def test_one_snapshot_is_made_at_a_time_and_a_stop_gives_it_up(subject: Path) -> None:
    """A backup must never be what an orchestrator waits for until it kills."""
    with running_agent(subject, env=slow_agent(subject)) as agent:
        begun = agent.post("/v1/snapshots", headers={"Prefer": "respond-async"})
        second = agent.post("/v1/snapshots", {"cache": False})

        assert (begun.status, begun.headers["Location"]) == (202, "/status")
        assert begun.json()["running"] is True
        assert (second.status, second.json()["code"]) == (409, "snapshot_running")
        assert agent.get("/healthz").status == 200
        assert agent.call("echo", {"text": "still here"}) == "still here"
        assert agent.stop() == 0
    assert partials(subject) == []
    assert list((subject / "runtime" / "snapshots").iterdir()) == []


def test_a_host_that_is_killed_leaves_nothing_that_stays(subject: Path) -> None:
    """Half a snapshot is not listed, and the next one clears it away."""
    with doomed_agent(subject, env=slow_agent(subject)) as agent:
        agent.post("/v1/snapshots", headers={"Prefer": "respond-async"})
        wait_until(lambda: bool(partials(subject)))
    assert len(partials(subject)) == 1

    with running_agent(subject) as agent:
        take(agent, cache=False)
    assert partials(subject) == []


def test_the_state_of_an_agent_in_memory_can_be_kept(tmp_path: Path) -> None:
    """`durability: none` is for speed; a snapshot is what then outlives the process."""
    ledger = copy_ledger(tmp_path)
    with running_agent(ledger, env={"AGENT_TASKS__DURABILITY": "none"}) as agent:
        agent.call("open_accounts", {})
        snapshot = take(agent)

    state = state_of(bring_back(snapshot, ledger, tmp_path))
    assert sum(value for key, value in state.items() if key.startswith("account/")) == OPENING_SUM


def test_a_running_agent_is_not_restored_over(subject: Path) -> None:
    """Its host holds the journal."""
    with running_agent(subject) as agent:
        snapshot = take(agent)
        target = Target(subject, "subject", "0.1.0", MAX_BYTES, is_forced=True)
        with pytest.raises(SnapshotError, match="the agent runs"):
            restore(snapshot, target, NOW_S)
        assert agent.call("echo", {"text": "unhurt"}) == "unhurt"
