"""Snapshots, as a table, and one in detail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from kagent_sdk.cli.screens.style import (
    BAD,
    GOOD,
    NAME,
    QUIET,
    indented,
    pairs,
    plain_table,
    styled,
    title,
    word,
)
from kagent_sdk.cli.text import clean_line, format_age, format_bytes
from kagent_sdk.snapshots.manifest import CACHE
from kagent_sdk.snapshots.naming import parse_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from rich.console import RenderableType
    from rich.table import Table

    from kagent_sdk.snapshots.manifest import Manifest
    from kagent_sdk.snapshots.port import Stored
    from kagent_sdk.snapshots.verify import Verdict

MAX_SHOWN_FILES = 20
DIGEST_CHARS = 12


def snapshot_table(snapshots: Sequence[Stored], now: datetime) -> Table:
    """Return snapshots, one to a line, in the order that they come."""
    table = plain_table("SNAPSHOT", "AGENT", "AGE", "SIZE", right=("SIZE",), fold=("SNAPSHOT",))
    for stored in snapshots:
        name = parse_name(stored.name)
        at = None if name is None else name.created_at.isoformat()
        table.add_row(
            word(stored.name, NAME),
            word(None if name is None else name.agent),
            word(format_age(at, now), QUIET),
            word(format_bytes(stored.size_bytes)),
        )
    return table


def manifest_screen(name: str, size_bytes: int, manifest: Manifest, now: datetime) -> Group:
    """Return what a snapshot says of itself."""
    at = manifest.created_at.isoformat()
    unpacked = sum(member.size_bytes for member in manifest.members)
    rows: list[tuple[str, RenderableType]] = [
        ("agent", word(manifest.agent).append(f" {clean_line(manifest.agent_version)}", QUIET)),
        ("created", word(at).append(f"  {format_age(at, now)}", QUIET)),
        ("state", _count(manifest.state_keys, "key", format_bytes(manifest.state_bytes))),
        ("open tasks", word(manifest.open_tasks)),
        (
            "size",
            word(format_bytes(size_bytes)).append(f"  {format_bytes(unpacked)} unpacked", QUIET),
        ),
        ("made with", word(f"kagent-sdk {manifest.sdk_version}, schema {manifest.schema_version}")),
    ]
    return Group(word(name, NAME), indented(pairs(rows)), "", title("members"), _members(manifest))


def verdict_screen(name: str, verdict: Verdict) -> Group:
    """Return what was found in a snapshot."""
    if not verdict.problems:
        line = word(name, NAME).append("  whole", GOOD)
        line.append(f"  {len(verdict.manifest.members)} members", QUIET)
        if verdict.is_newer:
            line.append("; its rows were not looked at: a newer release has made it", QUIET)
        return Group(line)
    lines = [Text("  ").append(clean_line(problem)) for problem in verdict.problems]
    return Group(word(name, NAME).append("  damaged", BAD), *lines)


def _members(manifest: Manifest) -> RenderableType:
    table = plain_table("NAME", "SIZE", "SHA256", right=("SIZE",), fold=("NAME",))
    shown = manifest.members[: MAX_SHOWN_FILES + 2]
    for member in shown:
        table.add_row(
            word(member.name),
            word(format_bytes(member.size_bytes)),
            word(f"{member.sha256[:DIGEST_CHARS]}…", QUIET),
        )
    left = len(manifest.members) - len(shown)
    if not left:
        return indented(table)
    return Group(
        indented(table), indented(styled(f"and {left} more in {CACHE}; all: --json", QUIET))
    )


def _count(count: int, what: str, size: str) -> Text:
    return word(f"{count} {what}{'' if count == 1 else 's'}").append(f"  {size}", QUIET)
