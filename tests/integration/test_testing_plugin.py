"""The pytest plugin of `kagent_sdk.testing`, in runs of pytest of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

KIT = Path(__file__).parent / "kit"

WITHOUT = ("-p", "no:cacheprovider", "-p", "no:schemathesis")
"""The second is a plugin of this environment, whose import takes as long as all the rest."""

SUITE = """
import pytest
from pathlib import Path
from kagent_sdk import Agent

KIT = Path({kit!r})

{mark}
async def test_harness(agent_harness):
    harness = await agent_harness(KIT, secrets={{"key": "k"}})
    assert await harness.call("reveal") == "k"
    other = await agent_harness(Agent("other"))
    assert other.logs == []
"""

PROCESSES = """
{mark}
async def test_process(agent_process, fake_orchestrator):
    process = await agent_process(KIT, config=fake_orchestrator.config, secrets={{"key": "k"}})
    await fake_orchestrator.wait_registered()
    assert (await process.status())["link"]["state"] == "up"
"""

INNOCENT = """
import sys

def test_nothing_is_imported_for_whoever_does_not_ask():
    assert "kagent_sdk.testing.plugin" in sys.modules
    heavy = {"aiohttp", "pydantic", "structlog", "psutil", "kagent_sdk.agent", "kagent_sdk.testing.harness"}
    assert not heavy & sys.modules.keys()
"""


def run_pytest(folder: Path, *options: str) -> tuple[int, str]:
    """Run pytest on a folder, with warnings as errors, as its user would; return code and output."""
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", *WITHOUT]
    done = subprocess.run(
        [*command, *options, str(folder)],
        cwd=folder,
        capture_output=True,
        check=False,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("mode", "mark", "suite", "passed"),
    [("strict", "@pytest.mark.asyncio", SUITE + PROCESSES, 2), ("auto", "", SUITE, 1)],
    ids=["strict", "auto"],
)
def test_the_fixtures_work_in_both_modes_of_pytest_asyncio(
    mode: str, mark: str, suite: str, passed: int, tmp_path: Path
) -> None:
    """Whatever they have opened is closed after each test."""
    (tmp_path / "test_it.py").write_text(suite.format(mark=mark, kit=str(KIT)))
    (tmp_path / "pytest.ini").write_text(
        f"[pytest]\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function\n"
    )
    code, output = run_pytest(tmp_path)

    assert code == 0, output
    assert f"{passed} passed" in output


def test_a_suite_that_does_not_use_it_pays_nothing(tmp_path: Path) -> None:
    """It is loaded in every run of an environment that has the library."""
    (tmp_path / "test_it.py").write_text(INNOCENT)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope=function\n")
    code, output = run_pytest(tmp_path)

    assert code == 0, output


def test_without_pytest_asyncio_the_fixtures_say_what_is_missing(tmp_path: Path) -> None:
    """And all other tests run."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'pytest_asyncio' else find(name, *rest)\n"
    )
    (tmp_path / "test_it.py").write_text(
        "def test_harness(agent_harness): ...\ndef test_other(): ...\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = "import sys; sys.path.insert(0, '.'); import sitecustomize, pytest; "
    command += f"sys.exit(pytest.main(['-q', '-p', 'no:asyncio', *{WITHOUT!r}]))"
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=tmp_path, capture_output=True, check=False, text=True
    )

    assert "pip install 'kagent-sdk[testing]'" in done.stdout
    assert "1 passed, 1 error" in done.stdout
