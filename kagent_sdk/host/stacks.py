"""The stacks that `faulthandler` writes for a stuck worker: cut, parsed, told to people. Pure.

The worker calls ``faulthandler.register(signal, file=pipe, all_threads=True, chain=False)``; the
host sends the signal and reads the other end of the pipe. What comes looks like this, in chunks::

    Thread 0x00007f320edce6c0 (most recent call first):
      File "/agent/entrypoint.py", line 4 in fetch
      File "/usr/lib/python3.11/threading.py", line 982 in run

    Current thread 0x00007f321027fb80 (most recent call first):
      File "/agent/entrypoint.py", line 8 in work

CPython writes the youngest thread first, so the main one is the last, and it stops after 100
threads and 100 frames each with a line ``...`` (Python/traceback.c, ``_Py_DumpTracebackThreads``).
The bytes come from the author's process: they are trusted in nothing, and held in bounds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

# 100 threads of 100 frames of 100 bytes would be a megabyte; what a person reads is far less.
MAX_DUMP_BYTES = 256 * 1024

QUIET_S = 0.2
"""After this long without a byte, what came so far is the whole dump: call `DumpCutter.flush`.

The worker writes a dump in under a millisecond; on a busy machine it may lose its turn meanwhile.
"""

MAX_THREADS_TOLD = 20
MAX_FRAMES_TOLD = 40
MAX_LINE_CHARS = 300

_CUT_SHORT = "..."
_HEADER_START = re.compile(rb"(?:Current thread|Thread) 0x")
# Python 3.14 puts the thread's name in brackets behind its number.
_HEADER = re.compile(
    r"(?P<current>Current thread|Thread) 0x(?P<ident>[0-9a-fA-F]{1,16})"
    r"(?: \[(?P<name>.*)\])? \(most recent call first\):"
)
_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d{1,9}|\?\?\?) in (?P<function>.*)')


class DumpCutter:
    """Cut the bytes of the pipe into dumps, one for each signal.

    Stanzas of one dump are parted by an empty line and two dumps are not; that tells them apart.
    The end of the last dump does not show in the bytes: after `QUIET_S` without any, `flush` it.

    Args:
        limit_bytes: how much of one dump to keep; the rest of it is dropped.
    """

    __slots__ = ("_is_after_gap", "_kept", "_limit_bytes", "_line")

    def __init__(self, limit_bytes: int = MAX_DUMP_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._kept = bytearray()
        self._line = b""
        self._is_after_gap = True

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to flush."""
        return not self._kept and not self._line

    def feed(self, data: bytes) -> list[str]:
        """Take the next chunk; return the dumps that are complete because another one began."""
        dumps: list[str] = []
        *lines, rest = (self._line + data).split(b"\n")
        for line in lines:
            if _HEADER_START.match(line) and not self._is_after_gap:
                dumps += self._take()
            self._keep(line + b"\n")
            self._is_after_gap = not line
        self._line = rest[: self._limit_bytes]
        return dumps

    def flush(self) -> str | None:
        """Return all that came since the last dump as one, or None if that is nothing."""
        self._keep(self._line)
        self._line = b""
        self._is_after_gap = True
        dumps = self._take()
        return dumps[0] if dumps else None

    def _keep(self, line: bytes) -> None:
        self._kept += line[: self._limit_bytes - len(self._kept)]

    def _take(self) -> list[str]:
        dump = self._kept.decode("utf-8", "backslashreplace")
        self._kept.clear()
        return [dump] if dump.strip() else []


@dataclass(frozen=True, slots=True)
class Frame:
    """One call.

    Attributes:
        file: path of the source file, as the worker wrote it.
        line: None where the interpreter did not know it.
        function: its name.
    """

    file: str
    line: int | None
    function: str

    def describe(self) -> str:
        """Return the call as a line of a traceback."""
        line = "???" if self.line is None else self.line
        return f'File "{self.file}", line {line}, in {self.function}'


@dataclass(frozen=True, slots=True)
class ThreadStack:
    """One thread.

    Attributes:
        ident: what `threading.get_ident` gives in that thread.
        name: as the operating system knows it; None before Python 3.14.
        is_current: whether the signal was handled in it.
        is_main: whether it is the main thread, in which the event loop runs.
        frames: most recent call last.
        is_cut: whether outer frames are missing.
        notes: what else was said of it, such as ``Garbage-collecting``.
    """

    ident: int
    name: str | None
    is_current: bool
    is_main: bool = False
    frames: tuple[Frame, ...] = ()
    is_cut: bool = False
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Draft:
    """A thread whose lines are being read; its frames come most recent first."""

    ident: int
    name: str | None
    is_current: bool
    frames: list[Frame] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    is_cut: bool = False

    def read(self, line: str) -> None:
        text = line.strip()
        if match := _FRAME.fullmatch(line):
            number = None if match["line"] == "???" else int(match["line"])
            self.frames.append(Frame(match["file"], number, match["function"]))
        elif text == _CUT_SHORT:
            self.is_cut = True
        elif text:
            self.notes.append(text)

    def finish(self) -> ThreadStack:
        return ThreadStack(
            self.ident,
            self.name,
            self.is_current,
            frames=tuple(reversed(self.frames)),
            is_cut=self.is_cut,
            notes=tuple(self.notes),
        )


