"""Which files of an agent's folder are the author's, and how a change of them is told. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath

HOST_FOLDERS = frozenset({"runtime", "logs", "secrets"})
"""At the top of the folder: written by host and worker, or reloaded by the vault's own watch."""

GENERATED_FOLDERS = frozenset({"__pycache__", "node_modules", "venv"})
"""At any depth. Whatever begins with a dot is left out too: .git, .venv, caches, editors' files."""

GENERATED_ENDINGS = ("~", ".pyc", ".pyo", ".swp", ".tmp")
MAX_SHOWN = 3


def is_authors(path: PurePath) -> bool:
    """Say whether a change of this file, relative to the agent's folder, is one to reload for."""
    parts = path.parts
    if not parts or parts[0] in HOST_FOLDERS or path.name.endswith(GENERATED_ENDINGS):
        return False
    return not any(part.startswith(".") or part in GENERATED_FOLDERS for part in parts)


def describe_changes(paths: Iterable[PurePath]) -> str:
    """Name what changed: a few files, and how many more."""
    names = sorted({str(path) for path in paths})
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return f"{', '.join(names[:MAX_SHOWN])}{more}"
