"""What passes between the audit and its probe. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from kagent_sdk.sandbox.controls import Control, Finding, Severity, Verdict
from kagent_sdk.sandbox.policy import Policy


@dataclass(frozen=True, slots=True)
class Question:
    """What a probe is to find out.

    Attributes:
        policy: what it is to be confined by.
        vault: a file that it should not be able to read; empty where there is none.
        outside: folders to try to read and write in: the first that the policy gives nothing of, and
            that can be written without it.
        namespaces: those of who asks, by kind, such as ``("net", "net:[4026531840]")``.
    """

    policy: Policy
    vault: str = ""
    outside: tuple[str, ...] = ()
    namespaces: tuple[tuple[str, str], ...] = ()


def encode_finding(finding: Finding) -> dict[str, str]:
    """Return a finding as JSON has it."""
    return {
        "control": finding.control.value,
        "verdict": finding.verdict.value,
        "expected": finding.expected,
        "actual": finding.actual,
        "evidence": finding.evidence,
        "severity": finding.severity.value,
        "way_out": finding.way_out,
    }


def decode_finding(document: Any) -> Finding:
    """Return the finding of a JSON value.

    Raises:
        ValueError: it is none.
    """
    try:
        texts = {
            name: str(document[name]) for name in ("expected", "actual", "evidence", "way_out")
        }
        return Finding(
            control=Control(document["control"]),
            verdict=Verdict(document["verdict"]),
            severity=Severity(document["severity"]),
            **texts,
        )
    except (KeyError, TypeError) as exc:
        raise ValueError(f"no finding: {exc}") from None


def encode_findings(findings: tuple[Finding, ...]) -> bytes:
    """Return findings as JSON."""
    return json.dumps([encode_finding(finding) for finding in findings]).encode()


def decode_findings(text: bytes) -> tuple[Finding, ...]:
    """Return the findings of a JSON text.

    Raises:
        ValueError: it is none.
    """
    document = json.loads(text)
    if not isinstance(document, list):
        raise ValueError("no findings")  # noqa: TRY004 - what came is a text, and a wrong one
    return tuple(decode_finding(entry) for entry in document)
