"""The ends of files that others write."""

from __future__ import annotations

import os
from pathlib import Path

from kagent_sdk.orchestrator.fleet.tails import last_line, read_tail


def test_the_tail_of_a_large_file_has_whole_lines_alone(tmp_path: Path) -> None:
    """Half a line of JSON is no record."""
    path = tmp_path / "log"
    path.write_text("".join(f"line {number}\n" for number in range(1000)))

    assert read_tail(path, 2) == b"line 998\nline 999\n"
    assert read_tail(path, 100, limit_bytes=24) == b"line 998\nline 999\n"
    assert read_tail(path, 0) == b""


def test_what_is_no_file_of_the_agents_is_not_read(tmp_path: Path) -> None:
    """The folder is the agent's: it could put a link to anything there."""
    (tmp_path / "secret").write_text("secret\n")
    (tmp_path / "link").symlink_to("secret")
    os.mkfifo(tmp_path / "pipe")

    assert read_tail(tmp_path / "link", 10) == b""
    assert read_tail(tmp_path / "pipe", 10) == b""
    assert read_tail(tmp_path / "nothing", 10) == b""


def test_the_last_line_that_says_something_is_fit_for_a_terminal(tmp_path: Path) -> None:
    """An agent must not write escape codes into the operator's terminal."""
    path = tmp_path / "out"
    path.write_text("first\nerror: \x1b[31mno\x1b[0m\n\n")

    assert last_line(path) == "error:  [31mno [0m"
