"""``python -S probe.py``: be confined by a policy and tell what then still can be done.

Reads a `Question` from stdin, writes findings to stdout. This process itself stays as it was started: it
makes what the attempts are made at, lets them be made by children of its own, and then by children of
one child that confines itself as a worker is confined.
"""

from __future__ import annotations

# A probe is a short-lived interpreter, and pathlib would be a good part of its start:
# ruff: noqa: PTH115, PTH120, PTH123
import os
import sys

if __name__ == "__main__":
    # At the end: what lies beside this package must not stand before the standard library.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(__file__)))))

import json
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from kagent_sdk.errors import SandboxError
from kagent_sdk.sandbox.audit.canaries import DONE, Attempt, attempts_for, judge, make_attempt
from kagent_sdk.sandbox.audit.process import check_limits, check_status
from kagent_sdk.sandbox.audit.routes import has_way_out
from kagent_sdk.sandbox.audit.table import check_egress, observe
from kagent_sdk.sandbox.audit.targets import Targets, make_targets
from kagent_sdk.sandbox.audit.wire import (
    Question,
    decode_finding,
    encode_finding,
    encode_findings,
)
from kagent_sdk.sandbox.controls import Control, Finding, Verdict
from kagent_sdk.sandbox.policy import Isolation, Mode, Policy

MAX_ANSWER_BYTES = 1 << 20
HIGHEST_FD = 4096
"""Descriptors are looked for up to here: the limit may be millions, and each look is a system call."""


