"""What the debug server leans on of aiomonitor, click and prompt_toolkit.

Much of it is private: with a new release these tests say what has to be looked at.
"""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from importlib.metadata import version

import pytest
from aiomonitor.context import command_done, current_monitor, current_stdout
from aiomonitor.exceptions import MissingTask
from aiomonitor.monitor import Monitor
from aiomonitor.termui import commands, completion
from aiomonitor.types import FormatItemTypes, FormattedLiveTaskInfo, FormattedStackItem
from click import utils
from prompt_toolkit.application import Application
from prompt_toolkit.input import typeahead

from kagent_sdk.debug.monitor import make_monitor
from tests.unit.debug.rig import AgentLoop, Rig

UNUSED = {"cancel", "console", "exit", "help", "noop", "ps", "ps-terminated", "signal"} | {
    "where",
    "where-terminated",
}
"""Commands of aiomonitor's that ours replace, or that are left out on purpose."""


def test_aiomonitor_is_the_release_that_was_looked_at() -> None:
    """A new one may listen somewhere, or start a thread."""
    assert version("aiomonitor") == "0.7.1"


def test_every_command_of_aiomonitors_was_considered() -> None:
    """A new one would be missing without anybody knowing."""
    assert set(commands.monitor_cli.commands) == UNUSED | {"stacktrace"}


def test_the_methods_of_a_monitor_are_there() -> None:
    """They do the work of `ps`, `where` and `cancel`."""
    named = [
        *inspect.signature(Monitor.__init__).parameters,
        *inspect.signature(Monitor.format_running_task_list).parameters,
        *inspect.signature(Monitor.format_running_task_stack).parameters,
    ]

    assert {"loop", "console_enabled", "hook_task_factory", "filter_", "persistent"} <= {*named}
    assert inspect.iscoroutinefunction(Monitor.cancel_monitored_task)
    assert {"task_id", "state", "name", "coro"} <= {*FormattedLiveTaskInfo.__annotations__}
    assert FormattedStackItem._fields == ("type", "content")
    assert set(FormatItemTypes) == {"header", "content"}
    assert issubclass(MissingTask, Exception)


def test_commands_find_their_context_in_these_variables() -> None:
    """`stacktrace` and the completion of jobs look there; every command sets `command_done`."""
    assert "current_stdout" in inspect.getsource(commands._get_current_stdout)
    assert "current_monitor" in inspect.getsource(completion.complete_task_id)
    assert "command_done_event.set()" in inspect.getsource(commands.auto_command_done)
    assert [variable.name for variable in (command_done, current_monitor, current_stdout)] == [
        "command_done",
        "current_monitor",
        "current_stdout",
    ]


def test_click_prints_where_aiomonitor_tells_it_to() -> None:
    """Help texts go to the session, not into the agent's log."""
    assert vars(utils)["_default_text_stdout"] is commands._get_current_stdout


def test_prompt_toolkit_has_what_is_used_of_its_insides() -> None:
    """Typed-ahead keys are kept by input for ever; a new size is told by a private method."""
    assert isinstance(typeahead._buffer, dict)
    assert callable(Application._on_resize)


def test_a_monitor_that_is_not_started_opens_nothing(agent_loop: AgentLoop) -> None:
    """No port, no thread, no task factory, and no line in the log that says so."""
    monitor = make_monitor(agent_loop.loop)

    assert not monitor._ui_thread.is_alive()
    assert agent_loop.loop.get_task_factory() is None
    assert monitor._event_loop_thread_id == agent_loop.ident


def test_a_loop_that_does_not_tell_its_thread_is_taken_for_the_main_ones() -> None:
    """That of uvloop does not; agents run theirs in the main thread."""

    class Mute(asyncio.SelectorEventLoop):
        _thread_id = None

    loop = Mute()
    assert make_monitor(loop)._event_loop_thread_id is not None
    loop.close()


def test_a_job_that_does_not_end_is_reported(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or `cancel` would take the terminal with it."""
    monkeypatch.setattr("kagent_sdk.debug.monitor.CANCEL_S", 0.2)
    job = rig.start_job()
    with rig.agent.blocked():
        client = rig.command("cancel", str(id(job)))

        assert client.finish() == 1
        assert "the agent's loop does not answer" in client.errors


def test_nothing_is_loaded_before_the_first_session() -> None:
    """An agent that is never debugged pays nothing."""
    code = (
        "import sys, kagent_sdk.debug.server as s; s.DebugServer(None).close();"
        "print([n for n in ('aiomonitor', 'aiohttp', 'click', 'prompt_toolkit') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
