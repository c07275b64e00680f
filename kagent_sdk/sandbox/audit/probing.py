"""Ask a short-lived process, confined by a policy, what it still can do."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kagent_sdk.sandbox.audit.table import (
    OF_SURROUNDINGS,
    combine,
    findings_elsewhere,
    findings_when_off,
    observe,
)
from kagent_sdk.sandbox.audit.wire import Question, decode_findings
from kagent_sdk.sandbox.controls import Control, Finding, Verdict
from kagent_sdk.sandbox.policy import Isolation, Mode, Policy

TIMEOUT_S = 20.0
"""A probe takes a tenth of a second; this is for a machine that is busy."""

NAMESPACES = ("ipc", "mnt", "net", "pid", "uts")
"""What bubblewrap gives a process of its own (namespaces(7))."""

MAX_REASON_CHARS = 300

SYSTEM_NAMES = {"darwin": "macOS", "win32": "Windows"}

_PROBE = Path(__file__).with_name("probe.py")


def audit_worker(
    policy: Policy,
    *,
    vault: Path | None = None,
    outside: Sequence[Path] = (),
    wrapper: Sequence[str] = (),
    on_start: Callable[[subprocess.Popen[bytes]], None] | None = None,
) -> tuple[Finding, ...]:
    """Return one finding for each control, from a process that was confined as a worker is.

    Blocks for about a tenth of a second: call it in a thread. Nothing stays of the process, and of
    the files that it makes.

    Args:
        policy: what workers are confined by.
        vault: a file that they should not be able to read.
        outside: folders that the policy gives nothing of, to try them; the system's folder for
            temporary files is tried as well.
        wrapper: the program, with its arguments, that makes the worker's namespaces; empty for none.
        on_start: told of the probe, whose process group may then be killed from another thread; what
            only a probe sees is unknown then, as it is after `TIMEOUT_S`.
    """
    if sys.platform != "linux":
        system = SYSTEM_NAMES.get(sys.platform, sys.platform)
        return combine(policy, findings_elsewhere(policy, system))
    if policy.mode is Mode.OFF:
        return combine(policy, findings_when_off(policy))
    question = Question(
        policy=policy,
        vault="" if vault is None else str(vault),
        outside=(*(str(folder) for folder in outside), tempfile.gettempdir()),
        namespaces=_own_namespaces(policy) if policy.isolation is Isolation.BWRAP else (),
    )
    try:
        found = decode_findings(_ask(question, wrapper, on_start))
    except (OSError, ValueError, subprocess.TimeoutExpired) as exc:
        found = _without_answer(policy, exc)
    return combine(policy, found)


def _ask(
    question: Question,
    wrapper: Sequence[str],
    on_start: Callable[[subprocess.Popen[bytes]], None] | None,
) -> bytes:
    probe: subprocess.Popen[bytes] = subprocess.Popen(
        [*wrapper, sys.executable, "-I", "-S", str(_PROBE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
        **_user_of(question.policy),
    )
    with probe as process:
        if on_start is not None:
            on_start(process)
        try:
            answer, complaint = process.communicate(pickle.dumps(question), timeout=TIMEOUT_S)
        except BaseException:
            end_probe(process)
            raise
    if not answer:
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        raise ValueError(last or "it ended without an answer")
    return answer


def _user_of(policy: Policy) -> dict[str, Any]:
    """Let a probe that root starts be the user that a host would have become before."""
    if policy.user is None or os.geteuid() != 0:
        return {}
    return {"user": policy.user, "group": policy.user, "extra_groups": ()}


def end_probe(process: subprocess.Popen[bytes]) -> None:
    """End a probe and all that it has started; nothing once it was waited for."""
    # Asked anew: whoever reaps this process' orphans may have waited for it, and freed its number.
    if process.poll() is not None:
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:
        process.kill()


def _without_answer(policy: Policy, reason: Exception) -> tuple[Finding, ...]:
    text = "it took too long" if isinstance(reason, subprocess.TimeoutExpired) else str(reason)
    way_out = f"see why nothing can be confined here: {text[:MAX_REASON_CHARS]}"
    return tuple(
        replace(
            observe(control, policy, Verdict.UNKNOWN, "could not be found out", "the probe failed"),
            way_out=way_out,
        )
        for control in Control
        if control not in OF_SURROUNDINGS
    )


def _own_namespaces(policy: Policy) -> tuple[tuple[str, str], ...]:
    # Who may reach the network, or be reached, has it in common with the host.
    is_shared = policy.network.external or bool(policy.network.listen)
    kinds = [kind for kind in NAMESPACES if kind != "net" or not is_shared]
    return tuple((kind, str(Path(f"/proc/self/ns/{kind}").readlink())) for kind in kinds)
