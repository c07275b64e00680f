"""An agent and an orchestrator on two hosts, and the network between them falls apart."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.agents import RunningAgent, start_agent
from tests.integration.conftest import copy_subject
from tests.integration.mesh_processes import (
    RunningOrchestrator,
    link_environment,
    prepare_orchestrator,
    running,
)
from tests.integration.netns import Network, Place, make_network
from tests.integration.waiting import wait_until

FINAL = ("completed", "failed", "canceled")
DELIVERIES = ("push", pytest.param("pull", marks=pytest.mark.long))


@dataclass(frozen=True, slots=True)
class Hosts:
    """An orchestrator on the right, and where agents are started.

    Attributes:
        tokens: files with the tokens of agents, operators, and of the control planes.
    """

    folder: Path
    network: Network
    orchestrator: RunningOrchestrator
    tokens: dict[str, Path]

    @contextmanager
    def agent(self, name: str, place: Place, delivery: str) -> Iterator[RunningAgent]:
        """Run an agent on one of the hosts; yield it when the orchestrator knows it."""
        parent = self.folder / name
        parent.mkdir()
        known = self.orchestrator.count_replicas()
        env = {
            **link_environment(self.orchestrator.url, delivery),
            "AGENT_HTTP__HOST": place.address,
            "AGENT_TOKEN_FILE": str(self.tokens["plane"]),
            "AGENT_ORCHESTRATOR_TOKEN_FILE": str(self.tokens["agent"]),
        }
        agent = place.run(lambda: start_agent(copy_subject(parent), env=env))
        agent.headers["Authorization"] = f"Bearer {self.tokens['plane'].read_text()}"
        try:
            place.run(agent.wait_ready)
            self.orchestrator.wait_replicas(known + 1)
            yield agent
            assert agent.stop() == 0, agent.log_text[-4000:]
        finally:
            agent.kill()

    def hold(self, agent: RunningAgent, capability: str, task: str) -> None:
        """Send a task that an agent begins and does not end."""
        self.orchestrator.submit(capability, {"name": task}, task)
        wait_until(lambda: self.orchestrator.read(task)["state"] == "working")
        wait_until(lambda: self.network.left.run(agent.status)["tasks"]["working"] == 1)


@contextmanager
def two_hosts(folder: Path, *, delay_s: float = 0.0) -> Iterator[Hosts]:
    """Make two hosts and run the orchestrator on the right one."""
    tokens = {name: folder / f"{name}-token" for name in ("agent", "operator", "plane")}
    for path in tokens.values():
        path.write_text(secrets.token_urlsafe(24))
        path.chmod(0o600)
    with make_network(delay_s=delay_s) as network:
        orchestrator = prepare_orchestrator(
            folder / "mesh",
            host=network.right.address,
            place=network.right,
            token_files=[tokens["agent"], tokens["operator"]],
        )
        with running(orchestrator):
            yield Hosts(folder, network, orchestrator, tokens)


def let_go(agent: RunningAgent, task: str) -> None:
    """Let a task that `Hosts.hold` has sent come to its end."""
    (agent.directory / "runtime" / "data" / task).touch()


def read_end(orchestrator: RunningOrchestrator, task: str) -> dict[str, Any]:
    """Wait for the end of a task."""
    wait_until(lambda: orchestrator.read(task, 1)["state"] in FINAL)
    return orchestrator.read(task)


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_a_task_behind_a_partition_is_done_elsewhere_and_its_late_result_refused(
    tmp_path: Path, delivery: str
) -> None:
    """It may be run again, so nobody waits for a network; but it has one result for its caller."""
    with two_hosts(tmp_path) as hosts:
        network, orchestrator = hosts.network, hosts.orchestrator
        with hosts.agent("far", network.left, delivery) as far:
            hosts.hold(far, "retried_wait_for", "task")
            network.wire.cut()
            orchestrator.wait_replicas(0)
            with hosts.agent("near", network.right, delivery) as near:
                wait_until(lambda: network.right.run(near.status)["tasks"]["working"] == 1)
                let_go(far, "task")
                wait_until(lambda: network.left.run(far.status)["link"]["pending"] > 0)
                let_go(near, "task")
                end = read_end(orchestrator, "task")
                network.wire.heal()
                wait_until(lambda: network.left.run(far.status)["link"]["refused"] > 0)
                orchestrator.wait_replicas(2)

                assert network.wire.dropped > 0
                assert end["state"] == "completed"
                assert end["attempt"] == 2
                assert orchestrator.read("task") == end
                assert orchestrator.status()["tasks"]["refused_reports"] > 0


@pytest.mark.parametrize("delivery", [pytest.param("push", marks=pytest.mark.long), "pull"])
def test_a_task_that_must_not_be_run_twice_waits_for_the_end_of_the_partition(
    tmp_path: Path, delivery: str
) -> None:
    """Somebody else is ready to do it, and does not: it may have been done, and it was."""
    with two_hosts(tmp_path) as hosts:
        network, orchestrator = hosts.network, hosts.orchestrator
        with (
            hosts.agent("far", network.left, delivery) as far,
        ):
            hosts.hold(far, "wait_for", "task")
            network.wire.cut()
            orchestrator.wait_replicas(0)
            with hosts.agent("near", network.right, delivery) as near:
                let_go(far, "task")
                wait_until(lambda: network.left.run(far.status)["link"]["pending"] > 0)
                before = orchestrator.read("task")
                network.wire.heal()
                end = read_end(orchestrator, "task")

                assert before["state"] not in FINAL
                assert (end["state"], end["attempt"]) == ("completed", 1)
                assert network.right.run(near.status)["tasks"]["submitted"] == 0


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_a_slow_network_does_no_harm(tmp_path: Path, delivery: str) -> None:
    """A tenth of a second there and back, as across a continent: nobody counts as lost."""
    with two_hosts(tmp_path, delay_s=0.05) as hosts:
        orchestrator = hosts.orchestrator
        with hosts.agent("far", hosts.network.left, delivery):
            names = [f"task-{number}" for number in range(20)]
            for name in names:
                orchestrator.submit("digest", {"text": "one two"}, name)
            ends = [read_end(orchestrator, name) for name in names]

            assert {end["output"]["words"] for end in ends} == {2}
            assert orchestrator.status()["lost_agents"] == 0
            assert {end["attempt"] for end in ends} == {1}
