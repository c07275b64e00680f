"""``kos-agent snapshot`` as a person types it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.acceptance.cli import Result, kos, show
from tests.agents import REPOSITORY, running_agent

SUBJECT = REPOSITORY / "tests" / "integration" / "subject"


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run an agent, make snapshots from the command line, and stop it; return its folder."""
    folder = tmp_path_factory.mktemp("snapshots") / "subject"
    shutil.copytree(SUBJECT, folder, ignore=shutil.ignore_patterns("__pycache__"))
    with running_agent(folder) as agent:
        agent.post(
            "/v1/tasks",
            {"id": "t1", "capability": "retried_wait_for", "input": {"name": "go"}},
            headers={"Prefer": "respond-async"},
        )
        first = kos("snapshot", "create", "-C", folder)
        assert first.code == 0, first.err
        assert first.out.strip() in {path.name for path in snapshots_of(folder)}
        (folder / "runtime" / "cache").mkdir(exist_ok=True)
        (folder / "runtime" / "cache" / "model").write_bytes(b"weights")
        second = kos("snapshot", "create", "--cache", "--json", "--url", agent.url)
        assert second.code == 0, second.err
        assert [one["name"] for one in second.json()["manifest"]["members"]][-1] == "cache/model"
        refused = kos("snapshot", "restore", first.out.strip(), folder, "--force")
        assert (refused.code, refused.err) == (
            1,
            "error: the agent runs; stop it first (kos-agent status shows its process id)\n",
        )
        (folder / "runtime" / "data" / "go").touch()
    return folder


def snapshots_of(folder: Path) -> list[Path]:
    """Return the snapshots of an agent, the oldest first."""
    return sorted(
        (folder / "runtime" / "snapshots").iterdir(), key=lambda path: path.stat().st_mtime
    )


def error_of(result: Result) -> str:
    """Return the one error that a command tells as JSON."""
    return str(json.loads(result.err)["error"]["message"])


def test_the_list_has_the_newest_first(stopped: Path) -> None:
    """The one that is wanted is mostly the last."""
    names = [path.name for path in snapshots_of(stopped)]
    listed = kos("snapshot", "list", "-C", stopped, "--json").json()["snapshots"]
    shown = kos("snapshot", "list", cwd=stopped)

    assert {one["name"] for one in listed} == set(names)
    assert all(one["size_bytes"] > 100 for one in listed)
    assert all(name in shown.out for name in names)
    assert shown.out.splitlines()[0].split() == ["SNAPSHOT", "AGENT", "AGE", "SIZE"]


def test_an_agent_without_snapshots_is_told_how_to_make_one(tmp_path: Path) -> None:
    """An empty table would be no answer."""
    result = kos("snapshot", "list", cwd=tmp_path)

    assert (result.code, result.out) == (0, "")
    assert result.err == "no snapshots; make one with: kos-agent snapshot create\n"
    assert kos("snapshot", "list", "--json", cwd=tmp_path).json() == {"snapshots": []}


def test_inspect_shows_what_is_in_it(stopped: Path) -> None:
    """Before it is brought anywhere."""
    path = snapshots_of(stopped)[-1]
    by_name = kos("snapshot", "inspect", path.name, "-C", stopped)
    by_path = kos("snapshot", "inspect", path, "--json").json()

    assert by_name.code == 0
    for text in ("subject 0.1.0", "open tasks", "cache/model", "kagent-sdk"):
        assert text in by_name.out
    assert by_path["manifest"]["open_tasks"] == 1
    assert (by_path["name"], by_path["size_bytes"]) == (path.name, path.stat().st_size)
    assert "cache/model" in show("snapshot", "inspect", path).out


def test_verify_answers_by_its_exit_code(stopped: Path, tmp_path: Path) -> None:
    """Backups that nobody checks are none; a cron job checks by the exit code."""
    path = snapshots_of(stopped)[0]
    damaged = tmp_path / path.name
    damaged.write_bytes(path.read_bytes()[:-10])

    assert kos("snapshot", "verify", path).out == f"{path.name}  whole  2 members\n"
    assert kos("snapshot", "verify", path, "--json").json() == {
        "name": path.name,
        "ok": True,
        "problems": [],
    }
    result = kos("snapshot", "verify", damaged)
    assert result.code == 1
    assert result.err.startswith("error: the snapshot is damaged: ")
    assert "whole" in show("snapshot", "verify", path).out


