"""Tests of `kagent_sdk.cli.launch` and `kagent_sdk.cli.entry`: the way around click."""

from __future__ import annotations

from pathlib import Path

import pytest

from kagent_sdk.cli import entry
from kagent_sdk.cli.launch import Launch, read_launch


@pytest.mark.parametrize(
    ("line", "launch"),
    [
        ("", Launch(Path())),
        ("agent", Launch(Path("agent"))),
        ("--port 0 agent --host ::1", Launch(Path("agent"), host="::1", port=0)),
        ("agent --workers 64 --port 65535", Launch(Path("agent"), port=65535, workers=64)),
        ("--port 1 --port 2", Launch(port=2)),
    ],
)
def test_plain_words_are_understood(line: str, launch: Launch) -> None:
    """Every agent starts with them, and each start without click is 25 ms shorter."""
    assert read_launch(line.split()) == launch


@pytest.mark.parametrize(
    "line",
    [
        "--help",
        "-h",
        "agent other",
        "agent --isolation container",
        "--port",
        "--port=1",
        "--port -1",
        "--port 65536",
        "--port ١",
        f"--port {'9' * 5000}",
        "--workers 0",
        "--workers 65",
        "--workers many",
        "--wat",
        "--host --port 1",
        "-- agent",
        "-",
    ],
)
def test_the_rest_is_left_to_click(line: str) -> None:
    """Help and complaints stand in one place."""
    assert read_launch(line.split()) is None


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("run /no/such/agent", 2, "error: there is no agent at /no/such/agent; make one with: "),
        ("run --port 65536", 2, "error: invalid value for '--port'"),
        ("run . .", 2, "error: got unexpected extra argument"),
        ("rum", 2, "error: there is no command 'rum'; did you mean 'kos-agent run'?"),
    ],
)
def test_both_ways_complain_alike(
    line: str,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nobody should notice which way was taken."""
    monkeypatch.setattr("sys.argv", ["kos-agent", *line.split()])
    with pytest.raises(SystemExit) as caught:
        entry.main()
    shown = capsys.readouterr().err

    assert caught.value.code == code
    assert shown.startswith(message)
