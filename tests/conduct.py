"""How every test of this project behaves, as a pytest plugin.

- A test that leaves a process or a thread behind fails.
- A skip is allowed for a named limit of the platform alone: its reason starts with ``platform: ``.
  Any other skip makes the run fail; what the test set-up could install is no reason to skip.
- Tests marked ``long`` run only with ``KOS_TEST_LONG=1``.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from tests.leaks import MARKER_NAME, LeakWatch

SKIP_PREFIX = "platform: "
LONG_NAME = "KOS_TEST_LONG"

_HAS_BEGUN = pytest.StashKey[bool]()
_LEAKS = pytest.StashKey[LeakWatch]()
_WRONG_SKIPS = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Mark the environment, which every process that a test starts inherits."""
    os.environ.setdefault(MARKER_NAME, uuid.uuid4().hex)
    config.stash[_LEAKS] = LeakWatch()
    config.stash[_WRONG_SKIPS] = []
    config.pluginmanager.register(_SkipWatch(config.stash[_WRONG_SKIPS]))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long tests out unless they are asked for; left out is not skipped."""
    if os.environ.get(LONG_NAME) == "1":
        return
    long = [item for item in items if item.get_closest_marker("long")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


@pytest.fixture(autouse=True)
def _leak_watch(request: pytest.FixtureRequest) -> None:
    """Begin to watch: after the fixtures that this test shares with others."""
    request.config.stash[_LEAKS].begin()
    request.node.stash[_HAS_BEGUN] = True


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Fail a test that leaves something running once all its fixtures are gone."""
    yield
    if item.stash.get(_HAS_BEGUN, False) and (leaks := item.config.stash[_LEAKS].end()):
        pytest.fail("left behind: " + "; ".join(leaks), pytrace=False)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn a green run with a wrong skip red."""
    if session.config.stash[_WRONG_SKIPS] and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Name the skips that are not allowed."""
    for line in config.stash[_WRONG_SKIPS]:
        terminalreporter.write_line(f"skip without a platform limit: {line}", red=True)


class _SkipWatch:
    """Collects the skips whose reason is not a limit of the platform."""

    def __init__(self, wrong: list[str]) -> None:
        self._wrong = wrong

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Look at a test's outcome."""
        if report.skipped and not hasattr(report, "wasxfail"):
            self._judge(report.nodeid, report.longrepr)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Look at a module's outcome: it may skip as a whole."""
        if report.skipped:
            self._judge(report.nodeid, report.longrepr)

    def _judge(self, name: str, explanation: object) -> None:
        reason = explanation[2] if isinstance(explanation, tuple) else str(explanation)
        if not str(reason).removeprefix("Skipped: ").startswith(SKIP_PREFIX):
            self._wrong.append(f"{name}: {reason}")
