"""Which changes of the configuration a reload puts in force, and which need a restart. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kagent_sdk.config.models import AgentConfig
from kagent_sdk.config.section import Section

LIVE_KEYS: frozenset[tuple[str, ...]] = frozenset(
    {
        ("version",),
        ("description",),
        ("entrypoint",),
        ("worker",),
        ("tasks",),
        ("health",),
        ("limits",),
        ("callbacks",),
        ("orchestrator", "labels"),
        ("shutdown",),
        ("secrets", "expose"),
        ("secrets", "required"),
        ("secrets", "guard_results"),
        ("logs", "level"),
        ("logs", "configure"),
    }
)
"""Keys, and sections with all that is in them, that the swap of the workers puts in force. What is
not named here keeps its value until a restart: so a new key is never silently without effect."""


FIXED_KEYS: frozenset[tuple[str, ...]] = frozenset(
    {("tasks", "durability"), ("worker", "user"), ("worker", "isolation")}
)
"""Keys in those sections that keep their value all the same: the database is open already, and the
host has become the user that it stays."""


@dataclass(frozen=True, slots=True)
class Reconfiguration:
    """What becomes of a configuration that was read anew.

    Attributes:
        config: to be in force from the swap on.
        changed: dotted keys whose new value is in it.
        needs_restart: dotted keys that were changed too, and keep the value that they had.
    """

    config: AgentConfig
    changed: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()


def reconfigure(present: AgentConfig, wanted: AgentConfig) -> Reconfiguration:
    """Decide what of a configuration that was read anew takes effect without a restart."""
    changed: list[str] = []
    needs_restart: list[str] = []

    def merge(old: Section, new: Section, prefix: tuple[str, ...]) -> Section:
        updates: dict[str, Any] = {}
        for name in type(old).model_fields:
            before, after, path = getattr(old, name), getattr(new, name), (*prefix, name)
            if before == after:
                continue
            if isinstance(before, Section) and isinstance(after, Section):
                updates[name] = merge(before, after, path)
            elif is_live(path) and not _is_other_kind(path, before, after):
                updates[name] = after
                changed.append(".".join(path))
            else:
                needs_restart.append(".".join(path))
        return old.model_copy(update=updates)

    config = merge(present, wanted, ())
    assert isinstance(config, AgentConfig)
    return Reconfiguration(config, tuple(changed), tuple(needs_restart))


def is_live(path: tuple[str, ...]) -> bool:
    """Say whether a key can change while the agent runs."""
    if path in FIXED_KEYS:
        return False
    return any(path[:length] in LIVE_KEYS for length in range(1, len(path) + 1))


def _is_other_kind(path: tuple[str, ...], before: object, after: object) -> bool:
    """Say whether a program would follow an entrypoint, or the other way round."""
    return path == ("worker", "command") and (before is None or after is None)
