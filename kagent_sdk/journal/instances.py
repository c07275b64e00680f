"""Which starts of a host have had this journal before: a function of a connection, for the storage's thread.

A host whose journal another host has opened is gone: the file is locked. So an orchestrator that hears
of a later one need not wait for it.
"""

from __future__ import annotations

import json
import re
import sqlite3

from kagent_sdk.protocol.link import MAX_BEFORE, WORD_PATTERN

_is_word = re.compile(WORD_PATTERN).fullmatch
_NAME = "link_instances"


def succeed(connection: sqlite3.Connection, instance: str) -> tuple[str, ...]:
    """Note that a start of a host has the journal now, and return those before it, the last one first."""
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (_NAME,)).fetchone()
    kept = [] if row is None else _read(row[0])
    before = [one for one in kept if one != instance]
    connection.execute(
        "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)",
        (_NAME, json.dumps([instance, *before][: MAX_BEFORE + 1])),
    )
    return tuple(before[:MAX_BEFORE])


def _read(value: object) -> list[str]:
    try:
        found = json.loads(str(value))
    except ValueError:
        return []  # no start of ours has written that: nobody is known
    found = found if isinstance(found, list) else []
    return [one for one in found if isinstance(one, str) and _is_word(one)]
