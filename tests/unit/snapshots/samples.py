"""Agents' folders, whole snapshots, and snapshots that somebody has been at."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zstandard

from kagent_sdk.snapshots import layout
from kagent_sdk.snapshots.creation import Made, Order, create
from kagent_sdk.snapshots.destination import FolderDestination
from kagent_sdk.snapshots.restore import Target
from kagent_sdk.storage.database import open_database
from kagent_sdk.storage.views import open_reader

NOW_S = 1_800_000_000.5
CREATED_AT = "2027-01-15T08:00:00Z"
MTIME_S = 1_800_000_000
MAX_BYTES = 64 * 1024 * 1024

CAPABILITY = '{"name":"digest"}'
STATE = {
    "counter": b"41",
    "users/1/name": '"Ada \u00e9"'.encode(),
    "wide": b'{\n  "a": [1, 2]\n}',
}


def fill(connection: sqlite3.Connection, state: Mapping[str, bytes] = STATE) -> None:
    """Put a state, two open tasks and a finished one into a database."""
    connection.execute("BEGIN")
    for version, (key, value) in enumerate(state.items(), 1):
        connection.execute("INSERT INTO state VALUES (?, ?, NULL, ?)", (key, version, value))
    size = sum(len(key.encode()) + len(value) for key, value in state.items())
    counts = [(7, "state_version"), (size, "state_bytes"), (len(state), "state_keys")]
    connection.executemany("UPDATE meta SET value = ? WHERE name = ?", counts)
    connection.execute("INSERT INTO manifests VALUES ('m1', ?)", (CAPABILITY,))
    add_task(connection, 3, "waits", input=b'{"text":\n"x"}')
    add_task(connection, 5, "works", state="working", attempt=2, progress='[0.5, "half"]')
    add_task(connection, 6, "done", state="completed", finished_at=NOW_S, output=b"1")
    connection.execute("INSERT INTO events VALUES (5, 1, 1, 'state', '{\"state\":\"working\"}')")
    connection.execute("INSERT INTO events VALUES (5, 4, 2, 'event', ?)", (b'"item"',))
    connection.execute("COMMIT")


def add_task(connection: sqlite3.Connection, seq: int, task_id: str, **columns: Any) -> None:
    """Put a task into a database."""
    row = {
        "seq": seq,
        "id": task_id,
        "manifest": "m1",
        "capability": "digest",
        "state": "submitted",
        "attempt": 0,
        "conflicts": 0,
        "created_at": NOW_S,
        "deadline_at": NOW_S + 300,
        "timeout_s": 300.0,
        "size_bytes": 1040,
        "traceparent": "",
        "metadata": b"{}",
        "input": b"{}",
        **columns,
    }
    marks = ", ".join("?" * len(row))
    connection.execute(
        f"INSERT INTO tasks ({', '.join(row)}) VALUES ({marks})",  # noqa: S608 - names from above
        [*row.values()],
    )


def make_agent(directory: Path, state: Mapping[str, bytes] = STATE) -> Path:
    """Make the folder of an agent that has run; return its database."""
    database = directory / "runtime" / "journal.db"
    database.parent.mkdir(parents=True)
    opened = open_database(database, "process", now_s=NOW_S)
    fill(opened.connection, state)
    opened.close()
    return database


def snapshot_of(
    database: Path,
    folder: Path,
    *,
    cache: Path | None = None,
    agent: str = "ada",
    version: str = "1.2",
) -> Made:
    """Make a snapshot of a database in a folder."""
    return create(
        lambda: viewing(database),
        Order(agent, version, cache, MAX_BYTES, keep=10),
        FolderDestination(folder),
        finds_secret=lambda _text: False,
        now_s=NOW_S,
    )


@contextmanager
def viewing(database: Path) -> Iterator[sqlite3.Connection]:
    """Give a connection that sees one moment."""
    connection = open_reader(database)
    try:
        yield connection
    finally:
        connection.close()


def make_snapshot(folder: Path, *, with_cache: bool = True) -> Path:
    """Make an agent in a folder, and a snapshot of it; return the file."""
    database = make_agent(folder / "origin")
    cache = folder / "origin" / "runtime" / "cache"
    (cache / "models").mkdir(parents=True)
    (cache / "models" / "tiny.bin").write_bytes(bytes(range(256)) * 4)
    (cache / "note").write_bytes(b"n")
    made = snapshot_of(database, folder / "kept", cache=cache if with_cache else None)
    return folder / "kept" / made.name


def target_of(directory: Path, *, is_forced: bool = False, **changes: Any) -> Target:
    """Return an agent that a snapshot of `make_snapshot` fits."""
    values = {"agent": "ada", "version": "1.9", "max_bytes": MAX_BYTES, **changes}
    return Target(directory, **values, is_forced=is_forced)


def unpack(path: Path) -> bytes:
    """Return the tar in a snapshot."""
    return zstandard.ZstdDecompressor().decompress(path.read_bytes(), max_output_size=MAX_BYTES)


def pack(tar: bytes) -> bytes:
    """Return a tar as a snapshot has it."""
    return zstandard.ZstdCompressor(level=3, write_checksum=True).compress(tar)


def member(name: str, content: bytes, *, head: bytes | None = None) -> bytes:
    """Return a member of a tar as a snapshot has it, or with another head."""
    start = layout.head(name, len(content), MTIME_S) if head is None else head
    return start + content + layout.padding(len(content))


def describe(contents: Sequence[tuple[str, bytes]], **changes: Any) -> dict[str, Any]:
    """Return a manifest of members with these contents, right in every detail but for changes."""
    state = [line for line in contents[0][1].splitlines() if line] if contents else []
    keys = [json.loads(line) for line in state]
    size = sum(len(each["key"].encode()) + len(json.dumps(each["value"])) for each in keys)
    return {
        "format": 1,
        "schema_version": 1,
        "agent": "ada",
        "agent_version": "1.2",
        "sdk_version": "0.1.0",
        "created_at": CREATED_AT,
        "state_version": 7,
        "state_keys": len(keys),
        "state_bytes": size,
        "open_tasks": sum(b'"tasks"' in line for _, text in contents for line in text.splitlines()),
        "members": [
            {"name": name, "size_bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}
            for name, text in contents
        ],
        **changes,
    }


EMPTY: tuple[tuple[str, bytes], ...] = (("state.jsonl", b""), ("tasks.jsonl", b""))


def forge(
    contents: Sequence[tuple[str, bytes]] = EMPTY,
    *,
    manifest: object = None,
    members: Sequence[bytes] | None = None,
    end: bytes = layout.END,
) -> bytes:
    """Return a snapshot whose parts do what the caller wants, and else what is right."""
    document = describe(contents) if manifest is None else manifest
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    packed = [member(name, content) for name, content in contents] if members is None else members
    return pack(member("manifest.json", text) + b"".join(packed) + end)


def picture(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return all that there is in a folder: kinds, times and bytes."""
    found: dict[str, tuple[int, int, bytes]] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        # The time of a folder changes with what came and went in it; a file's is its own.
        time_ns = 0 if stat.S_ISDIR(status.st_mode) else status.st_mtime_ns
        found[str(path.relative_to(folder))] = (status.st_mode, time_ns, content)
    return found
