"""Files that are no snapshots, or that somebody has been at: one clear error, an untouched agent."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kagent_sdk.errors import SnapshotError
from kagent_sdk.snapshots import layout
from kagent_sdk.snapshots.restore import restore
from kagent_sdk.snapshots.verify import verify
from tests.unit.snapshots import samples
from tests.unit.snapshots.forgeries import (
    EVENT_ROW,
    MANIFEST_ROW,
    SKIPPABLE,
    TASK_ROW,
    bomb,
    doubled,
    endless_blocks,
    foreign_tar,
    line,
    lying_bomb,
    manifested,
    named,
    odd_member,
    swapped,
    task,
    tasks,
    unchecked,
    unknown_size,
    unpacked_tar,
    wide_window,
)
from tests.unit.snapshots.samples import EMPTY, MAX_BYTES, NOW_S, describe, forge, member, pack

CASES: dict[str, tuple[Callable[[], bytes], str]] = {
    # Not even the outer shape
    "an empty file": (lambda: b"", "no snapshot"),
    "a text": (lambda: b"hello", "no snapshot"),
    "a tar that is not packed": (unpacked_tar, "no snapshot"),
    "garbage behind the end": (lambda: forge() + b"x", "1 bytes follow its end"),
    "two frames": (lambda: forge() + forge(), "bytes follow its end"),
    "a skippable frame behind it": (lambda: forge() + SKIPPABLE, "follow its end"),
    "a skippable frame before it": (lambda: SKIPPABLE + forge(), "no snapshot"),
    "a bomb": (bomb, "over snapshots.max_bytes"),
    "a bomb with a lying head": (lying_bomb, "damaged"),
    "a window of 128 MiB": (wide_window, "too much memory"),
    "a million empty blocks": (endless_blocks, "damaged"),
    "a size that is not told": (unknown_size, "does not say how large"),
    "no checksum": (unchecked, "another kind"),
    "a zstd file of something else": (lambda: pack(b"x" * 5000), "no snapshot"),
    "a short file of something else": (lambda: pack(b"x"), "its end is missing"),
    # The manifest
    "no manifest": (
        lambda: pack(member("state.jsonl", b"") + layout.END),
        "and not as manifest.json does",
    ),
    "a manifest that is no JSON": (lambda: forge(manifest=b"{"), "manifest.json is damaged"),
    "a manifest that is a list": (lambda: forge(manifest=[]), "manifest.json is damaged"),
    "a nested manifest": (lambda: forge(manifest=b"[" * 100_000), "manifest.json is damaged"),
    "a huge manifest": (lambda: forge(manifest=b" " * (17 << 20)), "manifest.json is damaged"),
    "a newer format": (lambda: manifested(format=2), "install a newer kagent-sdk"),
    "an unknown member of it": (lambda: manifested(more=1), "manifest.json is damaged: more"),
    "another time in the head": (
        lambda: manifested(created_at="2027-01-15T08:00:01Z"),
        "head does not fit",
    ),
    "a newer schema": (lambda: manifested(schema_version=99), "install a newer kagent-sdk"),
    "a wrong hash in it": (
        lambda: manifested(
            members=[{**one, "sha256": "0" * 64} for one in describe(EMPTY)["members"]]
        ),
        "state.jsonl: its bytes are not those",
    ),
    # Names
    "a name that climbs out": (lambda: named("cache/../../evil"), "no name of a member"),
    "an absolute name": (lambda: named("/etc/passwd"), "no name of a member"),
    "an absolute name in the cache": (lambda: named("cache//etc/passwd"), "no name of a member"),
    "a name with a dot": (lambda: named("cache/./x"), "no name of a member"),
    "a backslash": (lambda: named("cache/..\\x"), "no name of a member"),
    "a control character": (lambda: named("cache/\x1b[2J"), "no name of a member"),
    "the vault": (lambda: named("secrets/vault.json"), "no name of a member"),
    "a name of 2000 bytes": (
        lambda: named(f"cache/{'/'.join(['x' * 99] * 20)}"),
        "no name of a member",
    ),
    "a part of 300 bytes": (lambda: named(f"cache/{'x' * 300}"), "no name of a member"),
    "a name twice": (
        lambda: forge([*EMPTY, ("cache/a", b""), ("cache/a", b"")]),
        "twice or out of order",
    ),
    "a file that is a folder": (
        lambda: forge([*EMPTY, ("cache/a", b""), ("cache/a/b", b"")]),
        "a file and a folder",
    ),
    # Kinds of members
    "a symbolic link": (
        lambda: odd_member(tarfile.SYMTYPE, "state.jsonl", "/etc/passwd"),
        "a symbolic link",
    ),
    "a hard link": (
        lambda: odd_member(tarfile.LNKTYPE, "state.jsonl", "manifest.json"),
        "a hard link",
    ),
    "a device": (lambda: odd_member(tarfile.CHRTYPE, "state.jsonl"), "a character device"),
    "a disk": (lambda: odd_member(tarfile.BLKTYPE, "state.jsonl"), "a block device"),
    "a named pipe": (lambda: odd_member(tarfile.FIFOTYPE, "state.jsonl"), "a named pipe"),
    "a folder": (lambda: odd_member(tarfile.DIRTYPE, "state.jsonl"), "a folder"),
    "a sparse file": (lambda: odd_member(tarfile.GNUTYPE_SPARSE, "state.jsonl"), "a sparse file"),
    "an unknown kind": (lambda: odd_member(b"Z", "state.jsonl"), "something"),
    "a global header": (
        lambda: forge(members=[tarfile.TarInfo.create_pax_global_header({"path": "/etc/passwd"})]),
        "a global header",
    ),
    # Members that are not those of the manifest
    "members in another order": (swapped, "'tasks.jsonl'"),
    "a member twice": (doubled, "'state.jsonl'"),
    "a member too few": (
        lambda: forge(members=[member("state.jsonl", b"")]),
        "the end of the archive",
    ),
    "a member too many": (
        lambda: forge(members=[*(member(*each) for each in EMPTY), member("more", b"")]),
        "behind the last member is a file with the name 'more'",
    ),
    "a member that is too long": (
        lambda: forge(members=[member("state.jsonl", b"x"), member(*EMPTY[1])]),
        "state.jsonl",
    ),
    "something behind a member": (
        lambda: forge(
            [("state.jsonl", b""), ("tasks.jsonl", b""), ("cache/a", b"a")],
            members=[*(member(*each) for each in EMPTY), member("cache/a", b"a")[:-1] + b"!"],
        ),
        "cache/a: something stands behind its end",
    ),
    "no end": (lambda: forge(end=b""), "its end is missing"),
    "half an end": (lambda: forge(end=layout.END[:512]), "its end is missing"),
    "something behind the end": (
        lambda: forge(end=layout.END + bytes(512)),
        "behind the last member",
    ),
    "what tar packs": (lambda: foreign_tar(lambda _tar: None), "and not as manifest.json does"),
    # Rows of the state
    "a line that is no JSON": (lambda: line("{\n"), "line 1 is no JSON"),
    "a line that is a list": (lambda: line("[]\n"), "line 1 is no JSON object"),
    "an empty line": (lambda: line("\n"), "line 1 is no JSON object"),
    "a line without an end": (lambda: line('{"key":"a","version":1,"value":1}'), "has no end"),
    "a line with a tail": (
        lambda: line('{"key":"a","version":1,"value":1}{}\n'),
        "goes on behind its end",
    ),
    "a column too many": (
        lambda: line('{"key":"a","version":1,"value":1,"x":1}\n'),
        "a column that is unknown",
    ),
    "a column too few": (lambda: line('{"key":"a","value":1}\n'), "lacks the column version"),
    "a column twice": (
        lambda: line('{"key":"a","key":"b","version":1,"value":1}\n'),
        "comes twice",
    ),
    "a value twice": (
        lambda: line('{"key":"a","version":1,"value":1,"value.base64":"MQ=="}\n'),
        "has the column value twice",
    ),
    "no base64": (lambda: line('{"key":"a","version":1,"value.base64":"!"}\n'), "no base64"),
    "a key that is none": (lambda: line('{"key":"a//b","version":1,"value":1}\n'), "no key"),
    "a key that is a number": (lambda: line('{"key":1,"version":1,"value":1}\n'), "else than TEXT"),
    "a version of 0": (lambda: line('{"key":"a","version":0,"value":1}\n'), "a version below 1"),
    "a version that is a float": (
        lambda: line('{"key":"a","version":1.0,"value":1}\n'),
        "else than INTEGER",
    ),
    "a huge version": (
        lambda: line('{"key":"a","version":9007199254740993,"value":1}\n'),
        "else than INTEGER",
    ),
    "a version from the future": (
        lambda: line('{"key":"a","version":8,"value":1}\n'),
        "newer than the manifest",
    ),
    "a value that is no JSON": (
        lambda: line('{"key":"a","version":1,"value.base64":"e30="}x\n'),
        "line 1",
    ),
    "a value of bytes": (
        lambda: line('{"key":"a","version":1,"value.base64":"/w=="}\n'),
        "no JSON of at most",
    ),
    "a value that is too large": (
        lambda: line('{"key":"a","version":1,"value":"' + "x" * (1 << 20) + '"}\n'),
        "no JSON of at most",
    ),
    "a time that never comes": (
        lambda: line('{"key":"a","version":1,"expires_at":1e999,"value":1}\n'),
        "else than REAL",
    ),
    "keys out of order": (
        lambda: line('{"key":"b","version":1,"value":1}\n{"key":"a","version":1,"value":1}\n'),
        "line 2 has a key that comes twice or out of order",
    ),
    "a count that is wrong": (lambda: manifested(state_keys=1), "not as many keys"),
    # Rows of tasks
    "a task of nothing": (lambda: tasks(TASK_ROW), "a capability that is not there"),
    "a row of no table": (lambda: tasks({**MANIFEST_ROW, "table": "meta"}), "belongs to no table"),
    "a task that has ended": (lambda: task(finished_at=1.0), "is not open"),
    "a task with a final state": (lambda: task(state="completed"), "is not open"),
    "a task with an output": (lambda: task(output=1), "has an end"),
    "a task id that is a path": (lambda: task(id="../x"), "an id that no task can have"),
    "a task without an input": (lambda: task(input=None), "lacks the column input"),
    "metadata that is a list": (lambda: task(metadata=[]), "metadata that is no JSON object"),
    "progress that is none": (lambda: task(progress="[2, null]"), "column progress"),
    "progress of one": (lambda: task(progress="[1]"), "column progress"),
    "progress that is no JSON": (lambda: task(progress="["), "column progress"),
    "a capability of many megabytes": (
        lambda: tasks({**MANIFEST_ROW, "document": "{" + " " * (5 << 20) + "}"}),
        "a capability that is too large",
    ),
    "too many attempts": (lambda: task(attempt=10**9), "column attempt"),
    "a negative size": (lambda: task(size_bytes=-1), "column size_bytes"),
    "a negative time": (lambda: task(deadline_at=-1), "column deadline_at"),
    "a traceparent that breaks lines": (lambda: task(traceparent="a\nb"), "column traceparent"),
    "a sequence of 0": (lambda: task(seq=0), "is out of order"),
    "a lease that is none": (lambda: task(lease="a b"), "column lease"),
    "too many hops": (lambda: task(hops=17), "column hops"),
    "a nameless capability": (lambda: task(capability=""), "a capability without a name"),
    "a task twice": (
        lambda: tasks(MANIFEST_ROW, TASK_ROW, {**TASK_ROW, "seq": 2}),
        "line 3 has an id that no task can have",
    ),
    "a capability twice": (
        lambda: tasks(MANIFEST_ROW, MANIFEST_ROW),
        "the id of another capability",
    ),
    "a capability that is none": (
        lambda: tasks({**MANIFEST_ROW, "document": "[]"}),
        "no JSON object",
    ),
    "an event of nothing": (lambda: tasks(EVENT_ROW), "belongs to no task"),
    "an event of an ended task": (
        lambda: tasks(MANIFEST_ROW, TASK_ROW, {**EVENT_ROW, "kind": "task"}),
        "no event of an open task",
    ),
    "events out of order": (
        lambda: tasks(MANIFEST_ROW, TASK_ROW, EVENT_ROW, EVENT_ROW),
        "line 4 is out of order",
    ),
    "a task too few": (lambda: manifested(open_tasks=1), "not as many tasks"),
}


@pytest.fixture
def agents(tmp_path: Path) -> list[Path]:
    """Return an agent that has run, and a fresh folder."""
    samples.make_agent(tmp_path / "old")
    (tmp_path / "old" / "runtime" / "cache").mkdir()
    (tmp_path / "old" / "runtime" / "cache" / "mine").write_text("keep me")
    (tmp_path / "old" / "runtime" / "journal.db.lock").touch()
    (tmp_path / "new").mkdir()
    return [tmp_path / "old", tmp_path / "new"]


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_ends_in_one_error_and_an_untouched_agent(
    name: str, agents: list[Path], tmp_path: Path
) -> None:
    """Whoever restores a file from somewhere must not pay for what is in it."""
    make, said = CASES[name]
    path = tmp_path / "evil.tar.zst"
    path.write_bytes(make())
    for agent in agents:
        before = samples.picture(agent)
        with pytest.raises(SnapshotError) as caught:
            restore(path, samples.target_of(agent, is_forced=True), NOW_S)

        text = "\n".join((str(caught.value), *caught.value.problems))
        assert said in text, text
        assert "\n" not in str(caught.value)
        assert text.replace("\n", "").isprintable()
        assert samples.picture(agent) == before


@pytest.mark.parametrize("name", CASES)
def test_verify_finds_what_restore_refuses(name: str, tmp_path: Path) -> None:
    """A person looks first: what `verify` calls whole must be so."""
    path = tmp_path / "evil.tar.zst"
    path.write_bytes(CASES[name][0]())

    assert is_refused(path) or verify(path, MAX_BYTES).is_newer


def test_the_forger_can_do_it_right(tmp_path: Path) -> None:
    """Otherwise the cases here could be refused for something else than what they are about."""
    rows = [
        MANIFEST_ROW,
        TASK_ROW,
        EVENT_ROW,
        {**TASK_ROW, "seq": 2, "id": "u", "progress": "[null, null]"},
    ]
    for number, whole in enumerate(
        (forge(), tasks(*rows), line('{"key":"a","version":7,"value":1}\n'))
    ):
        path = tmp_path / f"{number}.tar.zst"
        path.write_bytes(whole)

        assert verify(path, MAX_BYTES).problems == ()


def is_refused(path: Path) -> bool:
    """Tell whether anything is wrong with a file."""
    try:
        return bool(verify(path, MAX_BYTES).problems)
    except SnapshotError:
        return True


def test_a_snapshot_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    """A download breaks off where it likes."""
    whole = samples.make_snapshot(tmp_path).read_bytes()
    agent = tmp_path / "new"
    agent.mkdir()
    path = tmp_path / "cut.tar.zst"
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(SnapshotError):
            restore(path, samples.target_of(agent), NOW_S)

    assert samples.picture(agent) == {}
    path.write_bytes(whole)
    restore(path, samples.target_of(agent), NOW_S)


def test_a_byte_that_rots_anywhere_is_found(tmp_path: Path) -> None:
    """Disks and networks change a byte now and then; no restored state may show it."""
    whole = samples.make_snapshot(tmp_path).read_bytes()
    agent = tmp_path / "new"
    agent.mkdir()
    path = tmp_path / "rotten.tar.zst"
    for place in range(len(whole)):
        rotten = bytearray(whole)
        rotten[place] ^= 0x55
        path.write_bytes(rotten)

        assert is_refused(path)
        if place % 50 == 0:
            with pytest.raises(SnapshotError):
                restore(path, samples.target_of(agent), NOW_S)
    assert samples.picture(agent) == {}


def test_a_bit_of_the_tar_that_flips_is_named_by_its_member(tmp_path: Path) -> None:
    """Behind a forged checksum, the hashes of the manifest are what is left."""
    tar = samples.unpack(samples.make_snapshot(tmp_path))
    place = tar.index(b"users/1/name")
    path = tmp_path / "flipped.tar.zst"
    path.write_bytes(pack(tar[:place] + b"users/2/name" + tar[place + 12 :]))

    assert verify(path, MAX_BYTES).problems == (
        "state.jsonl: its bytes are not those that were written: the sha256 differs",
    )


def test_every_damaged_member_is_named(tmp_path: Path) -> None:
    """One look tells what is lost."""
    path = samples.make_snapshot(tmp_path)
    tar = bytearray(samples.unpack(path))
    for text in (b"counter", b'"digest"', bytes(range(200, 256))):
        tar[tar.index(text, 2048) + 3] ^= 0x01
    path.write_bytes(pack(bytes(tar)))
    problems = verify(path, MAX_BYTES).problems

    assert [problem.partition(":")[0] for problem in problems] == [
        "state.jsonl",
        "tasks.jsonl",
        "cache/models/tiny.bin",
    ]


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    """A named pipe would be waited for until the end of time."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, said in (("pipe", "regular"), ("folder", "regular"), ("nothing", "no such file")):
        with pytest.raises(SnapshotError, match=f"(?i){said}"):
            verify(tmp_path / name, MAX_BYTES)
