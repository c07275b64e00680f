"""The worker's ``sys.stdout`` and ``sys.stderr``: whole lines, each marked with its task.

What is printed inside a task or a loop is kept until its line is whole, for each task and thread by
itself, and then written in one piece behind the task's tag (`kagent_sdk.protocol.log_tags`). So
neither threads nor jobs mix their lines, and the host knows which task each belongs to. Outside of
tasks lines are plain. Whatever writes to the descriptors directly (C code, subprocesses) is not
touched.

`TaskInterrupted` may be raised between almost any two steps of Python code in a thread. So a line
goes from "kept" to "written" in one call into C: the buffer under each stream (`io.BufferedWriter`)
holds what the pipe has not taken, and the next write sends it first.
"""

from __future__ import annotations

import atexit
import io
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable
from threading import RLock, local
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing_extensions import Buffer

STDOUT_FD, STDERR_FD = 1, 2

PIPE_BYTES = 4096
"""What Linux writes to a pipe in one piece (PIPE_BUF, pipe(7)): lines are gathered up to that."""

MAX_KEPT_BYTES = 1024 * 1024
"""A line that is longer is broken: far over what the host keeps of a line."""

MAX_KEPT_LINES = 1000
"""Lines without an end at a time; of more, the oldest is written as it is."""


MAX_PIECES = 64
"""From so many on the pieces of a kept line are joined: a line printed by characters stays cheap."""


class Owner(Protocol):
    """What a line belongs to: a `TaskContext` or a `LoopContext`."""

    @property
    def log_tag(self) -> bytes:
        """What goes before each of its lines."""

    @property
    def log_keys(self) -> dict[str, str | int]:
        """The same for a line that is a JSON object."""

    def is_of(self, port: object) -> bool:
        """Tell whether this is the context that the runtime's ``port`` has made."""


Key = tuple["Channel", object, Owner | None]
"""A line's place: where to, from which thread, of which task."""


def nobody() -> None:
    """Return the owner of what is printed before there are tasks."""


class Output:
    """What the two streams of a process share.

    Attributes:
        whose: returns the task or loop that the running code belongs to.
        kept: lines without an end, in pieces.
    """

    def __init__(self) -> None:
        self.whose: Callable[[], Owner | None] = nobody
        self.kept: dict[Key, list[bytes]] = {}
        # Signal handlers and finalizers may print in the middle of a print of the same thread.
        self._lock = RLock()
        self._is_busy = False
        self._late: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque()
        # A number that the system gives a thread is given to the next one when it has ended.
        self._threads = local()
        self._pid = os.getpid()
        self._is_ending = False

    def write(self, channel: Channel, data: bytes) -> None:
        """Take what was printed; write the lines that are whole now."""
        self._alone(self._take, (channel, self._thread(), self.whose()), data)

    def write_line(self, channel: Channel, line: bytes) -> None:
        """Write a line that needs no tag, with its end, past what is kept."""
        self._alone(self._put, channel, (line,))

    def flush(self, channel: Channel) -> None:
        """Do what can be done without tearing a line.

        While there are tasks a line is kept until it is whole: in a pipe nobody sees the half of
        one, and others would end up behind it. Before, when only the import prints, it goes out.
        A forked child may end with this call: its line is ended.
        """
        if not self.kept:
            return
        is_child = os.getpid() != self._pid
        if not (is_child or self._is_ending or self.whose is nobody):
            return
        key = (channel, self._thread(), self.whose())
        self._alone(self._end_lines, key.__eq__, b"\n" if is_child or self._is_ending else b"")

    def end(self, port: object) -> None:
        """Write what a task or loop has printed without ending the line."""
        self._alone(self._end_lines, lambda key: key[2] is not None and key[2].is_of(port))

    def finish(self) -> None:
        """Write all that is kept: the process ends."""
        self._is_ending = True
        self._alone(self._end_lines, lambda _: True)

    def hold(self) -> None:
        """Let nothing be under way while the process forks."""
        self._lock.acquire()

    def release(self) -> None:
        """Go on after a fork, in the parent."""
        self._lock.release()

    def start_child(self) -> None:
        """Go on after a fork, in the child: what is kept is the parent's."""
        self.kept.clear()
        self._late.clear()
        self._lock.release()

    def _alone(self, action: Callable[..., None], *arguments: object) -> None:
        """Do one thing at a time; what the same thread asks for in the middle of it comes after."""
        with self._lock:
            if self._is_busy:
                self._late.append((action, arguments))
                return
            self._is_busy = True
            try:
                action(*arguments)
                while self._late:
                    late, its_arguments = self._late.popleft()
                    late(*its_arguments)
            finally:
                self._is_busy = False

    def _take(self, key: Key, data: bytes) -> None:
        whole = data.rfind(b"\n") + 1
        pieces = self.kept.get(key)
        if not whole:
            self._keep(key, pieces, data)
            return
        lines = data if whole == len(data) else data[:whole]
        if pieces is not None:
            lines = b"".join([*pieces, lines])
        self._put(key[0], _marked(lines, key[2]), key, data[whole:])

    def _keep(self, key: Key, pieces: list[bytes] | None, data: bytes) -> None:
        if not data:
            return
        if pieces is None:
            self.kept[key] = [data]
            if len(self.kept) > MAX_KEPT_LINES:
                self._end_line(next(iter(self.kept)))
            return
        pieces.append(data)
        if sum(map(len, pieces)) > MAX_KEPT_BYTES:
            self._end_line(key)
        elif len(pieces) >= MAX_PIECES:
            pieces[:] = [b"".join(pieces)]

    def _end_lines(self, is_meant: Callable[[Key], bool], end: bytes = b"\n") -> None:
        for key in [each for each in self.kept if is_meant(each)]:
            self._end_line(key, end)

    def _end_line(self, key: Key, end: bytes = b"\n") -> None:
        self._put(key[0], _marked(b"".join(self.kept[key]) + end, key[2]), key)

    def _put(
        self, channel: Channel, lines: Iterable[bytes], key: Key | None = None, rest: bytes = b""
    ) -> None:
        """Write whole lines; with ``key`` only ``rest`` is kept there from then on.

        Up to the call of `writelines` nothing is called, so nothing can interrupt (CPython looks
        for asynchronous exceptions at calls and backward jumps). Raises what writing to a pipe
        raises, `BrokenPipeError` for one.
        """
        pipe = channel.pipe
        try:
            if rest and key is not None:
                self.kept[key] = [rest]
            elif key is not None and key in self.kept:
                del self.kept[key]
            pipe.writelines(lines)
        finally:
            pipe.flush()

    def _thread(self) -> object:
        try:
            token: object = self._threads.token
        except AttributeError:
            token = self._threads.token = object()
        return token


