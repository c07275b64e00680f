"""The rules that every test lives by are enforced: each is broken here by a planted test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

LEAKING = """
import subprocess, threading

import pytest

@pytest.fixture(scope="module")
def shell():
    with subprocess.Popen(["bash"], stdin=subprocess.PIPE, text=True) as process:
        yield process
        process.stdin.write("kill %1\\n")

def test_shared(shell):
    subprocess.run(["true"])
    shell.stdin.write("sleep 76 &\\n")
    shell.stdin.flush()

def test_clean():
    subprocess.run(["true"])
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()

def test_child():
    test_child.it = subprocess.Popen(["sleep", "77"])

def test_orphan():
    subprocess.run("sleep 78 >&- 2>&- &", shell=True)

def test_thread():
    threading.Thread(target=threading.Event().wait, daemon=True, name="idle").start()

def test_next():
    pass
"""

SKIPPING = """
import pytest

def test_call():
    pytest.skip("no curl here")

@pytest.mark.skip
def test_mark():
    pass

def test_other():
    pass

def test_allowed():
    pytest.skip("platform: no cgroup v2 here")
"""

LONG = """
import pytest

@pytest.mark.long
def test_long():
    pass

def test_short():
    pass
"""


def run_planted(folder: Path, text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on one planted file under the project's rules."""
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = long\n")
    (folder / "test_planted.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conduct", "-p", "no:cacheprovider"]
    kept = {name: value for name, value in os.environ.items() if name != "KOS_TEST_LONG"}
    return subprocess.run(
        [*command, "-c", str(folder / "pytest.ini"), "--rootdir", str(folder), str(folder)],
        cwd=REPOSITORY,
        env=kept | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "200"} | environment,
        capture_output=True,
        check=False,
        text=True,
    )


def test_a_test_that_leaves_something_running_fails_and_no_other(tmp_path: Path) -> None:
    """An agent that does not stop is a bug that only a later test would see, and be blamed for."""
    result = run_planted(tmp_path, LEAKING, KOS_TEST_GRACE_S="0.5")

    assert result.returncode == 1
    assert "6 passed, 3 errors" in result.stdout
    left_behind = [line for line in result.stdout.splitlines() if line.startswith("left behind")]
    assert [line.split(": ")[-1] for line in left_behind] == ["sleep 77", "sleep 78", "thread idle"]
    for name in ("child", "orphan", "thread"):
        assert f"ERROR at teardown of test_{name} " in result.stdout


def test_a_skip_without_a_platform_limit_fails_the_run(tmp_path: Path) -> None:
    """A test that quietly does not run proves nothing and looks like one that passed."""
    result = run_planted(tmp_path, SKIPPING)

    assert result.returncode == 1
    wrong = [line for line in result.stdout.splitlines() if line.startswith("skip without a pl")]
    assert [line.split("::")[1].split(":")[0] for line in wrong] == ["test_call", "test_mark"]


def test_a_module_that_skips_itself_fails_the_run(tmp_path: Path) -> None:
    """A dependency that is missing is a hole in the set-up."""
    result = run_planted(tmp_path, "import pytest\npytest.importorskip('no_such_module')\n")

    assert result.returncode != 0
    assert "skip without a platform limit" in result.stdout


def test_a_skip_for_a_platform_limit_is_allowed(tmp_path: Path) -> None:
    """Some kernels lack some things, and no set-up can change that."""
    allowed = SKIPPING[SKIPPING.index("def test_other") :]

    result = run_planted(tmp_path, f"import pytest\n{allowed}")

    assert result.returncode == 0, result.stdout
    assert "1 passed, 1 skipped" in result.stdout


def test_long_tests_run_only_when_asked_for(tmp_path: Path) -> None:
    """They are left out of a plain run, not skipped: they are no hole in it."""
    assert "1 passed, 1 deselected" in run_planted(tmp_path, LONG).stdout
    assert "2 passed" in run_planted(tmp_path, LONG, KOS_TEST_LONG="1").stdout
