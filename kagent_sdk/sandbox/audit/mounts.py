"""What /proc/PID/mountinfo says of the root and of a path. Pure (proc_pid_mountinfo(5))."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from kagent_sdk.sandbox.audit.table import observe
from kagent_sdk.sandbox.controls import Control, Finding, Severity, Verdict
from kagent_sdk.sandbox.policy import Policy

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system.

    Attributes:
        point: where it is mounted.
        kind: of the file system, such as ``ext4``.
        options: of the mount and of the file system together.
    """

    point: str
    kind: str
    options: frozenset[str]

    @property
    def is_read_only(self) -> bool:
        """Whether nothing can be written there, by anyone."""
        return "ro" in self.options


def parse_mountinfo(text: str) -> tuple[Mount, ...]:
    """Read ``/proc/PID/mountinfo``, in its order; lines that are none are skipped."""
    mounts = []
    for line in text.splitlines():
        head, separator, tail = line.partition(" - ")
        fields, rest = head.split(), tail.split()
        if separator and len(fields) >= 6 and len(rest) >= 3:
            options = frozenset(fields[5].split(",") + rest[2].split(","))
            mounts.append(Mount(_unescape(fields[4]), rest[0], options))
    return tuple(mounts)


def mount_of(path: str, mounts: tuple[Mount, ...]) -> Mount | None:
    """Return the mount that an absolute path lies in: the last of the longest ones over it."""
    over = [
        mount
        for mount in mounts
        if path == mount.point or path.startswith(mount.point.rstrip("/") + "/")
    ]
    return max(enumerate(over), key=lambda item: (len(item[1].point), item[0]))[1] if over else None


def check_root(policy: Policy, text: str, *, is_container: bool, where: str) -> tuple[Finding, ...]:
    """Judge whether the root is mounted read-only.

    Args:
        policy: for what is expected.
        text: of ``/proc/PID/mountinfo``.
        is_container: whether the root is the agent's own; that of a machine is not ours to freeze.
        where: how to call the file.
    """
    root = mount_of("/", parse_mountinfo(text))
    if root is None:
        return ()
    finding = observe(
        Control.READ_ONLY_ROOT,
        policy,
        Verdict.IN_FORCE if root.is_read_only else Verdict.MISSING,
        "read-only" if root.is_read_only else f"writable ({root.kind})",
        where,
    )
    return (replace(finding, severity=Severity.WARNING if is_container else Severity.INFO),)


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
