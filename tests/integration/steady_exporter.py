"""A process that changes its state and writes it to its file, once for each line of its stdin.

::

    python -m tests.integration.steady_exporter DIRECTORY

The file is DIRECTORY/runtime/memory_store.json, the database lies beside that folder. Each line is
answered with ``written SHA256`` or ``failed ERRNO``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from kagent_sdk.protocol.state import Transaction, Write
from kagent_sdk.state.memory_file import FileLimits
from kagent_sdk.state.memory_store import MemoryStore
from kagent_sdk.state.store import apply
from kagent_sdk.storage.database import open_database

LIMITS = FileLimits("steady", 1 << 30)
KEYS = 4
VALUE_BYTES = 600_000
"""Makes a file that is written in several pieces."""


def main(directory: Path) -> None:
    """Export as often as asked."""
    opened = open_database(directory / "journal.db", "process", now_s=time.time())
    store = MemoryStore(directory / "runtime", LIMITS)
    for number, _ in enumerate(sys.stdin):
        now_s = time.time()
        value = f'"{number % 10}{"x" * VALUE_BYTES}"'.encode()
        change = Transaction(writes=(Write(f"key/{number % KEYS}", value, None),))
        apply(opened.connection, change, now_s=now_s, quota_bytes=LIMITS.quota_bytes)
        try:
            draft = store.write_draft(opened.connection, now_s)
            store.install(now_s)
        except OSError as error:
            sys.stdout.write(f"failed {error.errno}\n")
        else:
            sys.stdout.write(f"written {draft.sha256}\n")
        sys.stdout.flush()
    opened.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
