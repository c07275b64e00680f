"""Takes secrets out of bytes that are about to leave the process tree. Pure."""

from __future__ import annotations

from collections.abc import Mapping

MIN_SECRET_CHARS = 6
"""Shorter ones would also be found in what is no secret."""


class Redactor:
    """Replaces each secret by ``***NAME***``.

    Args:
        secrets: the values by their names in the vault, such as ``db.password``; those under
            `MIN_SECRET_CHARS` are left alone.

    Attributes:
        longest_bytes: of what is searched for; who cuts a text must look so far beyond the cut.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._values = {
            value.encode(): b"***%b***" % name.encode()
            for name, value in secrets.items()
            if len(value) >= MIN_SECRET_CHARS
        }
        self.longest_bytes = max(map(len, self._values), default=0)

    def redact(self, text: bytes) -> bytes:
        """Return whole lines without the secrets."""
        for value, name in self._values.items():
            text = text.replace(value, name)
        return text

    def finds_in(self, text: bytes) -> bool:
        """Whether there is a secret in a text."""
        return any(value in text for value in self._values)
