"""Run by the interpreter of kagent_sdk: makes a plan, or times what a process does under it.

    python cell.py plan FOLDER ISOLATION         the plan of an agent's workers, to stdout
    python -S cell.py time FOLDER < PLAN         apply it and time calls, as JSON to stdout
    python -S cell.py time FOLDER < /dev/null    the same without a plan

As the launcher does, it imports nothing of `site` before it is confined.
"""

from __future__ import annotations

import marshal
import os
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CALLS = 2000
BATCHES = 9
BLOCK = b"x" * 4096


def make_plan(folder: str) -> None:
    """Write the plan of the workers of an agent with the defaults."""
    sys.path.insert(0, ROOT)
    from pathlib import Path  # noqa: PLC0415 - not where time is measured

    from kagent_sdk.config import AgentConfig  # noqa: PLC0415
    from kagent_sdk.host.confinement import find_confinement  # noqa: PLC0415
    from kagent_sdk.sandbox.plan import encode_plan  # noqa: PLC0415
    from kagent_sdk.sandbox.plan import make_plan as plan_of  # noqa: PLC0415

    config = AgentConfig.model_validate({"worker": {"user": "keep"}})
    policy = find_confinement(Path(folder), config, {}).policy(config)
    sys.stdout.buffer.write(encode_plan(plan_of(policy)))


def apply_plan(encoded: bytes) -> float:
    """Confine this process; return the seconds that it took, imports included."""
    began_s = time.perf_counter()
    for name, place in (("kagent_sdk", "kagent_sdk"), ("kagent_sdk.sandbox", "kagent_sdk/sandbox")):
        stand_in = type(sys)(name)
        stand_in.__path__ = [f"{ROOT}/{place}"]
        sys.modules[name] = stand_in
    from kagent_sdk.sandbox.application import apply  # noqa: PLC0415 - what is timed

    plan: dict[str, Any] = marshal.loads(encoded)  # noqa: S302 - what the other half wrote
    apply(plan)
    return time.perf_counter() - began_s


def time_calls(folder: str) -> dict[str, float]:
    """Return microseconds of each call: the median of some batches."""
    path = os.path.join(folder, "runtime/data/block")
    with open(path, "wb") as file:
        file.write(BLOCK)
    descriptor = os.open(path, os.O_RDWR)

    def open_and_close() -> None:
        os.close(os.open(path, os.O_RDONLY))

    def pair() -> None:
        left, right = socket.socketpair()
        left.close()
        right.close()

    calls: dict[str, Callable[[], object]] = {
        "open and close": open_and_close,
        "stat": lambda: os.stat(path),
        "read 4 KiB": lambda: os.pread(descriptor, 4096, 0),
        "write 4 KiB": lambda: os.pwrite(descriptor, BLOCK, 0),
        "socket pair": pair,
        "getppid": os.getppid,
    }
    return {name: _time(call) for name, call in calls.items()}


def _time(call: Callable[[], object]) -> float:
    found = []
    for _ in range(BATCHES):
        began_s = time.perf_counter()
        for _ in range(CALLS):
            call()
        found.append((time.perf_counter() - began_s) / CALLS * 1e6)
    return sorted(found)[BATCHES // 2]


def main() -> None:
    """Do what the arguments say."""
    if sys.argv[1] == "plan":
        make_plan(sys.argv[2])
        return
    encoded = sys.stdin.buffer.read()
    apply_s = apply_plan(encoded) if encoded else 0.0
    found = {"apply_ms": apply_s * 1000, **time_calls(sys.argv[2])}
    rows = ", ".join(f'"{name}": {value}' for name, value in found.items())
    sys.stdout.write(f"{{{rows}}}\n")


if __name__ == "__main__":
    main()
