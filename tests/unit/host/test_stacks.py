"""The stacks that faulthandler writes for a stuck worker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.host.stacks import (
    MAX_FRAMES_TOLD,
    MAX_LINE_CHARS,
    MAX_THREADS_TOLD,
    DumpCutter,
    Frame,
    ThreadStack,
    find_stuck_frame,
    format_dump,
    parse_dump,
)

# What CPython 3.11 writes; the paths are shortened.
DUMP = """\
Thread 0x00007f320edce6c0 (most recent call first):
  File "/agent/entrypoint.py", line 4 in fetch
  File "/lib/threading.py", line 982 in run

Current thread 0x00007f321027fb80 (most recent call first):
  File "/agent/entrypoint.py", line 8 in work
  File "/agent/entrypoint.py", line 13 in <module>
"""
# What 3.14 adds: names, and what a thread is busy with.
DUMP_3_14 = """\
Thread 0x00007f320edce6c0 [pool-1] (most recent call first):
  <no Python frame>

Current thread 0x00007f321027fb80 [python] (most recent call first):
  Garbage-collecting
  File "/agent/entrypoint.py", line ??? in work
"""


def dump_of(threads: int, frames: int = 1, *, cut: bool = False) -> str:
    """Return a dump with so many threads, the main one last and handling the signal."""
    stanzas = [
        f"{'Current thread' if number == threads else 'Thread'} 0x{number:016x} "
        "(most recent call first):\n"
        + "".join(f'  File "/a.py", line {line} in f{number}\n' for line in range(frames))
        for number in range(1, threads + 1)
    ]
    return "\n".join(stanzas) + ("...\n" if cut else "")


def test_a_dump_is_read_thread_by_thread() -> None:
    """`/status` shows where a worker hangs, from bytes that carry no structure."""
    other, main = parse_dump(DUMP)

    assert other == ThreadStack(
        0x7F320EDCE6C0,
        None,
        is_current=False,
        frames=(Frame("/lib/threading.py", 982, "run"), Frame("/agent/entrypoint.py", 4, "fetch")),
    )
    assert main.is_main
    assert main.is_current
    assert main.frames[-1] == Frame("/agent/entrypoint.py", 8, "work")


def test_names_and_notes_of_newer_interpreters_are_read() -> None:
    """A worker in a long garbage collection is not stuck in the line that it shows."""
    other, main = parse_dump(DUMP_3_14)

    assert (other.name, other.notes) == ("pool-1", ("<no Python frame>",))
    assert (main.name, main.notes) == ("python", ("Garbage-collecting",))
    assert main.frames == (Frame("/agent/entrypoint.py", None, "work"),)
    assert "line ???" in format_dump((main,))


def test_people_see_the_main_thread_first_and_the_most_recent_call_last() -> None:
    """It reads like every other Python traceback, from the place that matters."""
    assert format_dump(parse_dump(DUMP)) == (
        "main thread 0x7f321027fb80 (most recent call last):\n"
        '  File "/agent/entrypoint.py", line 13, in <module>\n'
        '  File "/agent/entrypoint.py", line 8, in work\n'
        "\n"
        "thread 0x7f320edce6c0 (most recent call last):\n"
        '  File "/lib/threading.py", line 982, in run\n'
        '  File "/agent/entrypoint.py", line 4, in fetch'
    )
    assert "main thread 0x7f321027fb80 [python] (" in format_dump(parse_dump(DUMP_3_14))


def test_the_main_thread_is_the_last_unless_the_oldest_are_missing() -> None:
    """CPython stops after 100 threads; then the one that took the signal is the best guess."""
    youngest_is_current = dump_of(3).replace("Current thread", "Thread")
    youngest_is_current = youngest_is_current.replace("Thread", "Current thread", 1)

    assert [thread.is_main for thread in parse_dump(youngest_is_current)] == [False, False, True]
    cut = parse_dump(youngest_is_current + "...\n")
    assert [thread.is_main for thread in cut] == [True, False, False]
    told = parse_dump(youngest_is_current, main_ident=2)
    assert [thread.is_main for thread in told] == [False, True, False]


def test_the_stuck_frame_is_the_main_thread_s_most_recent_call() -> None:
    """One line in the log says where the event loop hangs."""
    assert find_stuck_frame(parse_dump(DUMP)) == Frame("/agent/entrypoint.py", 8, "work")
    assert find_stuck_frame(parse_dump("")) is None
    assert find_stuck_frame(parse_dump(dump_of(2, frames=0))) is None


def test_idle_threads_of_a_pool_are_told_once() -> None:
    """Sixteen idle threads must not push the one that matters off the screen."""
    text = dump_of(31).replace("in f", "in wait_").replace("wait_31", "work")
    for number in range(1, 31):
        text = text.replace(f"wait_{number}\n", "wait\n")
    told = format_dump(parse_dump(text))

    assert told.count("most recent call last") == 2
    assert "threads 0x1, 0x2, 0x3" in told
    assert f"0x14 and {30 - MAX_THREADS_TOLD} more" in told


def test_what_people_see_is_bounded() -> None:
    """A recursion 10,000 deep in 90 threads must fit into an answer."""
    told = format_dump(parse_dump(dump_of(90, frames=MAX_FRAMES_TOLD + 60)))

    assert told.count("thread 0x") == MAX_THREADS_TOLD
    assert told.endswith(f"and {90 - MAX_THREADS_TOLD} other stacks")
    assert told.count("... 60 outer calls") == MAX_THREADS_TOLD
    assert told.count('File "') == MAX_THREADS_TOLD * MAX_FRAMES_TOLD


def test_a_recursion_is_told_in_two_lines() -> None:
    """Forty equal lines say no more than one and a number."""
    frame = '  File "/a.py", line 7 in recurse\n'
    head, foot = '  File "/a.py", line 8 in base\n', '  File "/a.py", line 9 in <module>\n'
    text = "Current thread 0x01 (most recent call first):\n" + head + frame * 5 + foot

    assert format_dump(parse_dump(text)).splitlines()[1:] == [
        '  File "/a.py", line 9, in <module>',
        '  File "/a.py", line 7, in recurse',
        "  ... the previous line 4 more times",
        '  File "/a.py", line 8, in base',
    ]


def test_a_stack_that_cpython_cut_says_so() -> None:
    """A reader must not take the 100th call for the outermost one."""
    (main,) = parse_dump(dump_of(1) + "  ...\n")

    assert main.is_cut
    assert "... outer calls are not known" in format_dump((main,))


def test_what_the_worker_writes_cannot_reach_the_terminal() -> None:
    """The author's process may write anything into the pipe, escape sequences too."""
    evil = f'Thread 0x01 (most recent call first):\n  File "\x1b[2J{"x" * 9999}", line 1 in f\n'
    told = format_dump(parse_dump(evil))

    assert "\x1b" not in told
    assert len(told) < MAX_LINE_CHARS + 100
    assert parse_dump("no stack at all\n  File\n") == ()
    assert format_dump(()) == ""


