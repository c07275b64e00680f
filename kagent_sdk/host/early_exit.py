"""Puts the end of a host on record that ended before, or outside of, the life of `Host`."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

from kagent_sdk.host.exit_files import ExitFiles
from kagent_sdk.host.exit_identity import Identity, read_before
from kagent_sdk.protocol.last_exit import LastExit
from kagent_sdk.redaction.redactor import Redactor

WITHIN_S = 1.0
"""A disk that stands still holds up the exit for no longer."""

AGENT_FILES = ("config.yaml", "entrypoint.py")


def record_failure(directory: Path, error: BaseException) -> None:
    """Write ``last_exit.json``, in `WITHIN_S` or not at all; nothing when `Host` has done so.

    What cannot be written is left alone: the error itself is on its way to stderr.

    Args:
        directory: the agent's folder; nothing is written into one that is none.
        error: what ends the host.
    """
    thread = threading.Thread(target=_record, args=(directory, error), daemon=True)
    with suppress(RuntimeError):  # no more threads
        thread.start()
        thread.join(WITHIN_S)


def _record(directory: Path, error: BaseException) -> None:
    files = ExitFiles(directory)
    me = Identity.read()
    with suppress(OSError):
        if any((directory / name).is_file() for name in AGENT_FILES):
            files.last_exit.parent.mkdir(exist_ok=True)
        if not files.last_exit.parent.is_dir():
            return
        before = read_before(files, me, None)
        known = before.last.host
        if before.is_other_running or (known is not None and known.run == me.run):
            return
        host = me.exit(None, error, "", Redactor({}))
        files.write_last(LastExit(host=host, worker=before.last.worker))
        files.drop_note()
