"""From the bytes of one pipe to records without secrets. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from kagent_sdk.host.logs.json_lines import Source
from kagent_sdk.host.logs.lines import Block, LineCutter, trim
from kagent_sdk.host.logs.output import WorkerOutput
from kagent_sdk.host.logs.records import Recorder, Records
from kagent_sdk.redaction.redactor import Redactor


class OutputReader:
    """Makes records of what comes through a worker's pipe.

    Args:
        output: whose tail is kept.
        agent: the agent's name.
        limit_bytes: the longest line.

    Attributes:
        flush_at_s: when to call `flush_quiet`; the pump's.
    """

    def __init__(self, output: WorkerOutput, *, agent: str, limit_bytes: int) -> None:
        self.output = output
        self.flush_at_s: float | None = None
        self._limit = limit_bytes
        self._cutter = LineCutter(limit_bytes)
        self._recorder = Recorder(Source(output.stream, agent, output.pid))

    @property
    def is_holding(self) -> bool:
        """Whether `finish` would yield something."""
        return self._recorder.is_holding

    def feed(self, data: bytes, redactor: Redactor, stamp: bytes) -> Iterator[Records]:
        """Take what was read and yield the records that it completes."""
        for block in self._cutter.feed(data, redactor.longest_bytes):
            yield from self._read(block, redactor, stamp)

    def flush_quiet(self) -> Iterator[Records]:
        """Yield the lines that waited for more since the last call."""
        return self._recorder.flush_quiet()

    def finish(self, redactor: Redactor, stamp: bytes) -> Iterator[Records]:
        """Yield all that is left: the pipe has ended."""
        for block in self._cutter.finish():
            yield from self._read(block, redactor, stamp)
        yield from self._recorder.flush()

    def _read(self, block: Block, redactor: Redactor, stamp: bytes) -> Iterator[Records]:
        text = redactor.redact(block.data)
        if not block.cut_bytes:
            self.output.note(text)
            yield from self._recorder.feed(text, stamp)
            return
        text = trim(text, block, self._limit, redactor.longest_bytes)
        self.output.note(text + b"\n")
        yield from self._recorder.feed_cut(text, block.cut_bytes, stamp)
