"""Veto a container that is not locked down: an OCI createRuntime hook.

A container engine starts this program when a container of an agent is made and not yet running. It gets
the OCI state on stdin, reads the bundle's config.json, and exits 0 when the container is locked down as
WANTED says; else it exits 1 with one line on stderr, and the engine does not start the container. What
it cannot read or does not understand is refused.

`kos-agent export oci-hook` writes this file out. It runs by itself: Python 3.9 or newer, its standard
library alone, isolated (-I), as root.

Source: https://github.com/opencontainers/runtime-spec (config.md, config-linux.md, runtime.md).
"""

from __future__ import annotations

import sys
from typing import Any

from kagent_sdk.deploy.hook.bundle import (
    Case,
    Loose,
    Machine,
    Malformed,
    look_around,
    parse,
    read_bundle,
)
from kagent_sdk.deploy.hook.files import FILE_CHECKS
from kagent_sdk.deploy.hook.process import PROCESS_CHECKS

WANTED: dict[str, Any] = {}
"""What the export writes here."""

MAX_STATE_BYTES = 1 << 20
MAX_LINE = 600
"""Characters of the line on stderr: what a bundle says must not flood a log."""


def judge(config: dict[str, Any], wanted: dict[str, Any], machine: Machine) -> list[Loose]:
    """Return what of a bundle is looser than wanted; empty: it is locked down.

    Args:
        config: of `parse`.
        wanted: as the export writes it.
        machine: where it is to run.

    Raises:
        Malformed: the bundle is not what the specification calls one.
    """
    case = Case(config, wanted, machine)
    return [loose for check in (*PROCESS_CHECKS, *FILE_CHECKS) for loose in check(case)]


def describe(found: list[Loose]) -> str:
    """Return the line for people: the first control in words, the others by their names."""
    control, what, wanted = found[0]
    line = f"{control}: found {what}; wanted {wanted}"
    others = sorted({name for name, _, _ in found[1:]} - {control})
    return f"{line}; also: {', '.join(others)}" if others else line


def main() -> int:
    """Judge the container whose state is on stdin; return 0 when it may start."""
    try:
        text = sys.stdin.buffer.read(MAX_STATE_BYTES + 1)
        if len(text) > MAX_STATE_BYTES:
            raise Malformed(f"the state is larger than {MAX_STATE_BYTES} bytes")  # noqa: TRY301
        state = parse(text)
        found = judge(read_bundle(state), WANTED, look_around(state))
        line = describe(found) if found else None
    except Malformed as exc:
        line = f"bundle: found {exc}; wanted one that can be judged"
    except BaseException as exc:  # noqa: BLE001 - whatever it is, the container does not start
        line = f"bundle: found something unforeseen ({type(exc).__name__}); wanted one that can be judged"
    if line is None:
        return 0
    sys.stderr.write(f"kos-agent-hook: refused: {line[:MAX_LINE]}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