def _marked(lines: bytes, owner: Owner | None) -> Iterable[bytes]:
    """Return lines one by one, each behind the tag of its owner."""
    tag = b"" if owner is None else owner.log_tag
    if lines.find(b"\n") >= len(lines) - 1:
        return (tag + lines,)
    *whole, rest = lines.split(b"\n")
    marked = [b"%b%b\n" % (tag, line) for line in whole]
    return [*marked, tag + rest] if rest else marked


class Channel(io.BufferedIOBase):
    """The bytes under a stream (``sys.stdout.buffer``), in one order with its text.

    Attributes:
        pipe: what is written goes there at once.
    """

    def __init__(self, output: Output, fd: int, name: str) -> None:
        self._output = output
        self._fd = fd
        self.name = name
        self.mode = "wb"
        # Closed with the process, not with this object: others write to the descriptor too.
        self.pipe = io.BufferedWriter(io.FileIO(fd, "wb", closefd=False), PIPE_BYTES)

    def write(self, data: Buffer, /) -> int:
        """Take bytes; those of a line that is whole are written at once."""
        copy = bytes(data)
        self._output.write(self, copy)
        return len(copy)

    def write_line(self, line: bytes) -> None:
        """Write a whole line as it is, without a tag."""
        self._output.write_line(self, line)

    def flush(self) -> None:
        """Do what `Output.flush` says."""
        self._output.flush(self)

    def close(self) -> None:
        """Only flush: descriptors 1 and 2 are the process's."""
        self.flush()

    def fileno(self) -> int:
        """Return 1 or 2."""
        return self._fd

    def isatty(self) -> bool:
        """Tell whether a terminal is there; with a host it is not."""
        return os.isatty(self._fd)

    def writable(self) -> bool:
        """Return True."""
        return True


class LineStream(io.TextIOBase):
    """A worker's ``sys.stdout`` or ``sys.stderr``: UTF-8, and never failing on a character.

    Attributes:
        output: what both streams share.
        takes_records: whether the worker's own messages go there as JSON objects.
    """

    encoding = "utf-8"
    errors = "backslashreplace"
    newlines = None
    line_buffering = True
    write_through = False

    def __init__(self, output: Output, fd: int, name: str) -> None:
        self.output = output
        self.buffer = Channel(output, fd, name)
        self.name = name
        self.mode = "w"
        self.takes_records = False

    def write(self, text: str, /) -> int:
        """Take text; lines that are whole are written at once."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self.output.write(self.buffer, text.encode("utf-8", "backslashreplace"))
        return len(text)

    def flush(self) -> None:
        """Do what `Output.flush` says."""
        self.output.flush(self.buffer)

    def close(self) -> None:
        """Only flush: descriptors 1 and 2 are the process's."""
        self.flush()

    def detach(self) -> Channel:  # type: ignore[override]
        """Return the bytes under this stream, for a wrapper of the author's own."""
        return self.buffer

    def reconfigure(self, **options: object) -> None:
        """Take what `io.TextIOWrapper` takes, and stay: the host expects lines of UTF-8."""

    def fileno(self) -> int:
        """Return 1 or 2."""
        return self.buffer.fileno()

    def isatty(self) -> bool:
        """Tell whether a terminal is there; with a host it is not."""
        return self.buffer.isatty()

    def writable(self) -> bool:
        """Return True."""
        return True


def install_streams() -> None:
    """Replace ``sys.stdout`` and ``sys.stderr`` of this process, for its life."""
    output = Output()
    for name, fd in (("stdout", STDOUT_FD), ("stderr", STDERR_FD)):
        stream = LineStream(output, fd, f"<{name}>")
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    # Registered before the author's functions, so run after them.
    atexit.register(output.finish)
    os.register_at_fork(
        before=output.hold, after_in_parent=output.release, after_in_child=output.start_child
    )


def installed_output() -> Output:
    """Return what the streams of this process share; an unused one where they are Python's own."""
    stream: object = sys.__stderr__
    return stream.output if isinstance(stream, LineStream) else Output()
