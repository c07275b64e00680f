"""What a command prints, without secrets and without control characters.

A secret may come in pieces (``print(key[:5], end=""); print(key[5:])``), so a text is held until
its line is whole.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable

MAX_LINE_CHARS = 512 * 1024
"""A line that grows longer is sent in parts."""

KEPT_CHARS = 64 * 1024
"""Held back of such a line: a secret of this length that is not whole yet does not slip through."""

CUT_TRIES = 16

UNREADABLE = "[a line that could not be searched for secrets]\n"

# Names of jobs and values of the author's are shown: none of them may drive the operator's terminal.
_VISIBLE = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"
}


class RedactingWriter(io.TextIOBase):
    """A text stream that passes on whole lines. May be written by several threads."""

    def __init__(self, redact: Callable[[str], str], send: Callable[[str], None]) -> None:
        super().__init__()
        self._redact = redact
        self._send = send
        self._lock = threading.RLock()
        self._parts: list[str] = []
        self._held_chars = 0

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """What becomes of the text later."""
        return "utf-8"

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str, /) -> int:
        """Pass on the lines that are whole now.

        Raises:
            OSError: nobody listens any more.
        """
        with self._lock:
            lines, newline, rest = text.rpartition("\n")
            if newline:
                self._hold(lines)
                self._pass_on(self._take() + newline)
            self._hold(rest)
            if self._held_chars > MAX_LINE_CHARS:
                self._pass_on_part()
        return len(text)

    def flush(self) -> None:
        """Do nothing: a line that is not whole stays, or half a secret could be seen."""

    def finish(self) -> None:
        """Pass on the line that will not be whole: the command is over.

        Raises:
            OSError: nobody listens any more.
        """
        with self._lock:
            if self._held_chars:
                self._pass_on(self._take())

    def _hold(self, text: str) -> None:
        if text:
            self._parts.append(text)
            self._held_chars += len(text)

    def _take(self) -> str:
        text = "".join(self._parts)
        self._parts.clear()
        self._held_chars = 0
        return text

    def _pass_on(self, text: str) -> None:
        clean = self._clean(text)
        if clean:
            self._send(clean)

    def _pass_on_part(self) -> None:
        text = self._take()
        place = self._safe_cut(text)
        if place is None:
            self._pass_on(UNREADABLE)
        else:
            self._pass_on(text[:place])
            self._hold(text[place:])

    def _safe_cut(self, text: str) -> int | None:
        """Return where to cut a long line so that the cut goes through no secret."""
        whole = self._clean(text)
        for number in range(CUT_TRIES):
            place = len(text) - KEPT_CHARS - number * 997  # not in step with what repeats
            if self._clean(text[:place]) + self._clean(text[place:]) == whole:
                return place
        return None

    def _clean(self, text: str) -> str:
        try:
            clean = self._redact(text)
        except Exception:  # noqa: BLE001 - of whatever kind: what cannot be searched is not shown
            return UNREADABLE
        return clean.translate(_VISIBLE)
