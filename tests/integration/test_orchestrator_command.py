"""`kos-agent orchestrator` and what `kos-agent up` refuses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kagent_sdk.cli.main import main
from tests.agents import agent_environment
from tests.integration.meshes import send, write_agent
from tests.integration.waiting import wait_until


@contextmanager
def command(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command for the time of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kagent_sdk", *words],
        cwd=folder,
        env=agent_environment(None, "unused"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_an_orchestrator_alone_answers_and_ends_when_it_is_told(tmp_path: Path) -> None:
    """It is a service like any other."""
    with command(tmp_path, "orchestrator", "--port", "0", "--data", "kept") as process:
        announced = tmp_path / "kept" / "orchestrator.json"
        wait_until(announced.exists)
        url = json.loads(announced.read_text())["url"]
        answer = send("GET", f"{url}/healthz", None, {})
        process.send_signal(signal.SIGTERM)
        code = process.wait(30)

        assert answer.status == 200
        assert code == 0
        assert not announced.exists()


def test_what_cannot_be_run_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An orchestrator that anybody can reach without a token could run anybody's tasks."""
    write_agent(tmp_path / "wrong", config="nmae: x\n")
    (tmp_path / "open.token").write_text("t" * 32)
    (tmp_path / "open.token").chmod(0o644)
    (tmp_path / "short.token").write_text("t" * 15)
    (tmp_path / "short.token").chmod(0o600)
    refused = {
        ("orchestrator", "--host", "0.0.0.0"): (3, "without a token for"),  # noqa: S104 - refused
        ("orchestrator", "--token-file", "open.token"): (78, "open to every user"),
        ("orchestrator", "--token-file", "short.token"): (78, "16 characters or more"),
        ("orchestrator", "--lease-s", "1"): (3, "lease_s (1) must be twice heartbeat_s (5)"),
        ("orchestrator", "--data", "open.token"): (3, "open.token: it is no folder"),
        ("up", "wrong"): (78, "wrong: config.yaml:1: nmae: unknown key; did you mean name?"),
        ("up", "gone"): (2, "there is no folder gone"),
        ("up",): (2, "there is no agent in the current folder, and no mesh.yaml here"),
    }
    monkeypatch.chdir(tmp_path)
    for words, (code, told) in refused.items():
        with pytest.raises(SystemExit) as ended:
            main(words)
        errors = capsys.readouterr().err

        assert ended.value.code == code, errors
        assert told in errors
