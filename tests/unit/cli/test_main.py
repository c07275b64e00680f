"""Tests of `kagent_sdk.cli.main` and its error boundary."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from kagent_sdk import __version__
from kagent_sdk.cli import boundary
from kagent_sdk.cli.boundary import CommandError, guard
from kagent_sdk.cli.main import COMMANDS, main
from kagent_sdk.errors import ConfigError, CrashLoopError, KagentError, StartupError


def run(*arguments: str) -> int:
    """Run the command line in this process and return its exit code."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    code = caught.value.code
    assert isinstance(code, int)
    return code


def guarded(error: BaseException) -> int:
    """Return the exit code for a command that raises."""

    def action() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        guard(action)
    code = caught.value.code
    assert isinstance(code, int)
    return code


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_lists_every_command(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody reads a manual first."""
    assert run(*arguments) == 0
    shown = capsys.readouterr().out

    assert all(f"\n  {name} " in shown for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_as_the_table_says(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table speaks for modules that it has not imported."""
    assert run(name, "--help") == 0

    assert capsys.readouterr().out.startswith(f"Usage: kos-agent {name}")


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    """One line, with the way out, and the exit code of wrong usage."""
    assert run("stauts") == 2
    assert run("x\x1b[2J") == 2

    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "error: there is no command 'stauts'; did you mean 'kos-agent status'?"
    assert lines[1] == r"error: there is no command 'x\x1b[2J'; see: kos-agent --help"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--frob",), "error: no such option '--frob'; see: kos-agent --help"),
        (("call",), "error: missing argument 'CAPABILITY'; see: kos-agent call --help"),
        (("run", "--port", "http"), "error: invalid value for '--port'"),
        (("run", "no/such/agent"), "error: there is no agent at no/such/agent; make one with: "),
        (("tasks", "--state", "done"), "error: invalid value for '--state'"),
        (("tasks", "a", "--cancel", "b"), "error: to cancel a task its id is enough"),
        (("status", "--url", "h:80"), "error: 'h:80' is not an address of an agent"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No usage screen to scroll past, no traceback."""
    assert run(*arguments) == 2

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(message)


def test_the_version_is_told_to_people_and_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """The first thing a bug report needs."""
    assert run("version") == 0
    assert run("--version") == 0
    assert run("version", "--json") == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"kagent-sdk {__version__}"
    assert lines[2] == f"kos-agent {__version__}"
    assert json.loads(lines[3])["sdk"] == __version__


@pytest.mark.parametrize(
    ("error", "exit_code", "message"),
    [
        (ConfigError("config.yaml:3: no key 'nmae'"), 78, "error: config.yaml:3: no key 'nmae'\n"),
        (StartupError("port 80 is taken"), 3, "error: port 80 is taken\n"),
        (KagentError("odd"), 70, "error: odd\n"),
        (CommandError("no", notes=("  a: b",)), 1, "error: no\n  a: b\n"),
        (CrashLoopError("5 crashes", "Traceback\x1b[1m\n"), 75, "Traceback\\x1b[1m\nerror: 5 cras"),
        (KeyboardInterrupt(), 130, ""),
        (click.Abort(), 130, ""),
        (click.FileError("f", "gone"), 1, "error: could not open file 'f': gone\n"),
    ],
)
def test_every_error_becomes_a_line_and_its_exit_code(
    error: BaseException, exit_code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripts and orchestrators read the code, people the line."""
    assert guarded(error) == exit_code
    assert capsys.readouterr().err.startswith(message)


def test_a_bug_of_ours_is_told_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """The traceback is for whoever asks for it."""
    assert guarded(ZeroDivisionError("by zero")) == 70

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "error: internal error: ZeroDivisionError: by zero; set AGENT_TRACEBACK=1"
    )


def test_the_traceback_is_there_for_whoever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is us, when somebody reports a bug."""
    monkeypatch.setenv(boundary.TRACEBACK_VARIABLE, "1")

    def action() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        guard(action)


def test_an_error_is_json_for_a_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--json holds for errors too; stdout stays empty."""
    assert run("status", "--json", "-C", str(tmp_path)) == 3

    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["error"]["code"] == "unreachable"


def test_errors_of_the_library_have_codes_for_programs() -> None:
    """Derived from their names, so that none is forgotten."""
    assert boundary.error_document(ConfigError("x"))["error"]["code"] == "config"
    assert boundary.error_document(CrashLoopError("x"))["error"]["code"] == "crash_loop"


def test_a_reader_that_leaves_is_no_error() -> None:
    """`kos-agent ... | head -1` is how people look at long output."""
    script = "from kagent_sdk.cli.main import main; main(['config', 'schema'])"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        error = process.stderr.read()

    assert process.returncode == 1
    assert error == b""


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        ("['version']", {"rich", "pydantic", "aiohttp", "http.client", "yaml"}),
        ("['health', '-C', '/nonexistent']", {"rich", "pydantic", "aiohttp", "yaml"}),
        ("['run', '/nonexistent']", {"rich", "http.client", "difflib"}),
        ("['call', '--help']", {"rich", "pydantic", "http.client"}),
    ],
)
def test_a_command_imports_only_what_it_needs(arguments: str, absent: set[str]) -> None:
    """`run` is on every agent's start-up budget, `health` runs every few seconds."""
    script = (
        "import sys, atexit\n"
        "from kagent_sdk.cli.main import main\n"
        "atexit.register(lambda: print(*sys.modules, file=sys.__stdout__))\n"
        f"main({arguments})"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=False, text=True
    )

    assert absent.isdisjoint(result.stdout.split())
