"""The values that the vault had before: still secret, still to be taken out of what is written. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from kagent_sdk.redaction.secret_forms import MIN_SECRET_CHARS

MAX_VALUES = 1000
MAX_CHARS = 1024 * 1024
"""Of all retired values together, as large as one vault."""


class RetiredSecrets:
    """Keeps the newest `MAX_VALUES` retired values, for the host's life."""

    __slots__ = ("_names",)

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"<RetiredSecrets: {len(self)}>"

    def add(self, secrets: Mapping[str, str]) -> None:
        """Keep the values of a vault that is replaced; the oldest of others are let go."""
        for name, value in secrets.items():
            if len(value) >= MIN_SECRET_CHARS:
                self._names.pop(value, None)
                self._names[value] = name
        chars = sum(map(len, self._names))
        while len(self._names) > MAX_VALUES or chars > MAX_CHARS:
            oldest = next(iter(self._names))
            chars -= len(oldest)
            del self._names[oldest]

    def pairs(self) -> list[tuple[str, str]]:
        """Return names and values, the newest first."""
        return [(name, value) for value, name in reversed(self._names.items())]
