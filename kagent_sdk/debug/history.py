"""What was typed at prompts, for the worker's life: bounded, shared by its sessions, never on disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from prompt_toolkit.history import History

MAX_LINES = 500
MAX_LINE_CHARS = 2000
"""A longer line is not kept."""


class SharedHistory:
    """The newest lines; secrets in them are taken out."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact = redact
        self._lines: deque[str] = deque(maxlen=MAX_LINES)

    def view(self) -> HistoryView:
        """Return it for one prompt."""
        return HistoryView(self)

    def lines(self) -> list[str]:
        """Return what is kept, oldest first."""
        return list(self._lines)

    def add(self, line: str) -> None:
        """Keep a line, unless it is the last again."""
        clean = self._redact(line)
        if len(clean) <= MAX_LINE_CHARS and (not self._lines or self._lines[-1] != clean):
            self._lines.append(clean)


class HistoryView(History):
    """What prompt_toolkit sees of it; what others type later is not in it."""

    def __init__(self, shared: SharedHistory) -> None:
        super().__init__()
        self._shared = shared

    def load_history_strings(self) -> Iterable[str]:
        """Return the lines, newest first."""
        return reversed(self._shared.lines())

    def store_string(self, string: str) -> None:
        """Keep what was typed."""
        self._shared.add(string)