def test_two_dumps_are_told_apart_wherever_the_chunks_end() -> None:
    """Two signals in a row must not become one impossible stack."""
    stream = (DUMP + DUMP_3_14 + DUMP).encode()
    for size in (1, 7, 64, len(stream)):
        cutter = DumpCutter()
        dumps = [
            dump
            for start in range(0, len(stream), size)
            for dump in cutter.feed(stream[start : start + size])
        ]

        emptiness = [cutter.is_empty]
        last = [cutter.flush(), cutter.flush()]
        emptiness.append(cutter.is_empty)

        assert dumps == [DUMP, DUMP_3_14]
        assert last == [DUMP, None]
        assert emptiness == [False, True]


def test_a_dump_that_breaks_off_is_kept_as_far_as_it_came() -> None:
    """A worker killed while it writes leaves half a line; the rest is still worth reading."""
    cutter = DumpCutter()
    cutter.feed(DUMP.encode()[:-10])

    assert cutter.flush() == DUMP[:-10]


def test_after_a_flush_the_next_dump_stands_alone() -> None:
    """The host flushes after a pause; what comes then is another answer."""
    cutter = DumpCutter()
    cutter.feed(DUMP.encode())
    cutter.flush()

    assert cutter.feed(DUMP.encode()) == []
    assert cutter.flush() == DUMP


@pytest.mark.parametrize("junk", [b"x" * 5000, b"x\n" * 5000, DUMP.encode() * 100])
def test_the_cutter_holds_no_more_than_its_limit(junk: bytes) -> None:
    """A worker that floods the pipe must not grow the host."""
    cutter = DumpCutter(limit_bytes=400)
    dumps = [dump for start in range(0, len(junk), 100) for dump in cutter.feed(junk[start:][:100])]
    dumps.append(cutter.flush() or "")

    assert max(map(len, dumps)) <= 400


def test_a_dump_over_the_limit_keeps_its_beginning_and_ends_where_it_ends() -> None:
    """What is dropped must not make the rest of the dump look like another one."""
    cutter = DumpCutter(limit_bytes=90)
    dumps = cutter.feed((DUMP + DUMP_3_14).encode())

    assert dumps == [DUMP[:90]]
    assert cutter.flush() == DUMP_3_14[:90]


def test_only_blank_bytes_are_no_dump() -> None:
    """A stray newline must not show up as an empty stack."""
    cutter = DumpCutter()
    cutter.feed(b"\n\n")

    assert cutter.flush() is None


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_no_bytes_break_the_cutter_or_the_parser(chunks: list[bytes]) -> None:
    """The pipe's other end belongs to code that nobody vouches for."""
    cutter = DumpCutter(limit_bytes=300)
    for chunk in chunks:
        for dump in cutter.feed(chunk):
            format_dump(parse_dump(dump))
    dump_left = cutter.flush()

    assert format_dump(parse_dump(dump_left or "")) is not None
