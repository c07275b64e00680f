"""Which core the server has, and which the load."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# A nice value: thirty times the weight of other work, which still gets its turn.
PRECEDENCE = -15


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core runs the server and which runs the load; the same one if there is no other."""

    server: int
    load: int

    @property
    def are_apart(self) -> bool:
        """Whether server and load do not share a core."""
        return self.server != self.load


def choose_cores() -> Cores:
    """Take the last allowed core for the server, and the first for the load."""
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(server=allowed[-1], load=allowed[0])


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Run on one core; whatever is started inside inherits that for its whole life."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def take_precedence(pid: int) -> bool:
    """Run a process, with all of its session, ahead of other work on this machine, if allowed.

    A desktop or another build would otherwise be measured too. The kernel groups processes by
    session and shares the cores among the groups, where ``nice`` of a process has no say but this
    file has (sched(7), "The autogroup feature").
    """
    try:
        Path(f"/proc/{pid}/autogroup").write_text(str(PRECEDENCE))
    except OSError:
        return False
    return True
