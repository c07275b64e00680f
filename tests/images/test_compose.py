"""The generated compose file under podman-compose: one way out, peers on the mesh, nothing else."""

from __future__ import annotations

import pytest

from tests.images.sites import PORT, Site, address_of
from tests.images.test_limits import (
    BUSY_S,
    LIMIT_BYTES,
    assert_memory_is_told,
    one_core_is_used,
)
from tests.images.test_lockdown import CONNECT, FINE
from tests.integration.waiting import wait_until


def test_nothing_leaves_but_through_the_egress_container(site: Site) -> None:
    """The allow-list is held by two proxies and by the lack of any route; peers are reached directly."""
    with site.running(has_neighbours=True) as project:
        outside = address_of(project.outside)
        allowed = project.agent.call("fetch", f"url=http://dest.example.com:{PORT}/")
        peer = project.agent.call("fetch", f"url=http://peer.internal:{PORT}/")
        refused = project.agent.call("fetch", "url=http://dest.example.com:8081/")
        past = project.agent.call("reach", f"host={outside}", f"port:={PORT}")
        where = ("python3", "-c", CONNECT, outside, str(PORT))
        free = project.egress.exec(*where)
        held = project.agent.exec(*where, check=False)
        through = [record["destination"] for record in project.egress.records("egress_closed")]

    assert (allowed, peer) == ("page", "page")
    assert refused == "403 not_listed"
    assert past.startswith("PermissionError")
    assert free.stdout.strip() == "reached"
    assert held.stderr.strip() == "blocked: [Errno 101] Network is unreachable"
    assert through == [f"dest.example.com:{PORT}"]


@pytest.mark.parametrize("storage", ["volume", "ephemeral"])
def test_every_control_is_in_force(site: Site, storage: str) -> None:
    """An operator looks at one place, and it is green: no finding has to be explained away."""
    with site.running(f"storage={storage}") as project:
        wait_until(lambda: bool(project.agent.status()["sandbox"]["controls"]))
        sandbox = project.agent.status()["sandbox"]
        mounts = project.agent.exec("cat", "/proc/mounts").stdout

    loose = {
        each["control"]: each["actual"]
        for each in sandbox["controls"]
        if each["verdict"] not in FINE
    }
    options = {line.split()[1]: line.split()[3].split(",") for line in mounts.splitlines()}

    assert loose == {}
    assert sandbox["holds"]
    for folder in ("/agent/runtime", "/agent/logs", "/agent/secrets", "/tmp", "/run"):  # noqa: S108
        # podman-compose 1.6 passes no noexec on for a named volume.
        is_volume = storage == "volume" and folder in {"/agent/runtime", "/agent/logs"}
        wanted = {"nosuid", "nodev"} if is_volume else {"noexec", "nosuid", "nodev"}
        assert wanted <= set(options[folder]), folder
    assert [options[folder][0] for folder in ("/agent/runtime", "/agent/secrets", "/tmp")] == [  # noqa: S108
        *("rw", "ro", "ro"),
    ]


def test_both_containers_end_in_order(site: Site) -> None:
    """Exit code 0 is what tells an engine not to start them again."""
    with site.running() as project:
        project.compose("stop")
        codes = project.agent.exit_code, project.egress.exit_code
        last = project.egress.records("egress_stopped")

    assert codes == (0, 0)
    assert len(last) == 1


def test_memory_and_cores_end_at_the_limit(trial_site: Site) -> None:
    """The file's limits are the kernel's, and what it did is found out by the next boot."""
    env = {
        "AGENT_LIMITS__MEMORY_SOFT_RATIO": "1.0",  # else the task is refused in time
        "AGENT_WORKER__CRASH_LIMIT": "1",
        "AGENT_WORKER__STABLE_S": "1000",
    }
    with trial_site.running(environment=env) as project:
        agent = project.agent
        agent.exec(
            "kos-agent", "call", "eat", f"limit_bytes:={2 * LIMIT_BYTES}", "--async", check=False
        )
        wait_until(lambda: len(agent.records("host_started")) == 2)
        wait_until(lambda: agent.exec("kos-agent", "health", check=False).returncode == 0)
        last_exit = agent.status()["last_exit"]
        words = ("kind=threads", f"seconds:={BUSY_S}")
        wait_until(lambda: agent.status()["workers"]["ready"] == 1)
        has_one_core = one_core_is_used(lambda: agent.call("spin", *words))

    assert has_one_core
    assert_memory_is_told(last_exit, is_host_killed=last_exit["host"]["cause"] == "killed")
