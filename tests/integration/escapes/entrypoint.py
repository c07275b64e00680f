"""The agent whose worker tries to get out: copied to an agent's folder with all of the package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any
from urllib.parse import urlsplit

from kagent_sdk import Agent
from tests.integration.escapes import assaults
from tests.integration.escapes.everyday import EVERYDAY
from tests.integration.escapes.runner import run_request

agent = Agent()


@agent.capability
def try_to_escape(request: dict[str, Any]) -> dict[str, Any]:
    """Run attempts in children of this worker."""
    return dict(run_request(request))


@agent.capability
def try_in_program(request: dict[str, Any]) -> dict[str, Any]:
    """Run attempts in a program that this worker starts."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.escapes.runner"],
        input=json.dumps(request).encode(),
        capture_output=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


@agent.capability
def work(name: str, facts: dict[str, Any]) -> str:
    """Do a piece of everyday work and say what came of it."""
    return EVERYDAY[name](facts)


@agent.capability
async def work_async(name: str, facts: dict[str, Any]) -> str:
    """Do a piece of everyday work on the event loop."""
    from tests.integration.escapes.everyday import ASYNCHRONOUS  # noqa: PLC0415 - imports aiohttp

    return await ASYNCHRONOUS[name](facts)


@agent.capability
def hold(sign: str) -> str:
    """Run until the sign is there."""
    return assaults.hold(sign)


@agent.capability
def forge_results(numbers: list[int], note: str) -> str:
    """Tell the host that tasks have ended."""
    return assaults.forge_results(numbers, note)


@agent.capability
def send_descriptors(count: int) -> str:
    """Send open files along with frames."""
    return assaults.send_descriptors(count)


@agent.capability
def stay(marker: str) -> int:
    """Leave a process that nobody waits for."""
    return assaults.stay(marker)


@agent.capability
def plant_links(target: str) -> str:
    """Leave links to a file."""
    return assaults.plant_links(target)


@agent.capability
def proxy_port() -> int:
    """Say where the worker finds the exit."""
    return urlsplit(os.environ["HTTPS_PROXY"]).port or 0


@agent.capability
def identity() -> dict[str, int]:
    """Say who the worker is."""
    return {"pid": os.getpid(), "user": os.getuid(), "group": os.getgid()}


if __name__ == "__main__":
    agent.run()
