"""The streams of the command line."""

from __future__ import annotations

import sys
from io import TextIOWrapper


def prepare_streams() -> None:
    """Make stdout and stderr plainer, not failing, in an encoding without dots and bars."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
