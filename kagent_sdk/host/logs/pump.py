"""Everything that the worker prints, and what the host has to say, as JSON lines in one file.

A thread of its own does all reading and writing, so that neither a slow disk nor a terminal that
stands still can hold up the host's loop. What waits for the thread is bounded.
"""

from __future__ import annotations

import json
import os
import selectors
import threading
import traceback
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kagent_sdk.host.redaction import Redactor

STDERR_FD = 2
CHUNK_BYTES = 64 * 1024
MAX_LINE_BYTES = 64 * 1024
MAX_WAITING_RECORDS = 10_000
MULTILINE = frozenset({"stack", "traceback"})
TAIL_BYTES = 16 * 1024


class WorkerOutput:
    """One pipe from a worker: cuts it into lines and keeps the last ones for a crash report.

    Args:
        fd: the read end; the pump closes it.
        stream: ``stdout`` or ``stderr``.
        pid: of the worker.
        on_end: called in the pump's thread when the pipe has ended.
    """

    def __init__(
        self, fd: int, *, stream: str, pid: int, on_end: Callable[[], None] | None = None
    ) -> None:
        self.fd = fd
        self.stream = stream
        self.pid = pid
        self.on_end = on_end
        self._rest = b""
        self._tail = b""

    @property
    def tail(self) -> str:
        """The last lines, at most `TAIL_BYTES`."""
        return self._tail.decode(errors="replace")

    def feed(self, data: bytes) -> list[bytes]:
        """Take a chunk and return the lines that it completes; over-long ones are cut."""
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            lines.append(self._rest)
            self._rest = b""
        return lines

    def finish(self) -> list[bytes]:
        """Return a last line that came without a newline."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


class LogPump:
    """Writes ``logs/runtime.log`` and shows the same on the host's stderr.

    Args:
        path: the log file; its folder is made.
        agent: the agent's name, a member of every line.
        tee: show lines on stderr as well.

    Attributes:
        redactor: takes the secrets out of what leaves the process tree; replaced as a whole.
    """

    def __init__(self, path: Path, *, agent: str, tee: bool = True) -> None:
        self._path = path
        self._agent = agent
        self._tee = tee
        self._file = -1
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        self._records: deque[tuple[dict[str, Any], str]] = deque(maxlen=MAX_WAITING_RECORDS)
        self._arriving: deque[WorkerOutput] = deque()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="kagent-log-pump", daemon=True)
        self.redactor = Redactor({})
        self.write_errors = 0
        self.lines = 0

    def start(self) -> None:
        """Open the file and start the thread.

        Raises:
            OSError: the folder or the file cannot be written.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(
            self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640
        )
        self._thread.start()

    def attach(self, output: WorkerOutput) -> None:
        """Read a worker's pipe until it ends; the pump closes the descriptor."""
        self._arriving.append(output)
        self._wake()

    def log(self, level: str, event: str, **values: Any) -> None:
        """Write one line of the host's own; never blocks."""
        record = {
            "timestamp": _now(),
            "level": level,
            "event": event,
            "stream": "host",
            "agent": self._agent,
            "pid": os.getpid(),
            **values,
        }
        extra = " ".join(f"{key}={value}" for key, value in values.items() if key not in MULTILINE)
        blocks = [str(values[key]).rstrip() for key in MULTILINE & values.keys()]
        text = "\n".join([f"{level:<8} {event} {extra}".rstrip(), *blocks])
        self._records.append((record, text))
        self._wake()

    def log_exception(self, event: str, error: BaseException, **values: Any) -> None:
        """Write one line with an exception of the host's own and its traceback."""
        text = "".join(traceback.format_exception(error))
        self.log("error", event, error=repr(error), traceback=text, **values)

    def close(self, timeout_s: float) -> None:
        """Write what waits, for at most that long, and end the thread."""
        self._stopping = True
        self._wake()
        self._thread.join(timeout_s)

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:
            return  # the pipe is full of wake-ups already

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    os.read(self._wake_read, 4096)
                else:
                    self._read(key.data)
            while self._arriving:
                output = self._arriving.popleft()
                self._selector.register(output.fd, selectors.EVENT_READ, output)
            self._write_records()
            if self._stopping:
                self._drain()
                return

    def _drain(self) -> None:
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                os.set_blocking(key.data.fd, False)
                while self._read(key.data):
                    pass
        self._write_records()

    def _read(self, output: WorkerOutput) -> bool:
        try:
            data = os.read(output.fd, CHUNK_BYTES)
        except BlockingIOError:
            return False
        lines = output.feed(data) if data else output.finish()
        for line in lines:
            self._write_line(output, line)
        if not data:
            self._selector.unregister(output.fd)
            os.close(output.fd)
            if output.on_end is not None:
                output.on_end()
        return bool(data)

    def _write_line(self, output: WorkerOutput, line: bytes) -> None:
        text = line.decode(errors="backslashreplace")
        record = {
            "timestamp": _now(),
            "level": "info",
            "event": text,
            "stream": output.stream,
            "agent": self._agent,
            "pid": output.pid,
        }
        self._write(record, text)

    def _write_records(self) -> None:
        while self._records:
            self._write(*self._records.popleft())

    def _write(self, record: dict[str, Any], text: str) -> None:
        try:
            os.write(self._file, json.dumps(record, default=str).encode() + b"\n")
            self.lines += 1
        except OSError:
            self.write_errors += 1
        if self._tee:
            try:
                os.write(STDERR_FD, text.encode(errors="replace") + b"\n")
            except OSError:
                self._tee = False


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
