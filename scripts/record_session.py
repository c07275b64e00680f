"""Record the terminal session of the README as a picture: docs/session.svg.

    python scripts/record_session.py [--output FILE]

Types the commands into bash on a pseudo-terminal, in a new folder with the README's own agent, and draws
what came out. The picture has no font of its own: nothing is fetched by whoever looks at it.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import re
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

REPOSITORY = Path(__file__).resolve().parents[1]
OUTPUT = REPOSITORY / "docs" / "session.svg"
TITLE = "kos-agent: run an agent, call it, kill it, and look inside"

COLUMNS, ROWS = 92, 60
DEADLINE_S = 60.0

COMMANDS = (
    "kos-agent run hello &>run.log &",
    "cd hello",
    "kos-agent call greet name=Ada",
    "curl -s localhost:8080/v1/capabilities/greet -d '{\"name\": 7}' | grep -o '\"detail\":[^,]*'",
    "kos-agent call greet name=Ada --id first >/dev/null; kill -KILL %1",
    "kos-agent run &>run.log &",
    "kos-agent tasks first",
    "kos-agent status",
)
"""What is typed, and shown as it is typed."""

ADDRESS = "localhost:8080"
"""As a reader has it; here it is a free port, so that nothing is in the way."""

READY = (
    f"while kill -0 $! && ! {{ curl -sf {ADDRESS}/readyz &&"
    f' curl -s {ADDRESS}/status | grep \'"checked_at":"\'; }}; do sleep 0.1; done &>/dev/null'
)
"""Not shown: somebody who types takes longer than an agent to start, and to look at its sandbox."""

STOP = "kill %% && wait %%"

AGENT = re.compile(r"```python file=hello/entrypoint.py\n(.*?)```", re.DOTALL)

SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-labelledby="{unique_id}-name">
<title id="{unique_id}-name">TITLE</title>
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""rich's own brings fonts from elsewhere."""

_CONTROL = re.compile(r"\x1b\[(?P<number>\d*)(?P<kind>[AKJ])|\x1b\[\?\d+[hl]|[\r\n]")

_NOTICE = re.compile(r"bash: line \d+: +\d+ Killed ")
"""Comes at some later command: bash tells of what was killed when it gets to it."""


class SessionError(Exception):
    """A command did not do what it should; the message has what was seen."""


@dataclass(frozen=True, slots=True)
class Step:
    """A command, and what the terminal showed for it: lines with ANSI's colours."""

    command: str
    lines: tuple[str, ...]


def record(folder: Path) -> list[Step]:
    """Type the session into a shell in an empty folder, and return what was seen.

    Raises:
        SessionError: a command failed, or took too long.
    """
    agent = AGENT.search((REPOSITORY / "README.md").read_text())
    assert agent is not None
    (folder / "hello").mkdir()
    (folder / "hello" / "entrypoint.py").write_text(agent[1])
    steps = []
    with open_terminal(folder) as terminal:
        for command in COMMANDS:
            lines = screen_lines(terminal.run(command))
            steps.append(Step(command, tuple(line for line in lines if not _NOTICE.match(line))))
            if command.endswith("&"):
                terminal.run(READY)
        terminal.run(STOP)
    return steps


