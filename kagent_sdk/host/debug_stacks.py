"""``kos-agent debug . stacks``: what every thread of the workers is doing, asked of the kernel.

The host sends a signal and `faulthandler` answers from the signal's handler: also while C code holds
the GIL, when nothing in the worker can run a command.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kagent_sdk.host.stacks import ThreadStack, format_dump, parse_dump
from kagent_sdk.protocol.debug import MAX_PAYLOAD_BYTES, Kind, encode_frame

if TYPE_CHECKING:
    from kagent_sdk.host.place import Place
    from kagent_sdk.redaction.redactor import Redactor

STACKS = "stacks"
"""The one command that the host answers itself."""

ANSWER_S = 3.0
"""How long a worker may take: some milliseconds, and a fifth of a second to know that it was all;
more where the machine is too busy to give it a turn."""

MAX_STACKS = 100
"""As many as faulthandler writes."""

USAGE = """\
usage: stacks [--json]

Show what every thread of the workers is doing, the most recent call last. The host asks for it, so
it works while the worker stands still.
"""

EXIT_FAILED = 1
EXIT_USAGE = 2


async def answer_stacks(words: Sequence[str], places: Sequence[Place], redactor: Redactor) -> bytes:
    """Return the frames that answer the command ``stacks``, EXIT included.

    Args:
        words: its arguments.
        places: of the workers to ask.
        redactor: takes the secrets out.
    """
    if words and words[0] in {"-h", "--help"}:
        return _frames(USAGE, "", 0)
    if any(word != "--json" for word in words):
        return _frames("", USAGE, EXIT_USAGE)
    asked = [place for place in places if place.process is not None]
    if not asked:
        return _frames("", "there is no worker at the moment: see kos-agent status\n", EXIT_FAILED)
    named = [(place.index, place.pid) for place in asked]
    dumps = await asyncio.gather(*map(_ask, asked))
    found = [
        (index, pid, None if dump is None else _parse(dump, redactor))
        for (index, pid), dump in zip(named, dumps, strict=True)
    ]
    silent = [index for index, _, threads in found if threads is None]
    errors = "".join(
        f"worker {index} did not show its stacks: it is about to start or to end, or the machine is "
        "too busy\n"
        for index in silent
    )
    tell = _to_json if words else _to_text
    return _frames(tell(found), errors, EXIT_FAILED if silent else 0)


_Found = tuple[int, int | None, tuple[ThreadStack, ...] | None]


async def _ask(place: Place) -> str | None:
    """Return the dump of a worker; None when none came."""
    if place.stacks_asked is None:
        if place.process is None or not place.process.ask_for_stacks():
            return None
        place.stacks_asked = asyncio.get_running_loop().create_future()
    # It is not withdrawn: a dump that comes late is not to be taken for that of a stall.
    done, _ = await asyncio.wait([place.stacks_asked], timeout=ANSWER_S)
    return done.pop().result() if done else None


def _parse(dump: str, redactor: Redactor) -> tuple[ThreadStack, ...]:
    clean = redactor.redact(dump.encode(errors="backslashreplace"))
    return parse_dump(clean.decode(errors="replace"))


def _to_text(found: Sequence[_Found]) -> str:
    parts = []
    for index, pid, threads in found:
        if threads is not None:
            title = f"worker {index} (process {pid})"
            parts.append(f"{title}\n{format_dump(threads, max_stacks=MAX_STACKS)}\n")
    return "\n".join(parts)


def _to_json(found: Sequence[_Found]) -> str:
    workers = [
        {"worker": index, "pid": pid, "threads": [_describe(thread) for thread in threads]}
        for index, pid, threads in found
        if threads is not None
    ]
    return json.dumps({"workers": workers}) + "\n"


def _describe(thread: ThreadStack) -> dict[str, Any]:
    return {
        "ident": thread.ident,
        "name": thread.name,
        "is_main": thread.is_main,
        "is_current": thread.is_current,
        "is_cut": thread.is_cut,
        "frames": [
            {"file": frame.file, "line": frame.line, "function": frame.function}
            for frame in thread.frames
        ],
        "notes": list(thread.notes),
    }


def _frames(out: str, err: str, code: int) -> bytes:
    parts = [
        encode_frame(kind, raw[start : start + MAX_PAYLOAD_BYTES])
        for kind, raw in ((Kind.OUTPUT, out.encode()), (Kind.ERROR, err.encode()))
        for start in range(0, len(raw), MAX_PAYLOAD_BYTES)
    ]
    return b"".join([*parts, encode_frame(Kind.EXIT, bytes([code]))])
