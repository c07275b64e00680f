"""The sections ``sandbox`` and ``egress`` of ``/status``: what is in force, and what went out.

Readers ignore members that they do not know. This module costs a pydantic import and is therefore
kept off the host's start path.
"""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

CRITICAL = "critical"
HOLDING = frozenset({"in_force", "not_asked_for"})
"""Verdicts with which nothing has to be done."""


class Part(BaseModel):
    """A part of the document: frozen, and tolerant of members that a newer host adds."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ControlInfo(Part):
    """One control of the sandbox."""

    control: str = Field(description="Its name, as sandbox.require has it.")
    verdict: Literal["in_force", "weaker", "missing", "not_asked_for", "unknown"]
    expected: str = Field(description="What the policy wants, in a few words.")
    actual: str = Field(description="What was found.")
    evidence: str = Field(description="Where that was seen, or what was tried.")
    severity: Literal["critical", "warning", "info"] = Field(
        description="How bad it is when it does not hold."
    )
    way_out: str = Field("", description="How to get it; empty when it holds.")

    @property
    def holds(self) -> bool:
        """Whether nothing has to be done."""
        return self.verdict in HOLDING

    @property
    def is_open(self) -> bool:
        """Whether it is critical and does not hold."""
        return self.severity == CRITICAL and not self.holds


class SandboxInfo(Part):
    """What the worker may do, and what of that is in force."""

    mode: Literal["enforce", "report", "off"] | None = None
    isolation: Literal["process", "bwrap"] | None = None
    checked_at: AwareDatetime | None = Field(None, description="null before the first audit.")
    holds: bool | None = Field(
        None, description="All that is critical holds; null before the first audit."
    )
    controls: tuple[ControlInfo, ...] = ()


class EgressDestination(Part):
    """What went through the proxy by one entry of ``sandbox.network.allow``."""

    destination: str = Field(description="The entry.")
    tunnel: int = Field(0, description="TLS connections (CONNECT).")
    plain: int = Field(0, description="Requests for http:// URLs.")
    inject: int = Field(0, description="Requests to AGENT_EGRESS_URL.")
    failed: dict[str, int] = Field(default={}, description="Of these, by reason.")
    sent_bytes: int = 0
    received_bytes: int = 0


class EgressDenial(Part):
    """A destination that the proxy has refused."""

    destination: str = Field(description="Host and port; empty where it was none.")
    reason: str = Field(description="A stable name for programs.")
    message: str = Field(description="What to do about it: the line for config.yaml.")
    count: int = 1
    at: AwareDatetime = Field(description="When last.")


class EgressInfo(Part):
    """The egress proxy, the only way out of the sandbox."""

    running: bool = False
    connections: int = Field(0, description="Of workers, now.")
    destinations: tuple[EgressDestination, ...] = ()
    refused: dict[str, int] = Field(default={}, description="How often, by reason.")
    denials: tuple[EgressDenial, ...] = Field((), description="The latest first.")
