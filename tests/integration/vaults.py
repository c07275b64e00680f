"""Vaults of agents under test: written as they should be kept, replaced as operators do it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

EXPOSE = "secrets:\n  expose: [key, db.password, number]\n"


def vault_file(directory: Path) -> Path:
    """Return where an agent's vault lies."""
    return directory / "secrets" / "vault.json"


def make_vault(number: int = 0, **more: Any) -> dict[str, Any]:
    """Return a vault's content; every value of a number is another."""
    return {
        "key": f"sk-p/ä+s s\"'<{number:06}>",
        "db": {"password": f"correct-horse-{number:06}", "user": f"only-for-host-{number:06}"},
        "number": str(number),
        **more,
    }


def put_vault(directory: Path, content: dict[str, Any] | bytes, mode: int = 0o600) -> None:
    """Replace the vault by an atomic rename."""
    file = vault_file(directory)
    file.parent.mkdir(exist_ok=True)
    new = file.with_name(".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_CREAT | os.O_WRONLY | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content if isinstance(content, bytes) else json.dumps(content).encode())
    new.chmod(mode)
    new.rename(file)


def mount_vault(directory: Path, version: str, content: dict[str, Any]) -> None:
    """Replace the vault as Kubernetes does: a new folder, and ``..data`` swapped to it."""
    folder = directory / "secrets"
    (folder / version).mkdir(parents=True)
    file = folder / version / "vault.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(content))
    swapped = folder / "..data_tmp"
    swapped.symlink_to(version)
    swapped.rename(folder / "..data")
    if not vault_file(directory).is_symlink():
        vault_file(directory).symlink_to("..data/vault.json")
