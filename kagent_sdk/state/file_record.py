"""What the database knows of the files beside it: rows of the table ``meta``."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass
from pathlib import Path

ORIGIN = "state_origin"
EXPORT = "state_export"
PROBLEMS = "state_problems"
MAX_PROBLEMS = 20
"""That are remembered; the files of older ones are still there."""


@dataclass(frozen=True, slots=True)
class ExportRecord:
    """The last export.

    Attributes:
        version: of the state that is in the file; None: what is there must be written anew.
        sha256: of the file.
        next_sha256: of the one that takes its place, if that was under way: a crash leaves either.
        at_s: seconds since the epoch.
    """

    version: int | None = None
    sha256: str | None = None
    next_sha256: str | None = None
    at_s: float | None = None

    @property
    def known(self) -> frozenset[str]:
        """Hashes of files that are the agent's own."""
        return frozenset(one for one in (self.sha256, self.next_sha256) if one is not None)


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that was put aside.

    Attributes:
        file: its name now, in ``runtime/``.
        at_s: when, in seconds since the epoch.
        reason: what was wrong with it, and what to do.
    """

    file: str
    at_s: float
    reason: str


def read_origin(connection: sqlite3.Connection) -> str | None:
    """Return where the state came from when the database was new; None: it is new."""
    return _read(connection, ORIGIN)


def write_origin(connection: sqlite3.Connection, origin: str) -> None:
    """Note where the state came from."""
    _write(connection, ORIGIN, origin)


def read_export(connection: sqlite3.Connection) -> ExportRecord:
    """Return what is known of the last export."""
    text = _read(connection, EXPORT)
    return ExportRecord() if text is None else ExportRecord(**json.loads(text))


def write_export(connection: sqlite3.Connection, record: ExportRecord) -> None:
    """Note an export."""
    _write(connection, EXPORT, json.dumps(asdict(record)))


def read_problems(connection: sqlite3.Connection, folder: Path) -> tuple[Problem, ...]:
    """Return the problems whose files are still there: who moves one away has dealt with it."""
    text = _read(connection, PROBLEMS)
    problems = [] if text is None else [Problem(**entry) for entry in json.loads(text)]
    return tuple(problem for problem in problems if (folder / problem.file).exists())


def write_problems(connection: sqlite3.Connection, problems: tuple[Problem, ...]) -> None:
    """Remember problems, the newest of them."""
    _write(connection, PROBLEMS, json.dumps([asdict(one) for one in problems[-MAX_PROBLEMS:]]))


def _read(connection: sqlite3.Connection, name: str) -> str | None:
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def _write(connection: sqlite3.Connection, name: str, value: str) -> None:
    connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (name, value))
