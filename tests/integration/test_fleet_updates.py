"""Updates and snapshots of a fleet: a bad release replaces nothing, a lost folder comes back."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.integration.meshes import running_mesh, write_agent
from tests.integration.waiting import wait_until

TWO = "agents: {steady: {path: steady, replicas: 2, start_timeout_s: 20}}\n"
UNTRIED = "agents: {steady: {path: steady, start_timeout_s: 20, trial: false}}\n"


def test_an_update_replaces_one_replica_after_the_other_and_keeps_their_state(
    tmp_path: Path,
) -> None:
    """What the author edits reaches the agents when it is asked for, with nothing forgotten."""
    folder = write_agent(tmp_path / "steady")
    with running_mesh(tmp_path, TWO) as mesh:
        before = mesh.wait_ready(replicas=2)
        assert [mesh.call("count", number) for number in (0, 1)] == [1, 1]
        write_agent(folder, "second")
        assert mesh.call("word") == "first"
        done = mesh.request("POST", "/v1/fleet/steady/update")
        after = mesh.wait_ready(replicas=2)
        unchanged = mesh.request("POST", "/v1/fleet/steady/update")

        assert done.status == 200, (done.body, mesh.text)
        assert done.json()["previous"] == before[0]["release"]
        assert {one["release"] for one in after} == {done.json()["release"]}
        assert [mesh.call("word", number) for number in (0, 1)] == ["second", "second"]
        assert [mesh.call("count", number) for number in (0, 1)] == [2, 2]
        assert unchanged.json()["operation"]["unchanged"] is True
        # The second was stopped when the first was ready again, and not before.
        order = [
            (one["event"], one["replica"])
            for one in mesh.news
            if one["event"] in {"replica_stopping", "replica_ready"}
        ]
        assert order[2:6] == [
            ("replica_stopping", 0),
            ("replica_ready", 0),
            ("replica_stopping", 1),
            ("replica_ready", 1),
        ]


def test_a_bad_release_that_is_tried_first_replaces_nothing(tmp_path: Path) -> None:
    """A typo in the entrypoint costs nobody a running agent."""
    folder = write_agent(tmp_path / "steady")
    with running_mesh(tmp_path, TWO) as mesh:
        before = mesh.wait_ready(replicas=2)
        (folder / "entrypoint.py").write_text("import nothing_of_that_name\n")
        bad = mesh.request("POST", "/v1/fleet/steady/update")
        (folder / "config.yaml").write_text("nmae: steady\n")
        worse = mesh.request("POST", "/v1/fleet/steady/update")
        after = mesh.wait_ready(replicas=2)

        assert bad.status == 409
        assert bad.json()["code"] == "update_failed"
        assert "ended with exit code" in bad.json()["detail"]
        assert "nothing was replaced" in bad.json()["detail"]
        assert "did you mean name?" in worse.json()["detail"]
        assert [one["pid"] for one in after] == [one["pid"] for one in before]
        assert not (mesh.data / "agents" / "steady" / "trial").exists()


def test_an_agent_that_could_not_be_started_is_started_by_an_update(tmp_path: Path) -> None:
    """Whoever has mended what was wrong should not have to stop the other agents."""
    folder = write_agent(tmp_path / "steady")
    (folder / "secrets").mkdir()
    vault = folder / "secrets" / "vault.json"
    vault.write_text("{}")
    vault.chmod(0o644)
    with running_mesh(tmp_path, "agents: {steady: {path: steady}}\n") as mesh:
        wait_until(lambda: bool(mesh.told("replica_waiting")))
        write_agent(folder, "second")
        vault.chmod(0o600)
        done = mesh.request("POST", "/v1/fleet/steady/update")
        mesh.wait_ready()

        assert "open to every user" in mesh.told("replica_waiting")[0]["reason"]
        assert done.status == 200, done.body
        assert mesh.call("word") == "second"


def test_a_bad_release_that_was_not_tried_is_taken_back(tmp_path: Path) -> None:
    """Even where only the real start shows it, the agent is back with the release before."""
    folder = write_agent(tmp_path / "steady")
    with running_mesh(tmp_path, UNTRIED) as mesh:
        mesh.wait_ready()
        assert mesh.call("count") == 1
        (folder / "entrypoint.py").write_text("import nothing_of_that_name\n")
        bad = mesh.request("POST", "/v1/fleet/steady/update")
        mesh.wait_ready()

        assert bad.status == 409
        assert "went back to" in bad.json()["detail"]
        assert mesh.call("word") == "first"
        assert mesh.call("count") == 2


def test_a_replica_whose_folder_is_lost_begins_with_its_latest_snapshot(tmp_path: Path) -> None:
    """A disk that was tidied up too well is no end of an agent's memory."""
    write_agent(tmp_path / "steady")
    with running_mesh(tmp_path, "agents: {steady: {path: steady, snapshot_every_s: 1}}\n") as mesh:
        mesh.wait_ready()
        assert [mesh.call("count") for _ in range(3)] == [1, 2, 3]
        made = mesh.request("POST", "/v1/fleet/steady/snapshot")
        assert made.json()["snapshots"][0]["snapshot"], made.body
        wait_until(lambda: len(mesh.told("snapshot_made")) >= 2)
        mesh.request("POST", "/v1/fleet/steady/scale", {"replicas": 0})
        shutil.rmtree(mesh.data / "agents" / "steady" / "0")
        mesh.request("POST", "/v1/fleet/steady/scale", {"replicas": 1})
        mesh.wait_ready()

        assert mesh.told("snapshot_restored")
        assert mesh.call("count") == 4
