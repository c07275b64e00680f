"""What a process has inherited open: Landlock does not bind it, so it is closed first."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing costs more than all of this
    from collections.abc import Iterable

_STANDARD = (0, 1, 2)


def close_all_but(keep: Iterable[int]) -> int:
    """Close every descriptor but 0, 1, 2 and these; return how many were closed.

    Raises:
        OSError: /proc is not there to list them.
    """
    kept = {*_STANDARD, *keep}
    closed = 0
    # The listing's own descriptor is among them, and gone by now.
    for fd in sorted(int(name) for name in os.listdir("/proc/self/fd")):  # noqa: PTH208 - names only
        if fd in kept:
            continue
        try:
            os.close(fd)
        except OSError:
            continue
        closed += 1
    return closed
