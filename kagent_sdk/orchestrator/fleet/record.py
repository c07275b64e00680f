"""``fleet.json``: what the fleet runs, for the orchestrator that comes after this one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kagent_sdk.orchestrator.fleet.ownership import write_secret
from kagent_sdk.orchestrator.fleet.process import Identity

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 4 * 1024 * 1024
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", validate_assignment=True)


class ProcessRecord(_Part):
    """A host that was started."""

    pid: int = Field(ge=2)
    started: int
    boot: str

    @property
    def identity(self) -> Identity:
        """What tells it from others."""
        return Identity(self.pid, self.started, self.boot)


class AgentRecord(_Part):
    """One agent of the fleet."""

    release: str | None = None
    previous: str | None = None
    asked: int = Field(0, ge=0)
    replicas: int = Field(0, ge=0)
    processes: dict[str, ProcessRecord] = Field(default_factory=dict)


class FleetRecord(_Part):
    """All of it.

    Attributes:
        url: where the orchestrator listened.
        link: where its agents look for their tasks: there, or at NATS.
    """

    version: int = 1
    url: str | None = None
    link: str | None = None
    agents: dict[str, AgentRecord] = Field(default_factory=dict)


def read_record(path: Path) -> FleetRecord:
    """Return what was written down; nothing, where it is missing or damaged.

    Running hosts are found in their folders all the same.
    """
    try:
        with os.fdopen(os.open(path, _FLAGS), "rb") as file:
            return FleetRecord.model_validate_json(file.read(MAX_BYTES))
    except (OSError, ValidationError):
        return FleetRecord()


def write_record(path: Path, text: bytes) -> None:
    """Write it down, whole or not at all; it blocks.

    Raises:
        OSError: it cannot be written.
    """
    write_secret(path, text, None)