@pytest.mark.parametrize(
    ("wanted", "code", "said"),
    [
        ("nothing.tar.zst", 2, "there is no snapshot 'nothing.tar.zst'; see what there is"),
        ("x/y", 2, "there is no snapshot 'x/y'"),
        ("s3://bucket/x", 2, "not the address of a snapshot"),
        ("ftp://h/subject-20260131T235959Z-0a1b2c3d.tar.zst", 1, "known are s3, gs, az and nats"),
        ("config.yaml", 1, "the file is no snapshot"),
    ],
)
def test_what_is_no_snapshot_is_told(tmp_path: Path, wanted: str, code: int, said: str) -> None:
    """One line, with the way out."""
    (tmp_path / "config.yaml").write_text("name: ada\n")
    result = kos("snapshot", "verify", wanted, "--json", cwd=tmp_path)

    assert result.code == code
    assert said in error_of(result)


def test_a_misspelt_name_finds_the_nearest(stopped: Path) -> None:
    """Nobody types 40 characters without a mistake."""
    name = snapshots_of(stopped)[0].name
    result = kos("snapshot", "inspect", f"{name[:-10]}.tar.zst", "-C", stopped)

    assert result.code == 2
    assert "did you mean 'subject-" in result.err


def test_restore_brings_it_to_life(stopped: Path, tmp_path: Path) -> None:
    """From the command line alone: another folder, the same agent."""
    path = snapshots_of(stopped)[-1]
    fresh = tmp_path / "subject"
    shutil.copytree(SUBJECT, fresh, ignore=shutil.ignore_patterns("__pycache__"))
    result = kos("snapshot", "restore", path, fresh)

    assert result.code == 0, result.err
    assert result.out == f"restored 0 keys and 1 open task into {fresh}\n"
    assert result.err == f"start it with: kos-agent run {fresh}\n"
    assert (fresh / "runtime" / "cache" / "model").read_bytes() == b"weights"
    with running_agent(fresh) as agent:
        (fresh / "runtime" / "data" / "go").touch()
        assert agent.get("/v1/tasks/t1?wait_s=20").json()["output"] == 2

    again = kos("snapshot", "restore", path, fresh)
    assert again.code == 1
    assert "a journal already" in again.err
    forced = kos("snapshot", "restore", path, fresh, "--force", "--json").json()
    assert any(name.startswith("journal.db.before-restore-") for name in forced["kept"])


def test_another_agents_snapshot_needs_force(stopped: Path, tmp_path: Path) -> None:
    """The error says whose it is."""
    path = snapshots_of(stopped)[0]
    (tmp_path / "other").mkdir()
    result = kos("snapshot", "restore", path, tmp_path / "other", "--json")

    assert result.code == 1
    assert "is of the agent 'subject', and this one is 'other'" in error_of(result)
    assert list((tmp_path / "other").iterdir()) == []
    assert kos("snapshot", "restore", path, tmp_path / "other", "--force").code == 0


def test_a_damaged_one_is_refused_member_by_member(stopped: Path, tmp_path: Path) -> None:
    """Each on a line of its own."""
    from tests.unit.snapshots.samples import pack, unpack  # noqa: PLC0415 - only here

    path = snapshots_of(stopped)[-1]
    tar = unpack(path)
    damaged = tmp_path / "damaged.tar.zst"
    damaged.write_bytes(
        pack(tar.replace(b"weights", b"weighty").replace(b'"id":"t1"', b'"id":"t2"'))
    )
    (tmp_path / "subject").mkdir()
    result = kos("snapshot", "restore", damaged, tmp_path / "subject")

    assert result.code == 1
    lines = result.err.splitlines()
    assert lines[0] == "error: the snapshot is damaged; nothing was restored"
    assert [line.strip().partition(":")[0] for line in lines[1:]] == ["tasks.jsonl", "cache/model"]
    assert list((tmp_path / "subject").iterdir()) == []
    shown = kos("snapshot", "verify", damaged)
    assert shown.code == 1
    assert "damaged" in shown.out
    problems = kos("snapshot", "verify", damaged, "--json").json()["problems"]
    assert [problem.partition(":")[0] for problem in problems] == ["tasks.jsonl", "cache/model"]


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Not made: a misspelt one would be an agent that nobody runs."""
    result = kos("snapshot", "list", "-C", tmp_path / "nothing")

    assert result.code == 2
    assert "there is no folder" in result.err


def test_every_part_explains_itself() -> None:
    """Without a manual."""
    assert "restore" in kos("snapshot").out
    for name in ("create", "list", "inspect", "verify", "restore"):
        assert kos("snapshot", name, "--help").out.startswith(f"Usage: kos-agent snapshot {name}")
