"""The agent under test, in a folder of its own for every test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.faulty_disk import build_library
from tests.integration.readable_python import make_readable_python

SUBJECT = Path(__file__).parent / "subject"


@pytest.fixture
def subject(tmp_path: Path) -> Path:
    """Return a fresh copy of the subject's folder."""
    return copy_subject(tmp_path)


def copy_subject(parent: Path) -> Path:
    """Copy the subject's folder into ``parent``; return the copy."""
    return _copy(SUBJECT, parent)


def copy_ledger(parent: Path) -> Path:
    """Copy the folder of the agent that keeps accounts; return the copy."""
    return _copy(SUBJECT.parent / "ledger", parent)


def copy_diary(parent: Path) -> Path:
    """Copy the folder of the agent that remembers what it is told; return the copy."""
    return _copy(SUBJECT.parent / "diary", parent)


def copy_rogue(parent: Path) -> Path:
    """Copy the folder of the agent whose worker keeps to no rule; return the copy."""
    return _copy(SUBJECT.parent / "rogue", parent)


def copy_relay(parent: Path) -> Path:
    """Copy the folder of the agent that calls itself; return the copy."""
    return _copy(SUBJECT.parent / "relay", parent)


def copy_chatterbox(parent: Path) -> Path:
    """Copy the folder of the agent that prints; return the copy."""
    return _copy(SUBJECT.parent / "chatterbox", parent)


def copy_blabber(parent: Path) -> Path:
    """Copy the folder of the agent that cannot keep a secret; return the copy."""
    return _copy(SUBJECT.parent / "blabber", parent)


def _copy(folder: Path, parent: Path) -> Path:
    copy = parent / folder.name
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="session")
def readable_python() -> Iterator[Path]:
    """Return an interpreter, with the package, that user 1000 can read."""
    folder = Path(tempfile.mkdtemp(prefix="kos-python-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield make_readable_python(folder)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def faulty_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the library that makes disks fail, compiled for this run."""
    return build_library(tmp_path_factory.mktemp("faulty-disk"))
