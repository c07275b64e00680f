"""kos-agent debug, as a person types it and as a script runs it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.cli import COMMAND, Terminal, environment, kos
from tests.agents import RunningAgent, running_agent
from tests.integration.waiting import wait_until

DEBUGGEE = Path(__file__).parent.parent / "integration" / "debuggee"
PROMPT = "\u203a"
CTRL_D, CTRL_U = "\x04", "\x15"


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    """Return an agent that can be looked into."""
    folder = tmp_path_factory.mktemp("debug") / "debuggee"
    shutil.copytree(DEBUGGEE, folder)
    env = {
        "AGENT_DEBUG__ENABLED": "true",
        "AGENT_HEALTH__STALL_WARN_S": "300",
        "AGENT_HEALTH__STALL_FAIL_S": "600",
        "AGENT_WORKER__BACKOFF_INITIAL_S": "0.1",
    }
    with running_agent(folder, env=env) as running:
        yield running


def test_a_person_attaches_completes_awaits_and_detaches(agent: RunningAgent) -> None:
    """The whole of a session at a terminal; and the terminal is as it was."""
    with Terminal(["debug", agent.directory]) as terminal:
        before = terminal.modes
        terminal.read_until(PROMPT)
        terminal.type("mem\t")
        terminal.read_until("memory")
        terminal.type(CTRL_U + "console\r")
        terminal.read_until(">>> ")
        terminal.type("import asyncio\r")
        terminal.type("await asyncio.sleep(0, result=6 * 7)\r")
        terminal.read_until("42")
        seen = terminal.shown.count(PROMPT)
        terminal.type(CTRL_D)
        terminal.read_until_count(PROMPT, seen + 1)
        terminal.resize(60, 20)
        terminal.read_until_count(PROMPT, seen + 2)
        assert terminal.modes != before
        terminal.type(CTRL_D)

        result = terminal.wait()
        assert result.code == 0, result
        assert terminal.modes == before
    commands = [record["command"] for record in agent.logged("debug_command")]
    assert any("console" in command for command in commands)


def test_a_script_runs_one_command(agent: RunningAgent) -> None:
    """Output and errors apart, and the exit code of the command."""
    good = kos("debug", agent.directory, "memory", "--json")
    bad = kos("debug", agent.directory, "memry")
    by_socket = kos("debug", agent.directory / "runtime" / "debug.sock", "stacks", "--json")

    assert (good.code, good.err) == (0, "")
    assert isinstance(good.json(), dict)
    assert (bad.code, bad.out) == (2, "")
    assert "memory" in bad.err
    assert by_socket.json()["workers"][0]["pid"] == agent.worker_pids[0]


def test_commands_can_be_piped_in(agent: RunningAgent) -> None:
    """One after the other, in one session; `console` reads lines too."""
    piped = kos("debug", cwd=agent.directory, stdin="ps\nloops\n")
    console = kos("debug", ".", "console", cwd=agent.directory, stdin="print(6 * 7)\n")

    assert (piped.code, piped.err) == (0, "")
    assert "_live()" in piped.out
    assert console.code == 0, console
    assert console.out.endswith("42\n")


def test_a_reader_that_has_enough_is_no_error(agent: RunningAgent) -> None:
    """``kos-agent debug . stacks | head -1`` says nothing of a broken pipe."""
    command = [*COMMAND, "debug", str(agent.directory), "stacks"]
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    done = subprocess.run(
        command, stdout=write_fd, stderr=subprocess.PIPE, env=environment(None), check=False
    )
    os.close(write_fd)

    assert (done.returncode, done.stderr) == (1, b"")


def test_commands_run_while_the_loop_is_blocked(agent: RunningAgent) -> None:
    """Then, above all."""
    seconds = {"seconds": 3}
    caller = threading.Thread(target=lambda: agent.call("block_loop", seconds))
    caller.start()
    wait_until(lambda: agent.status()["tasks"]["working"] > 0)

    result = kos("debug", agent.directory, "tasks", "--json")

    assert agent.status()["tasks"]["working"] > 0, "it was not blocked any more"
    assert result.code == 0, result
    assert "block_loop" in result.out
    caller.join()


def test_ctrl_c_ends_a_command(agent: RunningAgent) -> None:
    """And the session in the worker with it."""
    with Terminal(["debug", agent.directory, "profile", "60"]) as terminal:
        record = agent.wait_logged("debug_command", command="profile 60")
        terminal.interrupt()

        assert terminal.wait().code == 130
    agent.wait_logged("debug_session_ended", session=record["session"])


def test_a_worker_that_does_not_answer_is_told_with_the_way_out(agent: RunningAgent) -> None:
    """Nobody sits before a black screen; and Ctrl-D leaves."""
    (worker,) = agent.worker_pids
    os.kill(worker, signal.SIGSTOP)
    try:
        with Terminal(["debug", agent.directory]) as terminal:
            before = terminal.modes
            stacks = kos("debug", agent.directory, "stacks")
            terminal.read_until("stacks` asks the host what it is doing; Ctrl-C or Ctrl-D leaves")
            terminal.type(CTRL_D)

            result = terminal.wait()
            assert result.code == 1
            assert "left without an answer" in result.out
            assert terminal.modes == before
        assert (stacks.code, stacks.out) == (1, "")
        assert "worker 0 did not show its stacks" in stacks.err
    finally:
        os.kill(worker, signal.SIGCONT)


def test_a_lost_worker_ends_the_session_with_a_line(agent: RunningAgent) -> None:
    """And gives the terminal back."""
    with Terminal(["debug", agent.directory]) as terminal:
        before = terminal.modes
        terminal.read_until(PROMPT)
        os.kill(agent.worker_pids[0], signal.SIGKILL)

        result = terminal.wait()
        assert result.code == 1
        assert "the connection to the agent is lost" in result.out
        assert terminal.modes == before
    agent.wait_ready()


def test_a_killed_client_gives_the_terminal_back(agent: RunningAgent) -> None:
    """A terminal that is closed, or a service manager that stops what runs in it."""
    with Terminal(["debug", agent.directory]) as terminal:
        before = terminal.modes
        terminal.read_until(PROMPT)
        terminal.terminate()

        assert terminal.wait().code == 143
        assert terminal.modes == before


def test_refusals_reach_the_person(agent: RunningAgent, tmp_path: Path) -> None:
    """With the reason, the way out and an exit code."""
    usage = kos("debug", "memory", cwd=agent.directory)
    nobody = kos("debug", tmp_path / "none", "ps")
    many = kos("debug", agent.directory, *["x"] * 65)

    assert usage.code == nobody.code == 2
    assert "kos-agent debug . memory" in usage.err
    assert (many.code, "too long" in many.err) == (2, True)
    assert json.loads((agent.directory / "runtime" / "host.json").read_bytes())["debug_socket"]