Confine = Callable[[Policy], Sequence[Finding]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the confined child tells.

    Attributes:
        applied: what it was told of each control while it was applied.
        outcomes: how the attempts ended, in their order.
        is_dumpable: whether a crash of it could leave an image.
        descriptors: open ones, besides 0, 1 and 2.
    """

    applied: tuple[Finding, ...]
    outcomes: tuple[str, ...]
    is_dumpable: bool
    descriptors: tuple[int, ...]


def main() -> None:
    """Answer one question."""
    from kagent_sdk.sandbox.confine import confine  # noqa: PLC0415 - tests bring their own

    _die_with_asker()
    question = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this one
    sys.stdout.buffer.write(encode_findings(examine(question, confine)))


def _die_with_asker() -> None:
    """Let the kernel kill this process when the thread that started it ends (prctl(2)).

    The children end by themselves: they wait on pipes that close then.
    """
    from kagent_sdk.sandbox.kernel import PR_SET_PDEATHSIG, prctl  # noqa: PLC0415 - Linux only

    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def examine(question: Question, confine: Confine) -> tuple[Finding, ...]:
    """Return what was applied, seen and tried; call it in a process of its own, with one thread.

    What cannot be applied is a finding here, whatever the policy's mode.
    """
    policy = replace(question.policy, mode=Mode.REPORT, keep_fds=(), require=())
    with ExitStack() as stack:
        targets = stack.enter_context(make_targets(question))
        attempts = attempts_for(policy, targets)
        outside = [_try_unconfined(policy, attempt, targets) for attempt in attempts]
        child = stack.enter_context(_confined(policy, confine, attempts, targets))
        answer = child.answer
        return (
            *answer.applied,
            *check_status(policy, child.read("status"), where="/proc/PID/status"),
            *check_limits(
                policy,
                child.read("limits"),
                core_pattern=_read("/proc/sys/kernel/core_pattern"),
                is_dumpable=answer.is_dumpable,
                where="/proc/PID/limits",
            ),
            _check_descriptors(policy, answer.descriptors),
            *_check_namespaces(question),
            *check_egress(
                policy,
                has_way_out=has_way_out(_read("/proc/net/route"), _read("/proc/net/ipv6_route")),
            ),
            *(
                judge(policy, attempt, before, inside)
                for attempt, before, inside in zip(attempts, outside, answer.outcomes, strict=True)
            ),
        )


def _try_unconfined(policy: Policy, attempt: Attempt, targets: Targets) -> str:
    """Return how an attempt ends without the policy."""
    if attempt.control is Control.VAULT and policy.isolation is Isolation.BWRAP:
        # Inside the namespaces it is not there, confined or not; who asks has read it outside.
        return DONE
    return make_attempt(attempt, targets)


# The confined child


@dataclass(frozen=True, slots=True)
class _Child:
    pid: int
    answer: Answer

    def read(self, name: str) -> str:
        return _read(f"/proc/{self.pid}/{name}")


@contextmanager
def _confined(
    policy: Policy, confine: Confine, attempts: Sequence[Attempt], targets: Targets
) -> Iterator[_Child]:
    """Have a child that confined itself and made the attempts; it waits until the end of the block."""
    go_read, go_write = os.pipe()
    answer_read, answer_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(go_read, 0)
            os.dup2(answer_write, 1)
            for descriptor in (go_read, go_write, answer_read, answer_write):
                os.close(descriptor)
            _answer(policy, confine, attempts, targets)
            os.close(1)
            os.read(0, 1)
        finally:
            os._exit(0)
    os.close(go_read)
    os.close(answer_write)
    try:
        with open(answer_read, "rb") as pipe:
            yield _Child(pid, _decode(attempts, pipe.read(MAX_ANSWER_BYTES)))
    finally:
        os.close(go_write)
        os.waitpid(pid, 0)


def _answer(
    policy: Policy, confine: Confine, attempts: Sequence[Attempt], targets: Targets
) -> None:
    try:
        applied = tuple(confine(policy))
    except SandboxError as exc:
        failed = observe(
            Control(exc.control), policy, Verdict.MISSING, str(exc), "when it was applied"
        )
        applied = (replace(failed, way_out=exc.way_out),)
    document = {
        "applied": [encode_finding(finding) for finding in applied],
        "is_dumpable": _is_dumpable(),
        "descriptors": _open_descriptors(),
        "outcomes": [make_attempt(attempt, targets) for attempt in attempts],
    }
    os.write(1, json.dumps(document).encode())


def _decode(attempts: Sequence[Attempt], text: bytes) -> Answer:
    """Read the child's answer; one that ended without one has shown nothing."""
    if not text:
        return Answer((), ("no answer",) * len(attempts), is_dumpable=True, descriptors=())
    document = json.loads(text)
    return Answer(
        applied=tuple(decode_finding(entry) for entry in document["applied"]),
        outcomes=tuple(document["outcomes"]),
        is_dumpable=document["is_dumpable"],
        descriptors=tuple(document["descriptors"]),
    )


def _is_dumpable() -> bool:
    from kagent_sdk.sandbox.kernel import PR_GET_DUMPABLE, prctl  # noqa: PLC0415 - Linux only

    return bool(prctl(PR_GET_DUMPABLE))


def _open_descriptors() -> list[int]:
    found = []
    for descriptor in range(3, HIGHEST_FD):
        try:
            os.fstat(descriptor)
        except OSError:
            continue
        found.append(descriptor)
    return found


# What is seen


def _check_descriptors(policy: Policy, descriptors: Sequence[int]) -> Finding:
    return observe(
        Control.DESCRIPTORS,
        policy,
        Verdict.MISSING if descriptors else Verdict.IN_FORCE,
        f"{len(descriptors)} inherited" if descriptors else "none inherited",
        "fstat(2)",
    )


def _check_namespaces(question: Question) -> tuple[Finding, ...]:
    if not question.namespaces:
        return ()
    shared = [
        kind for kind, name in question.namespaces if _read_link(f"/proc/self/ns/{kind}") == name
    ]
    return (
        observe(
            Control.NAMESPACES,
            question.policy,
            _verdict_on(len(shared), len(question.namespaces)),
            f"shared with the host: {', '.join(shared)}" if shared else "all of its own",
            "/proc/PID/ns",
        ),
    )


def _verdict_on(shared: int, total: int) -> Verdict:
    if shared == total:
        return Verdict.MISSING
    return Verdict.WEAKER if shared else Verdict.IN_FORCE


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(MAX_ANSWER_BYTES)
    except OSError:
        return ""


def _read_link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


if __name__ == "__main__":
    main()
