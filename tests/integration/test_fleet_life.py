"""`kos-agent up`: agents come up, are kept up, and go down, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from tests.integration.meshes import running_mesh, start_mesh, write_agent
from tests.integration.waiting import wait_until

ONE = "agents: {steady: {path: steady}}\n"
TWO = "agents: {steady: {path: steady, replicas: 2}}\n"


def test_replicas_come_up_are_scaled_and_restarted_and_all_go_down(tmp_path: Path) -> None:
    """The whole of a mesh is one command, and Ctrl-C leaves no process behind."""
    write_agent(tmp_path / "steady")
    with running_mesh(tmp_path, TWO) as mesh:
        first = mesh.wait_ready(replicas=2)
        words = [mesh.call("word", number) for number in (0, 1)]
        fewer = mesh.request("POST", "/v1/fleet/steady/scale", {"replicas": 1})
        gone = psutil.pid_exists(first[1]["pid"])
        before = mesh.call("count")
        again = mesh.request("POST", "/v1/fleet/steady/restart")
        after = mesh.call("count")
        second = mesh.wait_ready()
        wrong = mesh.request("POST", "/v1/fleet/steady/scale", {"replicas": -1})
        unknown = mesh.request("GET", "/v1/fleet/stedy")
        log = mesh.request("GET", "/v1/fleet/steady/logs?lines=3")

        assert words == ["first", "first"]
        assert fewer.status == again.status == 200, (fewer, again)
        assert not gone
        assert second[0]["pid"] != first[0]["pid"]
        assert (before, after) == (1, 2)
        assert wrong.status == 422
        assert unknown.json()["nearest"] == ["steady"]
        assert len([json.loads(line) for line in log.body.splitlines()]) == 3


def test_a_killed_replica_is_started_again_with_its_state_by_the_one_orchestrator(
    tmp_path: Path,
) -> None:
    """An agent that dies at night works in the morning, and two orchestrators would start it twice."""
    write_agent(tmp_path / "steady")
    with running_mesh(tmp_path, ONE) as mesh:
        (first,) = mesh.wait_ready()
        other = start_mesh(tmp_path, marker=mesh.marker)
        assert mesh.call("count") == 1
        os.kill(first["pid"], signal.SIGKILL)
        wait_until(lambda: bool(mesh.told("replica_waiting", agent="steady")))
        (second,) = mesh.wait_ready()
        code = other.process.wait(30)

        assert second["pid"] != first["pid"]
        assert second["restarts"] == 1
        assert "signal 9" in mesh.told("replica_waiting")[0]["reason"]
        log = mesh.data / "orchestrator.log"  # what no terminal shows any more
        wait_until(lambda: '"event":"replica_waiting"' in log.read_text())
        assert mesh.call("count") == 2
        assert code == 3, other.text
        assert "another orchestrator" in other.text


def test_the_next_orchestrator_adopts_what_runs_and_starts_what_does_not(tmp_path: Path) -> None:
    """The death of the orchestrator is nothing that an agent notices, and none runs twice."""
    write_agent(tmp_path / "steady")
    with running_mesh(tmp_path, TWO) as mesh:
        before = mesh.wait_ready(replicas=2)
        url = mesh.url
        mesh.kill_orchestrator()
        assert psutil.pid_exists(before[0]["pid"])
        os.kill(before[1]["pid"], signal.SIGKILL)
        wait_until(lambda: not psutil.pid_exists(before[1]["pid"]) or _is_zombie(before[1]["pid"]))
        write_agent(tmp_path / "steady", "second")
        following = start_mesh(tmp_path, marker=mesh.marker)
        mesh.process, mesh.output = following.process, following.output
        after = mesh.wait_ready(replicas=2)

        assert mesh.url == url  # where the agents look for it
        assert after[0]["pid"] == before[0]["pid"]
        assert after[1]["pid"] != before[1]["pid"]
        assert mesh.told("replica_adopted", replica=0)
        # What was edited meanwhile is an update, which nobody has asked for.
        assert mesh.told("release_differs")
        assert [mesh.call("word", number) for number in (0, 1)] == ["first", "first"]
        os.kill(after[0]["pid"], signal.SIGKILL)
        wait_until(lambda: bool(mesh.told("replica_waiting", replica=0)))
        mesh.wait_ready(replicas=2)


def test_a_host_that_nobody_has_written_down_ends_with_the_others(tmp_path: Path) -> None:
    """An orchestrator that dies just when it has started an agent leaves one that the next does not see."""
    write_agent(tmp_path / "steady")
    with running_mesh(tmp_path, ONE) as mesh:
        (before,) = mesh.wait_ready()
        mesh.kill_orchestrator()
        (mesh.data / "fleet.json").unlink()
        note = mesh.data / "agents" / "steady" / "0" / "runtime" / "host.json"
        aside = note.rename(tmp_path / "host.json")
        following = start_mesh(tmp_path, marker=mesh.marker)
        mesh.process, mesh.output = following.process, following.output
        wait_until(lambda: bool(mesh.told("replica_waiting")))
        aside.rename(note)  # now it has come so far as to write it

        assert psutil.pid_exists(before["pid"])
        assert mesh.stop() == 0
        mesh.assert_nothing_left()


def test_agents_that_look_for_their_orchestrator_elsewhere_are_started_again(
    tmp_path: Path,
) -> None:
    """An adopted agent without a link would be ready, and never get a task."""
    write_agent(tmp_path / "steady")
    with running_mesh(tmp_path, ONE) as mesh:
        (before,) = mesh.wait_ready()
        port = urlsplit(mesh.url).port
        mesh.kill_orchestrator()
        assert port is not None
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", port))
            taken.listen()
            following = start_mesh(tmp_path, marker=mesh.marker)
            mesh.process, mesh.output = following.process, following.output
            (after,) = mesh.wait_ready()

        assert urlsplit(mesh.url).port != port
        assert after["pid"] != before["pid"]


def test_an_agent_that_cannot_start_is_shown_and_does_not_keep_the_others(tmp_path: Path) -> None:
    """One broken agent of many is a line with its reason."""
    write_agent(tmp_path / "steady")
    broken = write_agent(tmp_path / "broken")
    (broken / "entrypoint.py").write_text("raise RuntimeError('no such luck')\n")
    text = (
        "agents:\n  steady: {path: steady}\n"
        "  broken: {path: broken, env: {AGENT_WORKER__CRASH_LIMIT: 1}}\n"
    )
    with running_mesh(tmp_path, text) as mesh:
        mesh.wait_ready()
        wait_until(lambda: bool(mesh.told("replica_waiting", agent="broken")))
        wait_until(lambda: mesh.fleet("broken")["replicas"][0]["retry_in_s"] is not None)

        assert "exit code 75" in mesh.told("replica_waiting", agent="broken")[0]["reason"]
        assert mesh.fleet("broken")["ready"] == 0


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
