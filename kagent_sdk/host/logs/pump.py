"""The log pump: all that the workers print and what the host has to say, into file and tee.

A thread of its own does all reading and writing, so that neither a slow disk nor a terminal that
stands still can hold up the host's loop. What waits for the thread is bounded, and what must be
dropped is counted and told.
"""

from __future__ import annotations

import fcntl
import os
import selectors
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kagent_sdk.config.models import LogsConfig
from kagent_sdk.errors import StartupError
from kagent_sdk.host.logs.file import RotatingFile
from kagent_sdk.host.logs.output import WorkerOutput
from kagent_sdk.host.logs.tee import Tee
from kagent_sdk.redaction.redactor import Redactor

if TYPE_CHECKING:
    from kagent_sdk.host.logs.reader import OutputReader

__all__ = ["LogPump", "LogStatistics", "WorkerOutput"]

STDOUT_FD = 1
READ_BYTES = 64 * 1024
"""With more, the buffers that this leads to get pages of their own for each use (malloc(3)), which
costs more than all that is done with them."""

READS_IN_A_ROW = 8
"""Of one pipe that has more, before the others have their turn."""

PIPE_BYTES = 1024 * 1024
"""What a worker can write while the pump is busy; 1 MiB is what anyone may ask for (pipe(7))."""

MAX_WAITING_EVENTS = 10_000
QUIET_S = 0.05
"""A burst to which nothing was added for this long, twice at most, has ended."""

RETRY_S = 1.0
"""How often to try again while the disk is full."""

WRITE_BYTES = 512 * 1024
LAST_WORDS_S = 1.0
"""For the tee, at the end: a terminal that stands still does not hold up the exit."""

RANKS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}


class LogStatistics(NamedTuple):
    """What became of the log so far.

    Attributes:
        lines: records in the file.
        lost_lines: records that the disk did not take.
        tee_lost_lines: records that the tee did not take in time.
        dropped_events: of the host, because the pump was too slow.
        file_bytes: of the current file.
        rotations: since the host started.
        last_error: why writing failed last, to the file or else to the tee; None: never.
    """

    lines: int
    lost_lines: int
    tee_lost_lines: int
    dropped_events: int
    file_bytes: int
    rotations: int
    last_error: str | None


