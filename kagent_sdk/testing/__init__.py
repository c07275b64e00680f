"""For the test suites of agents: an agent in the test's own process, a real one, and faults.

- `AgentHarness` runs an agent inside the test's event loop: milliseconds, no process, no socket.
- `AgentProcess` runs a copy of an agent's folder as it runs in production: a host and its worker.
- `FakeOrchestrator` speaks kLink to a real agent, and goes away when a test says so.

The names are imported on first use: the pytest plugin is loaded in every run of an environment.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kagent_sdk.testing.clock import Clock
    from kagent_sdk.testing.fake_orchestrator import FakeOrchestrator
    from kagent_sdk.testing.harness import AgentHarness
    from kagent_sdk.testing.harness_task import HarnessTask, Progress
    from kagent_sdk.testing.loading import load_agent
    from kagent_sdk.testing.process import AgentProcess
    from kagent_sdk.testing.process_failures import AgentFailedError
    from kagent_sdk.testing.process_tasks import ProcessTasks
    from kagent_sdk.testing.scripted_calls import MadeCall

_HOMES = {
    "AgentFailedError": "process_failures",
    "AgentHarness": "harness",
    "AgentProcess": "process",
    "Clock": "clock",
    "FakeOrchestrator": "fake_orchestrator",
    "HarnessTask": "harness_task",
    "MadeCall": "scripted_calls",
    "ProcessTasks": "process_tasks",
    "Progress": "harness_task",
    "load_agent": "loading",
}

__all__ = [
    "AgentFailedError",
    "AgentHarness",
    "AgentProcess",
    "Clock",
    "FakeOrchestrator",
    "HarnessTask",
    "MadeCall",
    "ProcessTasks",
    "Progress",
    "load_agent",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'kagent_sdk.testing' has no attribute {name!r}")
    value = getattr(import_module(f"kagent_sdk.testing.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