def parse_dump(text: str, *, main_ident: int | None = None) -> tuple[ThreadStack, ...]:
    """Read one dump: its threads in the order in which they came, the youngest first.

    Lines that belong to no thread are passed over, and unprintable characters become ``?``.

    Args:
        text: one dump, as `DumpCutter` gives it.
        main_ident: the main thread's `threading.get_ident`. Without it the last thread is taken
            for the main one, or, where CPython left the oldest threads out, the one that handled
            the signal: the kernel prefers the main thread for that (signal(7)).
    """
    drafts: list[_Draft] = []
    is_cut = False
    for raw in text.split("\n"):
        line = _clean(raw)
        if header := _HEADER.fullmatch(line):
            is_current = header["current"].startswith("Current")
            drafts.append(_Draft(int(header["ident"], 16), header["name"], is_current))
        elif line == _CUT_SHORT:
            is_cut = True
        elif drafts:
            drafts[-1].read(line)
    threads = [draft.finish() for draft in drafts]
    return _mark_main(threads, main_ident, is_cut=is_cut)


def format_dump(threads: tuple[ThreadStack, ...], *, max_stacks: int = MAX_THREADS_TOLD) -> str:
    """Tell people where the threads are: the main one first, most recent call last.

    Threads with the same stack, such as idle ones of a pool, are told once. The text has at most
    ``max_stacks`` stacks of `MAX_FRAMES_TOLD` frames.
    """
    groups: dict[tuple[object, ...], list[ThreadStack]] = {}
    for thread in sorted(threads, key=lambda thread: not thread.is_main):
        key = (thread.is_main, thread.frames, thread.notes, thread.is_cut)
        groups.setdefault(key, []).append(thread)
    told = [_format_group(group) for group in list(groups.values())[:max_stacks]]
    if len(groups) > max_stacks:
        told.append(f"and {len(groups) - max_stacks} other stacks")
    return "\n\n".join(told)


def find_stuck_frame(threads: tuple[ThreadStack, ...]) -> Frame | None:
    """Return the most recent call of the main thread, or None if it is not known."""
    for thread in threads:
        if thread.is_main and thread.frames:
            return thread.frames[-1]
    return None


def _clean(line: str) -> str:
    text = line[:MAX_LINE_CHARS]
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "?" for char in text)


def _mark_main(
    threads: list[ThreadStack], main_ident: int | None, *, is_cut: bool
) -> tuple[ThreadStack, ...]:
    if main_ident is not None:
        mains = [thread.ident == main_ident for thread in threads]
    elif is_cut:
        mains = [thread.is_current for thread in threads]
    else:
        mains = [number == len(threads) for number in range(1, len(threads) + 1)]
    return tuple(
        replace(thread, is_main=is_main) for thread, is_main in zip(threads, mains, strict=True)
    )


def _format_group(group: list[ThreadStack]) -> str:
    first = group[0]
    names = ", ".join(_format_name(thread) for thread in group[:MAX_THREADS_TOLD])
    kind = "main thread" if first.is_main else "thread" if len(group) == 1 else "threads"
    if len(group) > MAX_THREADS_TOLD:
        names += f" and {len(group) - MAX_THREADS_TOLD} more"
    lines = [f"{kind} {names} (most recent call last):"]
    if first.is_cut:
        lines.append("  ... outer calls are not known")
    lines += [f"  {line}" for line in _format_frames(first.frames)]
    lines += [f"  {note}" for note in first.notes]
    return "\n".join(lines)


def _format_name(thread: ThreadStack) -> str:
    return f"{thread.ident:#x}" + (f" [{thread.name}]" if thread.name else "")


def _format_frames(frames: tuple[Frame, ...]) -> list[str]:
    lines: list[str] = []
    left_out = max(0, len(frames) - MAX_FRAMES_TOLD)
    if left_out:
        lines.append(f"... {left_out} outer calls")
    repeats = 0
    previous: Frame | None = None
    for frame in (*frames[left_out:], None):
        if frame == previous:
            repeats += 1
            continue
        if repeats:
            lines.append(f"... the previous line {repeats} more times")
        if frame is not None:
            lines.append(frame.describe())
        previous, repeats = frame, 0
    return lines
