"""Snapshots that somebody has made to do harm; each function makes one."""

from __future__ import annotations

import functools
import io
import json
import tarfile
from collections.abc import Callable

import zstandard

from tests.unit.snapshots import samples
from tests.unit.snapshots.samples import EMPTY, describe, forge, member, pack

SKIPPABLE = b"\x50\x2a\x4d\x18\x04\x00\x00\x00gift"


def foreign_tar(add: Callable[[tarfile.TarFile], None]) -> bytes:
    """Return what an ordinary program packs: our manifest, and whatever it adds."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("manifest.json")
        text = json.dumps(describe(EMPTY)).encode()
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
        add(tar)
    return pack(out.getvalue())


def odd_member(kind: bytes, name: str, link: str = "") -> bytes:
    """Return a snapshot in which a member of another kind stands in place of the state."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mtime = kind, link, samples.MTIME_S
    return forge(members=[info.tobuf(tarfile.USTAR_FORMAT)])


def named(name: str) -> bytes:
    """Return a snapshot with a member of that name, in its manifest too."""
    contents = [*EMPTY, (name, b"x")]
    members = [member(each, text) for each, text in EMPTY]
    head = tarfile.TarInfo(name)
    head.size, head.mtime = 1, samples.MTIME_S
    members.append(member(name, b"x", head=head.tobuf(tarfile.PAX_FORMAT)))
    return forge(contents, manifest=describe(contents), members=members)


def swapped() -> bytes:
    """Return a snapshot whose members stand in another order than the manifest says."""
    tasks, state = (member(name, b"") for name in ("tasks.jsonl", "state.jsonl"))
    return forge(members=[tasks, state])


def doubled() -> bytes:
    """Return a snapshot with the state twice."""
    state, tasks = (member(name, b"") for name in ("state.jsonl", "tasks.jsonl"))
    return forge(members=[state, state, tasks])


@functools.cache
def bomb() -> bytes:
    """Return a file of some kilobytes that unpacks to four times what is allowed."""
    out = io.BytesIO()
    compressor = zstandard.ZstdCompressor(write_checksum=True)
    with compressor.stream_writer(out, size=1 << 28, closefd=False) as writer:
        for _ in range(1 << 8):
            writer.write(bytes(1 << 20))
    return out.getvalue()


def lying_bomb() -> bytes:
    """Return the same with a head that speaks of a few bytes."""
    honest = bomb()
    # Four bytes of size behind magic, flags and window; the widest field that stays as wide.
    position = 6
    return honest[:position] + (1000).to_bytes(4, "little") + honest[position + 4 :]


def wide_window() -> bytes:
    """Return a file that asks its reader for 128 MiB of memory."""
    parameters = zstandard.ZstdCompressionParameters(
        window_log=27, write_checksum=True, write_content_size=True
    )
    out = io.BytesIO()
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    with compressor.stream_writer(out, size=40 << 20, closefd=False) as writer:
        writer.write(bytes(40 << 20))
    return out.getvalue()


def endless_blocks() -> bytes:
    """Return a frame of a million blocks with nothing in them."""
    head = b"\x28\xb5\x2f\xfd" + bytes([0b10_1_0_0_1_00]) + (100).to_bytes(4, "little")
    return head + bytes(3) * 1_000_000


def unknown_size() -> bytes:
    """Return a frame that does not say what it unpacks to."""
    return zstandard.ZstdCompressor(write_checksum=True, write_content_size=False).compress(b"x")


def unchecked() -> bytes:
    """Return a frame without a checksum."""
    return zstandard.ZstdCompressor().compress(b"x" * 2000)


def line(text: str) -> bytes:
    """Return a snapshot whose state has this line, and whose manifest counts one key."""
    raw = text.encode()
    right = describe([("state.jsonl", b""), ("state.jsonl", raw), EMPTY[1]])
    counted = {**right, "members": right["members"][1:], "state_keys": 1, "state_bytes": 2}
    return forge([("state.jsonl", raw), EMPTY[1]], manifest=counted)


def unpacked_tar() -> bytes:
    """Return a snapshot without zstd around it."""
    return zstandard.ZstdDecompressor().decompress(forge())


def tasks(*lines: dict[str, object] | str) -> bytes:
    """Return a snapshot with these rows of tasks."""
    text = "".join(
        f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in lines
    ).encode()
    return forge([EMPTY[0], ("tasks.jsonl", text)])


MANIFEST_ROW: dict[str, object] = {"table": "manifests", "id": "m", "document": "{}"}
TASK_ROW: dict[str, object] = {
    "table": "tasks",
    "seq": 1,
    "id": "t",
    "manifest": "m",
    "capability": "digest",
    "state": "submitted",
    "attempt": 0,
    "conflicts": 0,
    "created_at": 1.0,
    "size_bytes": 1,
    "traceparent": "",
    "metadata": {},
    "input": {},
}
EVENT_ROW: dict[str, object] = {
    "table": "events",
    "task": 1,
    "id": 1,
    "attempt": 1,
    "kind": "event",
    "data": 1,
}


def task(**changes: object) -> bytes:
    """Return a snapshot with one task that differs from a right one; None leaves a column out."""
    row = {key: value for key, value in {**TASK_ROW, **changes}.items() if value is not None}
    return tasks(MANIFEST_ROW, row)


def manifested(**changes: object) -> bytes:
    """Return a snapshot whose manifest differs from a right one."""
    return forge(manifest=describe(EMPTY, **changes))
