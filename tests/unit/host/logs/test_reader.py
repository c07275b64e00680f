"""One pipe of a worker: no secret passes, however it is cut."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from kagent_sdk.host.logs.output import TAIL_BYTES, WorkerOutput
from kagent_sdk.host.logs.reader import OutputReader
from kagent_sdk.protocol.log_tags import encode_tag
from kagent_sdk.redaction.redactor import Redactor
from tests.unit.redaction.test_secret_forms import ENCODERS, secrets

STAMP = b"2026-01-01T00:00:00.000000Z"
SECRET = "hunter2-hunter2"  # noqa: S105 - nobody's
REDACTOR = Redactor({"key": SECRET})
LIMIT = 40


def make_reader() -> OutputReader:
    """Return a reader of a pipe that is not needed."""
    output = WorkerOutput(-1, stream="stdout", pid=7)
    return OutputReader(output, agent="hello", limit_bytes=LIMIT)


def read(chunks: list[bytes], reader: OutputReader) -> Iterator[dict[str, Any]]:
    """Yield the records of some chunks."""
    found = [item for chunk in chunks for item in reader.feed(chunk, REDACTOR, STAMP)]
    found += reader.finish(REDACTOR, STAMP)
    for data, _ in found:
        yield from (json.loads(line) for line in data.splitlines())


@given(
    st.lists(st.sampled_from([SECRET.encode(), b"x", b"12345678901234567890", b"\n", b"\xff"])),
    st.data(),
)
def test_no_secret_passes_wherever_it_is_cut(parts: list[bytes], data: st.DataObject) -> None:
    """By the end of a write, by the limit of a line, by the end of the output."""
    text = b"".join(parts)
    chunks: list[bytes] = []
    while text:
        size = data.draw(st.integers(1, len(text)))
        chunks.append(text[:size])
        text = text[size:]
    reader = make_reader()
    shown = json.dumps(list(read(chunks, reader)))

    # A part at the end of a line that was cut would be shown too: five letters are none by chance.
    assert SECRET[:5] not in shown
    assert SECRET[:5] not in reader.output.tail


@given(
    value=secrets.filter(lambda text: "*" not in text),
    pieces=st.lists(st.tuples(st.sampled_from(sorted(ENCODERS)), st.binary(max_size=6))),
    is_tagged=st.booleans(),
    data=st.data(),
)
def test_no_encoding_in_no_chunks_leaves_the_boundary_in_clear(
    value: str, pieces: list[tuple[str, bytes]], data: st.DataObject, *, is_tagged: bool
) -> None:
    """The promise, from the bytes of a pipe to the records of the file."""
    # What the host writes around every line is no secret, whoever has chosen it for one.
    frame = json.dumps(list(read([encode_tag({"task_id": "t"}) + b"x\n \xff"], make_reader())))
    assume(value not in frame)
    redactor = Redactor({"key": value})
    tag = encode_tag({"task_id": "t"}) if is_tagged else b""
    text = tag + b"".join(ENCODERS[name](value).encode() + noise for name, noise in pieces)
    sizes = data.draw(st.lists(st.integers(1, 9), max_size=len(text)))
    ends = [min(sum(sizes[:count]), len(text)) for count in range(len(sizes) + 1)]
    chunks = [text[start:end] for start, end in itertools.pairwise([*ends, len(text)])]
    output = WorkerOutput(-1, stream="stdout", pid=7)
    reader = OutputReader(output, agent="hello", limit_bytes=65_536)

    found = [item for chunk in chunks for item in reader.feed(chunk, redactor, STAMP)]
    found += reader.finish(redactor, STAMP)
    written = b"".join(data for data, _ in found)
    shown = [json.loads(line) for line in written.splitlines()]

    assert value not in "\0".join(str(text) for record in shown for text in record.values())
    assert value.encode() not in written
    assert value not in output.tail


def test_the_tail_is_for_people() -> None:
    """It is shown where a crash is told: without tags and with its last words."""
    reader = make_reader()
    tag = encode_tag({"task_id": "t"})
    list(read([tag + b"one\n" + tag + b"two " + SECRET.encode() + b"\nthr", b"ee"], reader))

    assert reader.output.tail == "one\ntwo ***key***\nthree\n"


def test_the_tail_is_bounded() -> None:
    """A worker may print for days."""
    reader = make_reader()
    list(read([b"line\n" * TAIL_BYTES, b"x" * (2 * TAIL_BYTES), b"\nlast"], reader))

    assert len(reader.output.tail) <= TAIL_BYTES
    assert reader.output.tail.endswith(f"{'x' * (LIMIT - 15)}\nlast\n")


def test_an_over_long_line_says_so() -> None:
    """And what is left of it is as long as it may be."""
    (record,) = read([b"y" * 1000 + b"\n"], make_reader())

    assert record["event"] == "y" * LIMIT
    assert record["cut_bytes"] == 1000 - LIMIT


def test_quiet_lines_are_given_out() -> None:
    """A line waits for the next one, but not for long."""
    reader = make_reader()
    assert list(reader.feed(b"one\n", REDACTOR, STAMP)) == []
    assert reader.is_holding
    assert list(reader.flush_quiet()) == []

    assert [number for _, number in reader.flush_quiet()] == [1]
    assert not reader.is_holding
