"""Tests that start the real agent and call it, as its users do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parent.parent
LEFTOVERS = shutil.ignore_patterns("runtime", "logs", ".venv", "__pycache__", ".*cache")
START_DEADLINE_S = 60
POLL_S = 0.05


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a copy of the agent on a free port and give its address."""
    # A copy, so that an agent which you run in the folder at the same time is left alone.
    folder = tmp_path_factory.mktemp("run") / FOLDER.name
    shutil.copytree(FOLDER, folder, ignore=LEFTOVERS)
    command = [sys.executable, "-m", "kagent_sdk", "run", str(folder)]
    address = {"AGENT_HTTP__HOST": "127.0.0.1", "AGENT_HTTP__PORT": "0", "AGENT_HTTP__AUTH": "none"}
    with subprocess.Popen(command, env=os.environ | address) as host:
        try:
            yield wait_ready(host, folder / "runtime" / "host.json")
        finally:
            host.terminate()


def wait_ready(host: subprocess.Popen[bytes], host_file: Path) -> str:
    """Wait until the agent takes tasks, and return its address."""
    give_up_at = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < give_up_at:
        assert host.poll() is None, f"the agent ended with exit code {host.returncode}"
        try:
            url: str = json.loads(host_file.read_text())["url"]
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                return url
        except (OSError, ValueError):
            time.sleep(POLL_S)  # not yet
    pytest.fail(f"the agent is not ready after {START_DEADLINE_S} s")


def call(url: str, capability: str, **arguments: object) -> Any:
    """Call a capability and return its output."""
    request = urllib.request.Request(
        f"{url}/v1/capabilities/{capability}",
        json.dumps(arguments).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def test_greets_by_name(url: str) -> None:
    """The output is what `greet` returns, as JSON."""
    assert call(url, "greet", name="Ada", count=2) == {"text": "Hello, Ada! Hello, Ada!"}


def test_counts_down_to_zero(url: str) -> None:
    """Without a stream, the output is the list of all items."""
    assert call(url, "countdown", start=2) == [2, 1, 0]
