"""What real interpreters write about one error is one record."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kagent_sdk.host.logs.bursts import Burst


def gather(text: str) -> list[Burst]:
    """Return the bursts of a text."""
    bursts: list[Burst] = []
    for line in text.encode().removesuffix(b"\n").split(b"\n"):
        if not bursts or not bursts[-1].takes(line):
            bursts.append(Burst(line, b"now"))
    return bursts


def run_python(code: str) -> str:
    """Return what a program writes to stderr."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr


CHAINED = "try:\n try:\n  1/0\n except Exception as e:\n  raise KeyError('k') from e\nexcept Exception:\n raise OSError('last')\n"
GROUP = "raise ExceptionGroup('some', [ValueError('a'), ExceptionGroup('in', [OSError('b')])])\n"
GROUP_FROM = f"try:\n 1/0\nexcept Exception:\n {GROUP}"
FROM_GROUP = f"try:\n {GROUP}except Exception as e:\n raise RuntimeError('after') from e\n"
CRASH = "import ctypes, threading, time\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()\nctypes.string_at(0)\n"


@pytest.mark.parametrize(
    ("code", "summary"),
    [
        ("raise ValueError('boom')", "ValueError: boom"),
        ("raise ValueError", "ValueError"),
        ("def f():\n class Own(Exception): pass\n raise Own('x')\nf()", "f.<locals>.Own: x"),
        (CHAINED, "OSError: last"),
        (GROUP, "ExceptionGroup: some (2 sub-exceptions)"),
        (GROUP_FROM, "ExceptionGroup: some (2 sub-exceptions)"),
        (FROM_GROUP, "RuntimeError: after"),
        ("def f(): return f()\nf()", "RecursionError: maximum recursion depth exceeded"),
        ("if True print()", "SyntaxError: invalid syntax"),
        ("import threading\nt=threading.Thread(target=lambda: 1/0)\nt.start()\nt.join()",
         "ZeroDivisionError: division by zero"),
        ("class A:\n def __del__(self): 1/0\na=A()\ndel a", "ZeroDivisionError: division by zero"),
        ("import logging\ntry: 1/0\nexcept Exception: logging.exception('failed')",
         "ZeroDivisionError: division by zero"),
        (CRASH, "Fatal Python error: Segmentation fault"),
        ("import os, faulthandler\nfaulthandler.dump_traceback(all_threads=False)", None),
    ],
)  # fmt: skip
def test_what_the_interpreter_writes_about_one_error_stays_together(
    code: str, summary: str | None
) -> None:
    """A traceback in twenty records can neither be read nor counted."""
    text = run_python(code)
    bursts = gather(text)

    assert len(bursts) == 1, text
    assert bursts[0].is_traceback
    assert bursts[0].is_fatal == (code is CRASH)
    assert bursts[0].text.decode() == text.removesuffix("\n")
    if summary is not None:
        assert bursts[0].summary.decode() == summary
