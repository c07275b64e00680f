"""Where ``kos-agent debug`` finds the socket, and what it says when there is none."""

from __future__ import annotations

import json
import os
import socket
import termios
from pathlib import Path
from typing import Any

import pytest

from kagent_sdk.cli.boundary import CommandError, UnreachableError, UsageError
from kagent_sdk.cli.commands.debug import find_socket
from kagent_sdk.cli.debug_client import DebugConnection, make_hello
from kagent_sdk.cli.raw_terminal import RawTerminal
from kagent_sdk.host.announcement import pid_namespace


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of an agent that may run."""
    (tmp_path / "runtime").mkdir()
    return tmp_path


def _announce(folder: Path, **facts: Any) -> None:
    document = {"pid": os.getpid(), "pid_namespace": pid_namespace(), "url": "http://127.0.0.1:1"}
    (folder / "runtime" / "host.json").write_text(json.dumps(document | facts))


def _listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def test_the_host_says_where_its_socket_is(folder: Path) -> None:
    """Nobody needs to know how it is configured."""
    _announce(folder, debug_socket="/debug/socket")

    assert find_socket(folder, ()) == Path("/debug/socket")


def test_a_socket_can_be_named(folder: Path) -> None:
    """Where there is no folder to look into."""
    _listen(folder / "my.sock")

    assert find_socket(folder / "my.sock", ()) == folder / "my.sock"


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({}, "set debug.enabled: true in config.yaml, or AGENT_DEBUG__ENABLED=true"),
        ({"debug_fault": "anyone may write there"}, "no debug socket: anyone may write there"),
        ({"debug_socket": 5}, "debugging is off"),
        ({"pid_namespace": 1}, "kos-agent debug"),
    ],
)
def test_what_is_missing_is_named_with_the_way_out(
    folder: Path, facts: dict[str, Any], message: str
) -> None:
    """At 3 a.m. nobody reads a manual first."""
    _announce(folder, **facts)

    with pytest.raises(CommandError, match=message) as raised:
        find_socket(folder, ())

    assert raised.value.exit_code == 1


def test_a_socket_of_a_container_is_found_in_its_folder(folder: Path) -> None:
    """Its own path means nothing outside."""
    _announce(folder, pid_namespace=1, debug_socket="/agent/runtime/debug.sock")
    _listen(folder / "runtime" / "debug.sock")

    assert find_socket(folder, ()) == folder / "runtime" / "debug.sock"


def test_an_agent_that_does_not_run_cannot_be_looked_into(folder: Path) -> None:
    """As for every command."""
    with pytest.raises(UnreachableError, match="no agent is running"):
        find_socket(folder, ())


def test_a_command_without_a_folder_is_told_what_to_type(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder comes first."""
    monkeypatch.chdir(folder)
    with pytest.raises(UsageError, match=r"kos-agent debug \. memory --json$"):
        find_socket(Path("memory"), ("--json",))


def test_a_socket_that_is_left_over_is_told_from_one_that_is_closed(folder: Path) -> None:
    """One is nobody's any more."""
    path = folder / "my.sock"
    _listen(path)

    with pytest.raises(UnreachableError, match="no agent listens on"), DebugConnection(path):
        pass
    path.unlink()
    with pytest.raises(UnreachableError, match="no agent listens on"), DebugConnection(path):
        pass


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"x" * 10_000])
def test_what_does_not_answer_as_an_agent_does_is_told(folder: Path, answer: bytes) -> None:
    """The path of another service's socket."""
    path = folder / "my.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with DebugConnection(path) as connection:
            other, _ = listener.accept()
            with other:
                other.sendall(answer)
                other.shutdown(socket.SHUT_WR)
                with pytest.raises(CommandError, match="does not speak as a debug socket does"):
                    connection.greet(make_hello(("ps",)))


def test_an_odd_terminal_is_a_dumb_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent would refuse the whole hello."""
    monkeypatch.setenv("TERM", "x" * 100)
    assert make_hello(None).term == "dumb"
    monkeypatch.setenv("TERM", "screen.xterm-256color")
    assert make_hello(None).term == "screen.xterm-256color"


def test_a_terminal_is_raw_for_the_time_of_the_block_alone() -> None:
    """Whatever happens in it."""
    ours, theirs = os.openpty()
    before = termios.tcgetattr(theirs)
    raw: list[Any] = []

    def fail() -> None:
        with RawTerminal(theirs):
            raw.extend(termios.tcgetattr(theirs))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert not raw[3] & termios.ISIG
    assert raw[1] & termios.ONLCR
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)
