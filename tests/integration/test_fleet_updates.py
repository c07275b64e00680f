"""Updates of a fleet: a bad release replaces nothing."""

from __future__ import annotations

from pathlib import Path

from tests.integration.meshes import running_mesh, write_agent
from tests.integration.waiting import wait_until

TWO = "agents: {steady: {path: steady, replicas: 2, start_timeout_s: 20}}\n"
UNTRIED = "agents: {steady: {path: steady, start_timeout_s: 20, trial: false}}\n"


def test_an_update_replaces_one_replica_after_the_other_and_a_bad_release_none(
    tmp_path: Path,
) -> None:
    """What the author edits reaches the agents when it is asked for, and a typo costs nobody one."""
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
        (folder / "entrypoint.py").write_text("import nothing_of_that_name\n")
        bad = mesh.request("POST", "/v1/fleet/steady/update")
        (folder / "config.yaml").write_text("nmae: steady\n")
        worse = mesh.request("POST", "/v1/fleet/steady/update")
        still = mesh.wait_ready(replicas=2)

        assert bad.status == 409
        assert bad.json()["code"] == "update_failed"
        assert "ended with exit code" in bad.json()["detail"]
        assert "nothing was replaced" in bad.json()["detail"]
        assert "did you mean name?" in worse.json()["detail"]
        assert [one["pid"] for one in still] == [one["pid"] for one in after]
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
