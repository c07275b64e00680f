"""Looking at a snapshot without doing anything with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kagent_sdk.snapshots.intake import Intake, Nowhere
from kagent_sdk.snapshots.manifest import Manifest
from kagent_sdk.snapshots.reading import OnRead, open_archive
from kagent_sdk.storage.schema import SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found.

    Attributes:
        problems: a line for each damaged member; empty when all is right.
        is_newer: its rows were not looked at, for a newer release has made it.
    """

    manifest: Manifest
    problems: tuple[str, ...]
    is_newer: bool


def inspect(path: Path, max_bytes: int) -> Manifest:
    """Return what a snapshot says of itself.

    Raises:
        SnapshotError: it is none, or its outer shape or its manifest is damaged.
    """
    with open_archive(path, max_bytes) as archive:
        return archive.manifest


def verify(path: Path, max_bytes: int, on_read: OnRead = lambda _done, _all: None) -> Verdict:
    """Read all of a snapshot and check every member.

    Args:
        path: of the file.
        max_bytes: what it may unpack to.
        on_read: told how far it is.

    Raises:
        SnapshotError: it cannot even be read as far as its manifest.
    """
    with open_archive(path, max_bytes, on_read) as archive:
        problems = Intake(archive, Nowhere()).run()
        return Verdict(archive.manifest, problems, archive.manifest.schema_version > SCHEMA_VERSION)
