"""A worker that does nothing but print: 200-byte lines to stdout, then it is killed."""

from __future__ import annotations

import os
import signal
import sys

LINE_BYTES = 200
# As much as a buffered stdout that is busy hands on at a time.
LINES_AT_A_TIME = 40
TEXT = (
    "INFO handled request {number:08d} of customer 4711 in 12 ms: status ok, 3 rows, from cache; "
)


def lines(first: int) -> bytes:
    """Return `LINES_AT_A_TIME` lines, each with its number."""
    texts = (TEXT.format(number=first + n) for n in range(LINES_AT_A_TIME))
    return "".join(f"{text:.<{LINE_BYTES - 1}}\n" for text in texts).encode()


def chatter(fd: int, count: int) -> None:
    """Write so many lines, as fast as they are taken."""
    # Made before and used again and again: the reader is to be measured, not the writer.
    blocks = [lines(first) for first in range(0, 4000, LINES_AT_A_TIME)]
    for number in range(count // LINES_AT_A_TIME):
        rest = memoryview(blocks[number % len(blocks)])
        while rest:
            rest = rest[os.write(fd, rest) :]


if __name__ == "__main__":
    chatter(1, int(sys.argv[1]))
    os.kill(os.getpid(), signal.SIGKILL)
