"""``kos-agent debug . stacks``, answered by the host."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from kagent_sdk.host import debug_stacks
from kagent_sdk.host.debug_stacks import answer_stacks
from kagent_sdk.host.place import Place
from kagent_sdk.host.worker_process import WorkerProcess
from kagent_sdk.protocol.debug import FrameReader, Kind
from kagent_sdk.redaction.redactor import Redactor

DUMP = """\
Thread 0x00007f0000000001 (most recent call first):
  File "/agent/pool.py", line 4 in wait
  File "/agent/hunter22.py", line 9 in run

Current thread 0x00007f0000000002 (most recent call first):
  File "/agent/entrypoint.py", line 8 in crunch
"""
REDACTOR = Redactor({"password": "hunter22"})


@dataclass
class FakeProcess:
    """A worker that answers when it is told to.

    Attributes:
        is_able: whether it has a handler for the signal.
    """

    pid: int = 42
    is_able: bool = True
    times_asked: int = 0
    is_asked: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def inner_pid(self) -> int:
        """As of a process that nothing is wrapped around."""
        return self.pid

    def ask_for_stacks(self) -> bool:
        """Note that it was asked."""
        self.times_asked += 1
        self.is_asked.set()
        return self.is_able


def _place(process: FakeProcess | None) -> Place:
    place = Place(0)
    place.process = cast("WorkerProcess | None", process)
    return place


async def _answer(place: Place, *words: str, dump: str | None = DUMP) -> tuple[str, str, int]:
    job = asyncio.create_task(answer_stacks(words, [place], REDACTOR))
    while dump is not None and not job.done():
        await asyncio.sleep(0)
        place.give_stacks(dump)
    return _read(await job)


def _read(frames: bytes) -> tuple[str, str, int]:
    found = FrameReader().feed(frames)
    *texts, (last, code) = found
    assert last is Kind.EXIT
    out = b"".join(payload for kind, payload in texts if kind is Kind.OUTPUT)
    err = b"".join(payload for kind, payload in texts if kind is Kind.ERROR)
    return out.decode(), err.decode(), code[0]


async def test_every_thread_is_told_without_secrets() -> None:
    """Where each stands, the main thread first."""
    out, err, code = await _answer(_place(FakeProcess()))

    assert (err, code) == ("", 0)
    assert out.index("in crunch") < out.index("in wait")
    assert "worker 0 (process 42)" in out
    assert "hunter22" not in out
    assert "***password***" in out


async def test_programs_get_json() -> None:
    """The same, to be read by another program."""
    out, _, code = await _answer(_place(FakeProcess()), "--json")

    document: dict[str, Any] = json.loads(out)
    (worker,) = document["workers"]
    assert code == 0
    assert worker["pid"] == 42
    waiting, stuck = worker["threads"]
    assert stuck["is_main"] is True
    assert stuck["frames"] == [{"file": "/agent/entrypoint.py", "line": 8, "function": "crunch"}]
    assert len(waiting["frames"]) == 2


async def test_large_dumps_leave_in_several_frames() -> None:
    """No frame is larger than a client reads."""
    frames = [f'  File "/{"x" * 250}", line {n} in f{n}\n' for n in range(90)]
    heads = (f"Thread 0x{n:016x} (most recent call first):\n" for n in range(90))
    dump = "\n".join(head + "".join(frames) for head in heads)

    out, _, code = await _answer(_place(FakeProcess()), "--json", dump=dump)

    assert code == 0
    assert len(json.loads(out)["workers"][0]["threads"]) == 90


async def test_two_that_ask_at_once_share_one_dump() -> None:
    """Else the second dump would be taken for that of a worker that stalls."""
    process = FakeProcess()
    place = _place(process)
    jobs = [asyncio.create_task(answer_stacks((), [place], REDACTOR)) for _ in range(2)]
    await process.is_asked.wait()
    await asyncio.sleep(0)
    place.give_stacks(DUMP)

    answers = [_read(await job) for job in jobs]

    assert answers[0] == answers[1]
    assert process.times_asked == 1


async def test_a_worker_that_is_gone_is_told_in_a_line() -> None:
    """Before it is asked, and while it is."""
    out, err, code = await _answer(_place(None))
    assert (out, code) == ("", 1)
    assert "no worker" in err

    process = FakeProcess()
    place = _place(process)
    job = asyncio.create_task(answer_stacks((), [place], REDACTOR))
    await process.is_asked.wait()
    place.vacate()
    out, err, code = _read(await job)
    assert (out, code) == ("", 1)
    assert "worker 0 did not show its stacks" in err


async def test_a_worker_without_a_handler_is_not_signalled_to_death() -> None:
    """An interpreter that still starts, or a program, would end."""
    _, err, code = await _answer(_place(FakeProcess(is_able=False)), dump=None)

    assert code == 1
    assert "did not show" in err


async def test_a_dump_that_never_comes_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that comes late is nobody's: the worker does not count as stalled for it."""
    monkeypatch.setattr(debug_stacks, "ANSWER_S", 0)
    place = _place(FakeProcess())

    _, _, code = await _answer(place, dump=None)

    assert code == 1
    assert place.give_stacks(DUMP) is True
    assert place.give_stacks(DUMP) is False


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["--yaml"], 2), (["-h"], 0)])
async def test_it_explains_itself(words: list[str], code: int) -> None:
    """Help is no error, and a wrong option is one."""
    out, err, found = await _answer(_place(FakeProcess()), *words)

    assert found == code
    assert "usage: stacks" in (err if code else out)
