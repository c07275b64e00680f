"""GPUs in a real host, by the real nvidia-ml-py: the driver below it is a small library of this test's.

No machine of the project's has a GPU; a driver is the third party that cannot be provoked here.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.agents import REPOSITORY, running_agent

SOURCE = Path(__file__).parent / "nvml.c"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with libnvidia-ml.so.1."""
    folder = tmp_path_factory.mktemp("driver")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, SOURCE], check=True
    )
    return folder


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    """Return the folder of an agent."""
    return shutil.copytree(
        REPOSITORY / "examples" / "hello",
        tmp_path / "hello",
        ignore=shutil.ignore_patterns("runtime", "logs"),
    )


@pytest.fixture
def environment(driver: Path, tmp_path: Path) -> dict[str, str]:
    """Return variables of an agent that is to have two GPUs."""
    return {
        "AGENT_LIMITS__GPUS": "2",
        "LD_LIBRARY_PATH": str(driver),
        "FAKE_NVML": str(tmp_path),
    }


def test_status_and_metrics_show_what_the_driver_says(
    hello: Path, environment: dict[str, str]
) -> None:
    """Who pays for GPUs wants to see them used."""
    with running_agent(hello, env=environment) as agent:
        gpus = agent.status()["gpus"]
        metrics = agent.request("GET", "/metrics").body.decode()

    assert {key: gpus[key] for key in ("wanted", "found", "note")} == {
        "wanted": 2,
        "found": 2,
        "note": None,
    }
    assert gpus["devices"][0] == {
        "index": 0,
        "name": "Test GPU 0",
        "uuid": "GPU-0",
        "memory_used_bytes": 20 << 30,
        "memory_total_bytes": 80 << 30,
        "utilization_ratio": 0.75,
    }
    assert gpus["devices"][1]["utilization_ratio"] is None
    assert 'kagent_gpu_memory_used_bytes{gpu="1"} 2.1474836' in metrics
    assert 'kagent_gpu_utilization_ratio{gpu="0"} 0.75' in metrics
    assert 'kagent_gpu_utilization_ratio{gpu="1"}' not in metrics


def test_a_driver_that_hangs_holds_up_nothing(
    hello: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """The call cannot be interrupted: it is left behind, and the host ends without it."""
    (tmp_path / "blocked").touch()
    with running_agent(hello, env=environment) as agent:
        first = agent.status()["gpus"]
        assert agent.request("GET", "/healthz").status == 200
        second = agent.status()["gpus"]

    assert first["found"] is second["found"] is None
    assert first["note"].startswith("the driver has not answered for ")


def test_a_driver_that_is_not_loaded_is_a_note(
    hello: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """It comes back by itself when it is."""
    (tmp_path / "unloaded").touch()
    with running_agent(hello, env=environment) as agent:
        before = agent.status()["gpus"]
        (tmp_path / "unloaded").unlink()
        after = agent.status()["gpus"]

    assert before == {
        "wanted": 2,
        "found": None,
        "note": "the driver says: Driver Not Loaded",
        "devices": [],
    }
    assert after["found"] == 2


def test_a_machine_without_a_driver_says_so(hello: Path) -> None:
    """The agent runs all the same: it may have been started where its GPU is not."""
    with running_agent(hello, env={"AGENT_LIMITS__GPUS": "1"}) as agent:
        gpus = agent.status()["gpus"]

    assert gpus["note"] == "the driver's library libnvidia-ml.so.1 is not here"


def test_an_agent_without_gpus_does_not_load_the_library(
    hello: Path, environment: dict[str, str]
) -> None:
    """Nobody pays for what they do not use."""
    with running_agent(hello, env=environment | {"AGENT_LIMITS__GPUS": "0"}) as agent:
        gpus = agent.status()["gpus"]
        maps = Path(f"/proc/{agent.pid}/maps").read_text()

    assert gpus == {"wanted": 0, "found": None, "note": None, "devices": []}
    assert "libnvidia-ml" not in maps
