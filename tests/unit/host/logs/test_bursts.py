"""Lines that belong together become one record."""

from __future__ import annotations

import pytest

from kagent_sdk.host.logs.bursts import MAX_BYTES, MAX_LINES, Burst

STAMP = b"now"


def gather(text: str) -> list[Burst]:
    """Return the bursts of a text."""
    bursts: list[Burst] = []
    for line in text.encode().removesuffix(b"\n").split(b"\n"):
        if not bursts or not bursts[-1].takes(line):
            bursts.append(Burst(line, STAMP))
    return bursts


TRACEBACK = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\n'
FRAME = '  File "a.py", line 1, in f'
CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"
GROUP = """\
  + Exception Group Traceback (most recent call last):
  |   File "a.py", line 1, in <module>
  | ExceptionGroup: some (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | ValueError: a
    +---------------- 2 ----------------
    | OSError: b
    +------------------------------------
"""
DUMP = f"""\
Fatal Python error: Segmentation fault

Thread 0x00007f (most recent call first):
{FRAME}

Current thread 0x00007e (most recent call first):
{FRAME}

Extension modules: one, two (total: 2)
"""


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        (f"{TRACEBACK}ValueError: boom\n", "ValueError: boom"),
        (f"{TRACEBACK}KeyError: 1\n{CAUSE}{TRACEBACK}a.b.Own\n", "a.b.Own"),
        (f"Exception in thread T (f):\n{TRACEBACK}OSError: x\n", "OSError: x"),
        (f"{TRACEBACK}p.ValidationError: 1 validation error for A\nb.0\n  Field required\n",
         "p.ValidationError: 1 validation error for A"),
        (GROUP, "ExceptionGroup: some (2 sub-exceptions)"),
        (f"{GROUP}{CAUSE}{TRACEBACK}OSError: last\n", "OSError: last"),
        (f"{TRACEBACK}KeyError: 1\n{CONTEXT}{GROUP}", "ExceptionGroup: some (2 sub-exceptions)"),
        (f"{FRAME[:-6]}\n    if\n     ^\nSyntaxError: invalid\n", "SyntaxError: invalid"),
        (DUMP, "Fatal Python error: Segmentation fault"),
        (f"Stack (most recent call first):\n{FRAME}\n", "Stack (most recent call first):"),
    ],
)  # fmt: skip
def test_one_error_is_one_burst(text: str, summary: str) -> None:
    """A traceback in twenty records can neither be read nor counted."""
    (burst,) = gather(text)

    assert burst.is_traceback
    assert burst.text.decode() == text.removesuffix("\n")
    assert burst.summary.decode() == summary
    assert burst.is_fatal == (text is DUMP)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("one\ntwo\nthree", 3),
        ("head\n  more\n\tmore\nnext", 2),
        ('{\n  "a": 1\n}\nnext', 2),
        ("[\n  1\n]\n  indented again", 2),
        ("one\n}", 2),
        ("\none", 2),
        (f"before\n{TRACEBACK}ValueError: x\nafter", 3),
        (f"ERROR:root:failed\n{TRACEBACK}ValueError: x\nafter", 2),
        (f"{TRACEBACK}ValueError: x\n  of two lines\nafter", 2),
        (f"{TRACEBACK}ValueError: x\n{TRACEBACK}ValueError: y", 2),
        (f"{TRACEBACK}ValueError: x\n\nafter", 2),
        (f"{TRACEBACK}this is no exception", 2),
        ('plain\n  File "a.py", line 1\n    if\n      ^\nSyntaxError: invalid syntax', 2),
    ],
)
def test_what_does_not_belong_together_is_parted(text: str, count: int) -> None:
    """A line that has nothing to do with a traceback must be found by itself."""
    bursts = gather(text)

    assert len(bursts) == count
    assert b"\n".join(burst.text for burst in bursts).decode() == text


def test_a_traceback_that_was_cut_off_is_told_by_its_first_line() -> None:
    """A worker that is killed while it writes one."""
    (burst,) = gather(TRACEBACK)

    assert burst.is_traceback
    assert burst.summary == b"Traceback (most recent call last):"


def test_a_group_that_was_cut_off_is_told_by_its_first_line() -> None:
    """As above; the lines of its frames are no summary."""
    (burst,) = gather('  + Exception Group Traceback (most recent call last):\n  |   File "a"')

    assert burst.summary.startswith(b"  + Exception Group")


def test_a_burst_is_bounded() -> None:
    """A worker that indents everything it prints must not be collected for ever."""
    lines = gather("head\n" + " x\n" * (MAX_LINES + 5))
    large = gather("head\n" + (" " * 60_000 + "\n") * 10)

    assert [len(burst.lines) for burst in lines] == [MAX_LINES, 6]
    assert all(len(burst.text) <= MAX_BYTES for burst in large)
    assert len(large) == 3