class Terminal:
    """bash whose output goes to a pseudo-terminal; `open_terminal` makes one."""

    def __init__(self, process: subprocess.Popen[bytes], master: int, port: int) -> None:
        self._process = process
        self._master = master
        self._port = port

    def run(self, command: str) -> str:
        """Type a command; return what the terminal got until its end.

        Raises:
            SessionError: it failed, or has not ended in time.
        """
        assert self._process.stdin is not None
        # The mark cannot be taken for output: nothing prints this control character.
        here = command.replace(ADDRESS, f"localhost:{self._port}")
        typed = f"{{ {here}\n}} </dev/null\nprintf '\\x1e%d\\x1e' $? >&2\n"
        self._process.stdin.write(typed.encode())
        output = self._read_until_mark(command)
        shown, status, _ = output.split("\x1e")
        if status != "0":
            raise SessionError(f"{command}\nexit status {status}\n{shown}")
        return shown

    def _read_until_mark(self, command: str) -> str:
        output = b""
        give_up_at = time.monotonic() + DEADLINE_S
        with selectors.DefaultSelector() as selector:
            selector.register(self._master, selectors.EVENT_READ)
            while output.count(b"\x1e") < 2:
                if not selector.select(max(0.0, give_up_at - time.monotonic())):
                    raise SessionError(f"{command}\nno end; so far:\n{output.decode()}")
                output += os.read(self._master, 65536)
        return output.decode()


@contextmanager
def open_terminal(folder: Path) -> Iterator[Terminal]:
    """Start bash in a folder, on a terminal of `COLUMNS`; end it after the block."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    kept = {"LANG", "PATH"}
    environment = {name: value for name, value in os.environ.items() if name in kept}
    environment |= {
        "AGENT_HTTP__PORT": str(port),
        # For root, whose interpreter user 1000 may not be able to read; nothing to anybody else.
        "AGENT_WORKER__USER": "keep",
        "HOME": str(folder),
        "PATH": f"{Path(sys.executable).parent}:{environment.get('PATH', os.defpath)}",
        "TERM": "xterm-256color",
        "PYTHONUTF8": "1",
    }
    try:
        with subprocess.Popen(
            ["bash", "--noprofile", "--norc"], cwd=folder, env=environment, bufsize=0,
            stdin=subprocess.PIPE, stdout=slave, stderr=slave, start_new_session=True,
        ) as process:  # fmt: skip
            try:
                yield Terminal(process, master, port)
            finally:
                os.killpg(process.pid, signal.SIGKILL)
    finally:
        os.close(slave)
        os.close(master)


def screen_lines(output: str) -> tuple[str, ...]:
    """Return what is left on a screen of a command's output, by line, with its colours.

    As far as our commands go: whole lines are erased and written anew, as progress bars are.
    """
    rows = [""]
    row = 0
    at_start = position = 0
    for control in _CONTROL.finditer(output):
        rows, at_start = _put(rows, row, output[position : control.start()], at_start)
        position = control.end()
        match control["kind"] or control[0]:
            case "\r":
                at_start = 1
            case "\n":
                row += 1
                rows += [""] * (row + 1 - len(rows))
                at_start = 0
            case "A":
                row = max(0, row - int(control["number"] or 1))
                at_start = 1
            case "K" | "J":
                rows[row] = ""
                at_start = 0
            case _:
                pass  # The cursor is hidden or shown.
    rows, _ = _put(rows, row, output[position:], at_start)
    while rows and not rows[-1].strip():
        rows.pop()
    return tuple(rows)


def _put(rows: list[str], row: int, text: str, at_start: int) -> tuple[list[str], int]:
    if not text:
        return rows, at_start
    rows[row] = text if at_start else rows[row] + text
    return rows, 0


def draw(steps: list[Step]) -> str:
    """Return the picture of a session."""
    console = Console(
        record=True, file=StringIO(), width=COLUMNS, force_terminal=True, color_system="truecolor"
    )
    for step in steps:
        console.print(Text.assemble(("$ ", "bold green"), (step.command, "bold")))
        for line in step.lines:
            console.print(Text.from_ansi(line))
    return console.export_svg(
        title=TITLE, code_format=SVG.replace("TITLE", TITLE), unique_id="session"
    )


def main() -> int:
    """Record the session of the README."""
    parser = argparse.ArgumentParser(description="Record the terminal session of the README.")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="default: docs/session.svg")
    output = parser.parse_args().output
    folder = Path(tempfile.mkdtemp(prefix="kos-session-"))
    try:
        output.write_text(draw(record(folder)))
    except SessionError as exc:
        print(exc, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
