"""What lies in an agent's folder and is no part of the agent: neither images nor releases have it."""

from __future__ import annotations

MESH_FOLDER = ".kos-mesh"
"""Where `kos-agent up` keeps what it needs."""

ANYWHERE = frozenset(
    {
        ".DS_Store",
        ".env",
        ".git",
        ".hg",
        ".hypothesis",
        ".ipynb_checkpoints",
        MESH_FOLDER,
        ".mypy_cache",
        ".nox",
        ".pytest_cache",
        ".ruff_cache",
        ".svn",
        ".tox",
        ".venv",
        "__pycache__",
    }
)
"""Histories, caches and virtual environments, in whatever folder they lie."""

AT_THE_TOP = frozenset({"logs", "runtime", "secrets", "venv"})

ENVIRONMENT_MARK = "pyvenv.cfg"
"""What every virtual environment has, whatever its name (PEP 405)."""

COMPILED = (".pyc", ".pyo")
