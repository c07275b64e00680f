"""An agent that is locked down in a container can be looked into all the same."""

from __future__ import annotations

from tests.images.lockdown import Launcher


def test_a_worker_in_a_container_is_looked_into_from_inside(trial: Launcher) -> None:
    """Read-only root, no capability, our seccomp profile: descriptors still get to the worker."""
    container = trial.start_ready(env={"AGENT_DEBUG__ENABLED": "true"})
    stacks = container.exec("kos-agent", "debug", ".", "stacks").stdout
    value = container.exec("kos-agent", "debug", ".", "console", "type(agent).__name__").stdout
    memory = container.exec("kos-agent", "debug", ".", "memory", "--seconds", "1").stdout
    records = container.exec("kos-agent", "logs", "--json").stdout

    assert "most recent call last" in stacks
    assert value == "'Agent'\n"
    assert "outside of Python" in memory
    assert records.count('"debug_session_opened"') == 3
