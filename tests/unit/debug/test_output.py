"""What a command prints, without secrets."""

from __future__ import annotations

import pytest

from kagent_sdk.debug import output
from kagent_sdk.debug.output import UNREADABLE, RedactingWriter
from tests.unit.debug.rig import MASK, SECRET


def make_writer() -> tuple[RedactingWriter, list[str]]:
    """Return a writer and what it sends."""
    sent: list[str] = []
    return RedactingWriter(lambda text: text.replace(SECRET, MASK), sent.append), sent


@pytest.mark.parametrize("size", range(1, len(SECRET) + 2))
def test_a_secret_is_found_however_it_is_cut(size: int) -> None:
    """Nobody knows how a repr is put together."""
    writer, sent = make_writer()
    text = f"a {SECRET} b\nc {SECRET}"
    for start in range(0, len(text), size):
        writer.write(text[start : start + size])
        writer.flush()
    writer.finish()

    assert "".join(sent) == f"a {MASK} b\nc {MASK}"


def test_lines_are_sent_as_they_come() -> None:
    """A profile says what it does while it does it."""
    writer, sent = make_writer()
    writer.write("one\ntwo")
    assert sent == ["one\n"]
    writer.finish()
    writer.finish()

    assert sent == ["one\n", "two"]


def test_a_line_without_end_is_sent_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not fill the memory, and no part may end in a secret."""
    monkeypatch.setattr(output, "MAX_LINE_CHARS", 1000)
    monkeypatch.setattr(output, "KEPT_CHARS", 100)
    monkeypatch.setattr(output, "CUT_TRIES", 1)
    for shift in range(len(SECRET) + 2):
        writer, sent = make_writer()
        text = "x" * (1001 - 100 - shift) + SECRET + "y" * 100
        for character in text:
            writer.write(character)
        writer.finish()

        shown = "".join(sent)
        assert shown == text.replace(SECRET, MASK) or UNREADABLE in shown
        assert SECRET[:6] not in shown
        assert SECRET[-6:] not in shown


def test_what_a_terminal_obeys_is_made_visible() -> None:
    """Names are the author's, or a caller's."""
    writer, sent = make_writer()
    writer.write("\x1b[31mred\x9b\ttab\r\n")

    assert sent == [r"\x1b[31mred\x9b" + "\ttab\\x0d\n"]


def test_what_cannot_be_searched_is_not_shown() -> None:
    """Fail closed."""
    sent: list[str] = []

    def fail(text: str) -> str:
        raise ValueError(text)

    writer = RedactingWriter(fail, sent.append)
    writer.write(f"{SECRET}\n")

    assert sent == [UNREADABLE]
