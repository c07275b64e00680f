"""The worker's streams, into a file."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kagent_sdk.worker import output as output_module
from kagent_sdk.worker.output import LineStream, Output, installed_output


@dataclass(frozen=True, eq=False)
class Somebody:
    """A task."""

    name: str

    @property
    def log_tag(self) -> bytes:
        """Return a tag that is easy to read."""
        return f"<{self.name}>".encode()

    @property
    def log_keys(self) -> dict[str, str | int]:
        """Return its keys."""
        return {"task_id": self.name}

    def is_of(self, port: object) -> bool:
        """Tell whether the port has this name."""
        return port == self.name


class Desk:
    """A stream, what came out of it, and who is at work.

    Attributes:
        owner: who prints.
    """

    def __init__(self, path: Path) -> None:
        self.owner: Somebody | None = None
        self.output = Output()
        self._path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.stream = LineStream(self.output, self._fd, "<stdout>")
        self.output.whose = lambda: self.owner

    @property
    def written(self) -> bytes:
        """What is in the file."""
        return self._path.read_bytes()

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk with nobody at work."""
    desk = Desk(tmp_path / "out")
    yield desk
    desk.close()


def test_lines_outside_of_tasks_are_plain(desk: Desk) -> None:
    """What an import prints looks as it always did."""
    print("hello", 1, file=desk.stream)
    print(file=desk.stream)

    assert desk.written == b"hello 1\n\n"


def test_every_line_of_a_task_has_its_tag(desk: Desk) -> None:
    """The host knows whose line it is."""
    desk.owner = Somebody("a")
    print("one\ntwo\n\nthree", file=desk.stream)

    assert desk.written == b"<a>one\n<a>two\n<a>\n<a>three\n"


def test_halves_of_lines_wait_for_their_other_half_by_task(desk: Desk) -> None:
    """Two tasks that print at once."""
    one, two = Somebody("1"), Somebody("2")
    for owner in (one, two, None):
        desk.owner = owner
        print("a", end="", file=desk.stream, flush=True)
    assert desk.written == b""
    for owner in (None, two, one):
        desk.owner = owner
        print("b\nc", end="", file=desk.stream)
    assert desk.written == b"ab\n<2>ab\n<1>ab\n"
    desk.output.end("1")
    assert desk.written.endswith(b"\n<1>c\n")
    desk.output.finish()

    assert sorted(desk.written.splitlines()[4:]) == [b"<2>c", b"c"]
    assert not desk.output.kept


def test_threads_of_one_task_do_not_share_a_line(desk: Desk) -> None:
    """`asyncio.to_thread` inherits the task; a number of a thread is used again."""
    desk.owner = Somebody("1")

    def half() -> None:
        desk.stream.write("half ")

    for _ in range(3):
        thread = threading.Thread(target=half)
        thread.start()
        thread.join()
    desk.stream.write("whole\n")
    assert desk.written == b"<1>whole\n"
    desk.output.end("1")

    assert desk.written == b"<1>whole\n" + b"<1>half \n" * 3


def test_bytes_and_text_share_one_line(desk: Desk) -> None:
    """Some print through ``sys.stdout.buffer``."""
    desk.stream.write("a\u00e9\udc80 ")
    assert desk.stream.buffer.write(b"\xff\x00 ") == 3
    desk.stream.buffer.flush()
    assert desk.stream.write("b\n") == 2

    assert desk.written == b"a\xc3\xa9\\udc80 \xff\x00 b\n"


def test_a_record_goes_past_a_line_that_waits(desk: Desk) -> None:
    """Records have the task inside."""
    desk.owner = Somebody("a")
    desk.stream.write("half ")
    desk.stream.buffer.write_line(b"{}\n")
    desk.stream.write("whole\n")

    assert desk.written == b"{}\n<a>half whole\n"


def test_an_import_shows_half_lines_when_it_asks(tmp_path: Path) -> None:
    """``print("loading … ", end="", flush=True)`` before there are tasks."""
    desk = Desk(tmp_path / "out")
    desk.output.whose = output_module.nobody
    desk.stream.write("loading ")
    assert desk.written == b""
    desk.stream.flush()
    desk.stream.flush()
    assert desk.written == b"loading "
    desk.stream.write("done\n")
    desk.close()

    assert desk.written == b"loading done\n"


def test_a_handler_that_prints_in_the_middle_of_a_print_comes_after_it(desk: Desk) -> None:
    """A signal handler or a finalizer runs wherever the thread is."""
    asked: list[str] = []

    class Handler(Somebody):
        @property
        def log_tag(self) -> bytes:
            if not asked:
                asked.append("once")
                print("from the handler", file=desk.stream)
            return b"<h>"

    desk.owner = Handler("h")
    pipe = desk.stream.buffer.pipe

    class Interrupting:
        """Prints while a line is being written."""

        def writelines(self, lines: list[bytes]) -> None:
            desk.owner = Somebody("late")
            if len(asked) == 1:
                asked.append("twice")
                print("while writing", file=desk.stream)
                desk.stream.buffer.write_line(b"{}\n")
            pipe.writelines(lines)

        def flush(self) -> None:
            pipe.flush()

    desk.stream.buffer.pipe = Interrupting()  # type: ignore[assignment]
    print("line", file=desk.stream)

    lines = desk.written.splitlines()
    assert sorted(lines) == [b"<h>from the handler", b"<h>line", b"<late>while writing", b"{}"]


def test_a_line_without_end_is_broken_in_the_end(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A progress bar that never ends its line does not fill the memory."""
    monkeypatch.setattr(output_module, "MAX_KEPT_BYTES", 1000)
    for _ in range(1500):
        desk.stream.write("x")
    desk.stream.write("\n")

    first, second = desk.written.splitlines()
    assert len(first) == 1001
    assert len(first) + len(second) == 1500


def test_lines_that_wait_are_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that outlive their task may each leave the half of a line."""
    monkeypatch.setattr(output_module, "MAX_KEPT_LINES", 3)
    for number in range(5):
        desk.owner = Somebody(str(number))
        desk.stream.write("half")
        desk.stream.write("")

    assert desk.written == b"<0>half\n<1>half\n"
    assert len(desk.output.kept) == 3


def test_it_looks_like_the_stream_that_it_replaces(desk: Desk) -> None:
    """Libraries ask for all of these."""
    stream = desk.stream
    stream.reconfigure(encoding="latin-1", line_buffering=False)

    assert (stream.encoding, stream.errors, stream.line_buffering) == (
        "utf-8",
        "backslashreplace",
        True,
    )
    assert (stream.name, stream.mode, stream.buffer.mode) == ("<stdout>", "w", "wb")
    assert os.fstat(stream.fileno()) == os.fstat(stream.buffer.fileno())
    assert not stream.isatty()
    assert stream.writable()
    assert not stream.readable()
    assert stream.buffer.writable()
    with pytest.raises(TypeError, match="must be str, not bytes"):
        stream.write(b"bytes")  # type: ignore[arg-type]
    stream.writelines(["a\n", "b\n"])
    assert desk.written == b"a\nb\n"


def test_it_can_be_wrapped_and_closed_without_harm(desk: Desk) -> None:
    """The descriptors are the process's; old code wraps and closes."""
    with io.TextIOWrapper(desk.stream.detach(), encoding="utf-8") as wrapper:
        wrapper.write("wrapped\n")
    desk.stream.close()
    print("still here", file=desk.stream)

    assert desk.written == b"wrapped\nstill here\n"


def test_a_process_without_a_host_has_streams_of_its_own() -> None:
    """Tests and `agent.serve()` print as any program."""
    assert installed_output().kept == {}
