"""Folders of agents that run `program/program.py` by ``worker.command``."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

PROGRAM = Path(__file__).parent / "program" / "program.py"


def write_program_agent(
    parent: Path, *steps: str, secrets: dict[str, Any] | None = None, **config: Any
) -> Path:
    """Make an agent's folder whose worker takes these steps; return it.

    Args:
        parent: where to make it.
        steps: the program's arguments.
        secrets: the vault, all of it exposed.
        config: sections of ``config.yaml`` beside ``worker.command``.
    """
    folder = parent / "agent"
    folder.mkdir(exist_ok=True)
    shutil.copy(PROGRAM, folder)
    worker = {"command": [sys.executable, "program.py", *steps], **config.pop("worker", {})}
    sections = {"worker": worker, **config}
    if secrets is not None:
        vault = folder / "secrets" / "vault.json"
        vault.parent.mkdir(exist_ok=True)
        vault.touch(mode=0o600)
        vault.write_text(json.dumps(secrets))
        sections["secrets"] = {"expose": list(secrets)}
    (folder / "config.yaml").write_text(yaml.safe_dump(sections))
    return folder


def read_facts(folder: Path) -> dict[str, Any]:
    """Return what the program found when it started."""
    facts = json.loads((folder / "runtime/data/facts.json").read_text())
    assert isinstance(facts, dict)
    return facts
