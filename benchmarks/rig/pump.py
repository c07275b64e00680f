"""What stands between a worker's output and the log file, by itself: reads stdin, prints its times.

``python -m rig.pump MODE FILE LINES``, where the mode is *straight* (no pipe: write the lines to the file),
*copy* (read the pipe, write the file), *pump* (the log pump), *redact* (with 20 secrets) or *redact-python*
(the same without google-re2).
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from rig.chatter import chatter

SECRETS = 20
READ_BYTES = 256 * 1024


def straight(path: Path, lines: int) -> Callable[[], None]:
    """Write the lines themselves."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    return lambda: chatter(fd, lines)


def copy(path: Path) -> Callable[[], None]:
    """Move bytes from the pipe into the file, whatever they are."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def move() -> None:
        while data := os.read(0, READ_BYTES):
            os.write(fd, data)

    return move


def pump(path: Path, secrets: int) -> Callable[[], None]:
    """Have the log pump do it, as a host does."""
    from kagent_sdk.config.models import LogsConfig  # noqa: PLC0415 - the others need none of it
    from kagent_sdk.host.logs.pump import LogPump, WorkerOutput  # noqa: PLC0415
    from kagent_sdk.redaction.redactor import Redactor  # noqa: PLC0415

    ended = threading.Event()
    # Rotated as ever, but nothing is deleted: all lines are counted afterwards.
    made = LogPump(path, agent="benchmark", config=LogsConfig(tee="none", keep_files=1000))
    made.redactor = Redactor({f"key_{n}": os.urandom(16).hex() for n in range(secrets)})
    made.start()

    def move() -> None:
        made.attach(WorkerOutput(os.dup(0), stream="stdout", pid=1, on_end=ended.set))
        ended.wait()
        made.close(60)

    return move


def main(mode: str, path: Path, lines: int) -> None:
    """Do it, and print how long it took."""
    if mode == "straight":
        move = straight(path, lines)
    elif mode == "copy":
        move = copy(path)
    else:
        if mode == "redact-python":
            sys.modules["re2"] = None  # type: ignore[assignment]  # the import fails then
        move = pump(path, 0 if mode == "pump" else SECRETS)
    began_s, used_s = time.perf_counter(), time.process_time()
    move()
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - used_s
    print(json.dumps({"wall_s": wall_s, "cpu_s": cpu_s}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