class LogPump:
    """Writes ``logs/runtime.log`` and shows the same on stdout.

    Args:
        path: the log file; its folder is made.
        agent: the agent's name, a member of every record.
        config: level, sizes, and how to show it.

    Attributes:
        redactor: takes the secrets out of all that leaves; replaced as a whole.
    """

    def __init__(self, path: Path, *, agent: str, config: LogsConfig | None = None) -> None:
        self._config = config = config or LogsConfig()
        self._path = path
        self._agent = agent
        self._origin: dict[str, Any] = {"stream": "host", "agent": agent, "pid": os.getpid()}
        self._rank = RANKS[config.level]
        self._file = RotatingFile(
            path,
            max_bytes=config.max_file_bytes,
            keep_files=config.keep_files,
            notice=self._notice,
        )
        self._tee = _build_tee(config, self)
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        self._lock = threading.Lock()
        self._events: deque[dict[str, Any]] = deque()
        self._dropped_untold = 0
        self._retry_at_s = 0.0
        self._arriving: deque[WorkerOutput] = deque()
        self._readers: set[OutputReader] = set()
        self._is_stopping = False
        self._is_reopening = False
        self._thread = threading.Thread(target=self._run, name="kagent-log-pump", daemon=True)
        self._dropped_events = 0
        self.redactor = Redactor({})

    def start(self) -> None:
        """Open the file and start the threads.

        Raises:
            StartupError: the folder or the file cannot be written.
        """
        try:
            self._file.open()
        except OSError as exc:
            raise StartupError(f"cannot write the log {self._path}: {exc.strerror}") from exc
        if self._tee is not None:
            self._tee.start()
        self._thread.start()

    def configure(self, config: LogsConfig) -> None:
        """Put another level in force; everything else stays."""
        self._rank = RANKS[config.level]

    def attach(self, output: WorkerOutput) -> None:
        """Read a worker's pipe until it ends; the pump closes the descriptor."""
        self._arriving.append(output)
        self._wake()

    def log(self, level: str, event: str, **values: Any) -> None:
        """Write one record of the host's own, unless its level is too low; never blocks."""
        if RANKS[level] < self._rank:
            return
        record = {"timestamp": _now(), "level": level, "event": event}
        record |= self._origin
        record |= values
        with self._lock:
            if len(self._events) >= MAX_WAITING_EVENTS:
                self._dropped_events += 1
                self._dropped_untold += 1
                return
            self._events.append(record)
        self._wake()

    def log_exception(self, event: str, error: BaseException, **values: Any) -> None:
        """Write one record with an exception of the host's own and its traceback."""
        text = "".join(traceback.format_exception(error))
        self.log("error", event, error=repr(error), exception=text, **values)

    def reopen(self) -> None:
        """Open the file anew: an outside rotator has moved it. For a signal handler of the loop."""
        self._is_reopening = True
        self._wake()

    def statistics(self) -> LogStatistics:
        """Return what became of the log so far."""
        file, tee = self._file, self._tee
        return LogStatistics(
            lines=file.lines,
            lost_lines=file.lost_lines,
            tee_lost_lines=0 if tee is None else tee.lost_lines,
            dropped_events=self._dropped_events,
            file_bytes=file.size_bytes,
            rotations=file.rotations,
            last_error=file.last_error or (None if tee is None else tee.last_error),
        )

    def close(self, timeout_s: float) -> None:
        """Write what waits, for at most that long, and end the thread."""
        self._is_stopping = True
        self._wake()
        self._thread.join(timeout_s)

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # the pipe is full of wake-ups already
            os.write(self._wake_write, b"\0")

    # The pump's thread

    def _run(self) -> None:
        while not self._is_stopping:
            for key, _ in self._selector.select(self._timeout_s()):
                if key.data is None:
                    os.read(self._wake_read, 4096)
                else:
                    self._read_on(key.data, READS_IN_A_ROW * READ_BYTES)
            self._take_arriving()
            self._flush_quiet()
            self._write_events()
        self._drain()

    def _timeout_s(self) -> float | None:
        """Return how long nothing is to do if nothing comes."""
        deadlines = [reader.flush_at_s for reader in self._readers if reader.flush_at_s is not None]
        if deadlines:
            return max(0.0, min(deadlines) - time.monotonic())
        return RETRY_S if self._file.is_owing else None

    def _take_arriving(self) -> None:
        while self._arriving:
            output = self._arriving.popleft()
            os.set_blocking(output.fd, False)
            with suppress(OSError):
                fcntl.fcntl(output.fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            limit_bytes = self._config.max_line_bytes
            # Imported late, here and below: the port is open by then (10 ms on one core).
            from kagent_sdk.host.logs.reader import OutputReader  # noqa: PLC0415

            reader = OutputReader(output, agent=self._agent, limit_bytes=limit_bytes)
            self._readers.add(reader)
            self._selector.register(output.fd, selectors.EVENT_READ, reader)

    def _read_on(self, reader: OutputReader, limit: int) -> None:
        """Read as long as a pipe has more, up to a number of bytes."""
        while limit > 0 and self._read(reader) == READ_BYTES:
            limit -= READ_BYTES

    def _read(self, reader: OutputReader) -> int:
        """Read once and write what came; return how many bytes, 0 at the end or when none wait."""
        fd = reader.output.fd
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return 0
        stamp = _now().encode()
        if data:
            self._write(self._guarded(reader.feed(data, self.redactor, stamp)))
            if reader.flush_at_s is None and reader.is_holding:
                reader.flush_at_s = time.monotonic() + QUIET_S
            return len(data)
        self._write(self._guarded(reader.finish(self.redactor, stamp)))
        self._selector.unregister(fd)
        os.close(fd)
        self._readers.discard(reader)
        if reader.output.on_end is not None:
            reader.output.on_end()
        return 0

    def _guarded(self, records: Iterable[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
        """Let a mistake of ours cost the lines at hand, and not the thread."""
        try:
            yield from records
        except Exception as exc:  # noqa: BLE001 - without this thread the worker would stand still
            self.log_exception("log_pump_failed", exc)

    def _flush_quiet(self) -> None:
        now_s = time.monotonic()
        for reader in self._readers:
            if reader.flush_at_s is not None and reader.flush_at_s <= now_s:
                self._write(self._guarded(reader.flush_quiet()))
                reader.flush_at_s = now_s + QUIET_S if reader.is_holding else None

    def _write_events(self) -> None:
        with self._lock:
            events, self._events = self._events, deque()
            dropped, self._dropped_untold = self._dropped_untold, 0
        if dropped:
            events.append(
                {
                    "timestamp": _now(),
                    "level": "warning",
                    "event": "log_events_dropped",
                    **self._origin,
                    "count": dropped,
                }
            )
        if events:
            self._write(self._guarded((self._serialise(event) + b"\n", 1) for event in events))
        is_retry = self._file.is_owing and time.monotonic() >= self._retry_at_s
        if is_retry or self._is_reopening:
            self._retry_at_s = time.monotonic() + RETRY_S
            self._write_batch(b"", 0)

    def _serialise(self, event: dict[str, Any]) -> bytes:
        from kagent_sdk.host.logs.json_lines import Source, complete, encode, quote  # noqa: PLC0415

        try:
            text = encode(event)
        except ValueError:
            text = encode({key: str(value) for key, value in event.items()})
        redacted = self.redactor.redact(text)
        if redacted == text:
            return text
        # A secret may be a part of what makes it JSON; then all of it is told as text.
        stamp, source = event["timestamp"].encode(), Source(**self._origin)
        head = b'"timestamp":"%b","level":"error","event":%b' % (stamp, quote(redacted))
        whole = b"{%b,%b}" % (head, source.text)
        return complete(redacted, source, stamp=stamp) or whole

    def _write(self, records: Iterable[tuple[bytes, int]]) -> None:
        batch: list[bytes] = []
        size = count = 0
        for data, number in records:
            batch.append(data)
            size += len(data)
            count += number
            if size >= WRITE_BYTES:
                self._write_batch(b"".join(batch), count)
                batch, size, count = [], 0, 0
        if batch:
            self._write_batch(b"".join(batch), count)

    def _write_batch(self, data: bytes, count: int) -> None:
        if self._is_reopening:
            self._is_reopening = False
            self._file.reopen()
        self._file.write(data, count)
        if self._tee is not None and data:
            self._tee.offer(data, count)

    def _drain(self) -> None:
        """Write all that was written to the pipes until now."""
        self._take_arriving()
        for reader in list(self._readers):
            # What a process writes meanwhile is not waited for: it may never end.
            left = PIPE_BYTES
            while left > 0 and (taken := self._read(reader)):
                left -= taken
            if reader in self._readers:
                self._write(self._guarded(reader.finish(self.redactor, _now().encode())))
        self._write_events()
        if self._tee is not None:
            self._tee.close(LAST_WORDS_S)
        self._write_events()
        self._file.close()

    def _notice(self, count: int, reason: str) -> bytes:
        record = {
            "timestamp": _now(),
            "level": "warning",
            "event": "log_lines_lost",
            **self._origin,
            "lines": count,
            "reason": reason,
        }
        return self._serialise(record) + b"\n"


def _build_tee(config: LogsConfig, pump: LogPump) -> Tee | None:
    if config.tee == "none":
        return None

    def tell(event: str, /, **values: object) -> None:
        pump.log("warning", event, **values)

    is_terminal = os.isatty(STDOUT_FD)
    if config.tee == "json" or (config.tee == "auto" and not is_terminal):
        return Tee(STDOUT_FD, render=None, tell=tell)
    from kagent_sdk.host.logs.display import Display  # noqa: PLC0415 - for terminals alone

    # https://no-color.org: set and not empty.
    has_colour = is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Tee(STDOUT_FD, render=Display(has_colour=has_colour).render, tell=tell)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
