"""What attempts show, and what passes between audit and probe."""

from __future__ import annotations

import dataclasses
import json
import struct

import pytest

from kagent_sdk.sandbox.audit.canaries import DONE, attempts_for, judge
from kagent_sdk.sandbox.audit.targets import Targets
from kagent_sdk.sandbox.audit.tiny_program import tiny_program
from kagent_sdk.sandbox.audit.wire import decode_findings, encode_findings
from kagent_sdk.sandbox.controls import Control, Verdict
from kagent_sdk.sandbox.policy import Network, Policy

POLICY = Policy()
TARGETS = Targets(folder="/f", file="/f/file", program="/p", vault="/v", victim=1, port=1, name="n")


def test_an_attempt_that_succeeds_is_a_hole() -> None:
    """Whatever was applied: it was possible."""
    attempt = attempts_for(POLICY, TARGETS)[0]
    finding = judge(POLICY, attempt, DONE, DONE)

    assert finding.verdict is Verdict.MISSING
    assert finding.actual == f"could {attempt.what}"
    assert finding.evidence == f"{attempt.call}: succeeded"
    assert finding.way_out


def test_an_attempt_counts_when_it_succeeds_outside() -> None:
    """What nobody can do here is no merit of the sandbox."""
    attempt = attempts_for(POLICY, TARGETS)[0]

    assert judge(POLICY, attempt, DONE, "EACCES").verdict is Verdict.IN_FORCE
    unknown = judge(POLICY, attempt, "EPERM", "EPERM")
    assert unknown.verdict is Verdict.UNKNOWN
    assert unknown.evidence.endswith("outside too")
    assert unknown.way_out == ""


def test_only_what_can_be_tried_is() -> None:
    """Without a place for a canary there is none, and what is allowed is not tried."""
    bare = dataclasses.replace(TARGETS, folder="", file="", program="", vault="")
    everything = {attempt.control for attempt in attempts_for(POLICY, TARGETS)}

    assert {Control.FILES, Control.VAULT, Control.EGRESS} <= everything
    assert not {Control.FILES, Control.VAULT} & {
        attempt.control for attempt in attempts_for(POLICY, bare)
    }
    external = Policy(network=Network(external=True))
    assert Control.EGRESS not in {attempt.control for attempt in attempts_for(external, TARGETS)}


def test_findings_survive_the_pipe() -> None:
    """The probe's words are the audit's."""
    findings = tuple(
        judge(POLICY, attempt, DONE, "EACCES") for attempt in attempts_for(POLICY, TARGETS)
    )

    assert decode_findings(encode_findings(findings)) == findings


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"", "Expecting value"),
        (b"nonsense", "Expecting value"),
        (b"{}", "no findings"),
        (b"[1]", "no finding"),
        (b"[{}]", "no finding: 'expected'"),
        (b'[{"control": "moat"}]', "no finding: 'expected'"),
    ],
)
def test_what_is_no_answer_is_refused(text: bytes, complaint: str) -> None:
    """A probe that ends half-way has proven nothing."""
    with pytest.raises(ValueError, match=complaint):
        decode_findings(text)


def test_a_finding_with_a_word_that_is_none_is_refused() -> None:
    """A newer probe's verdict is not guessed at."""
    document = json.loads(
        encode_findings((judge(POLICY, attempts_for(POLICY, TARGETS)[0], DONE, DONE),))
    )
    document[0]["verdict"] = "perhaps"

    with pytest.raises(ValueError, match="perhaps"):
        decode_findings(json.dumps(document).encode())


@pytest.mark.parametrize(("machine", "number"), [("x86_64", 62), ("aarch64", 183)])
def test_the_tiny_program_is_an_elf_file(machine: str, number: int) -> None:
    """The kernel loads what its heads say (elf(5))."""
    program = tiny_program(machine)

    assert program is not None
    assert program[:5] == b"\x7fELF\x02"
    assert struct.unpack_from("<HH", program, 16) == (2, number)
    entry, heads = struct.unpack_from("<QQ", program, 24)
    assert (entry, heads) == (0x400000 + 120, 64)
    assert struct.unpack_from("<Q", program, 64 + 32) == (len(program),)


def test_an_unknown_machine_has_none() -> None:
    """Its audit does without that canary."""
    assert tiny_program("riscv64") is None
