"""Reading a log as a whole, and the faults of disks that only the kernel can make."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

REQUIRED = {"timestamp", "level", "event", "stream", "agent", "pid"}


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return all records of ``logs/``, the oldest first; each must be whole and complete."""
    rotated = sorted(folder.glob("logs/runtime.log.*"), key=lambda path: -int(path.suffix[1:]))
    lines = [
        line
        for path in [*rotated, folder / "logs" / "runtime.log"]
        for line in path.read_bytes().split(b"\n")
        if line
    ]
    records = [json.loads(line) for line in lines]
    assert all(record.keys() >= REQUIRED for record in records)
    return records


def events(folder: Path) -> list[str]:
    """Return the events of a log."""
    return [record["event"] for record in read_log(folder)]


@contextmanager
def mounted_tmpfs(folder: Path, *options: str) -> Iterator[Path]:
    """Mount a file system in memory over a folder until the end of the block."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("platform: there is no mount")
    if done.returncode:
        pytest.skip(f"platform: file systems cannot be mounted here ({done.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
