"""Keep a running picture of some logs: what was added, what is new, what is wrong."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path

from .follow import Follower
from .levels import Level, level_of_name
from .mining import TemplateMine
from .models import FollowedLine, WatchedPicture
from .ranking import judge
from .sources import NoSuchLogError, find_logs
from .summary import describe

MAX_FILES = 50
MAX_TEMPLATES = 2000
MAX_RECENT = 50
MAX_PROBLEMS = 10
WARM_UP_BYTES = 256 * 1024


class Watcher:
    """Follows every log behind some paths. `look` blocks: call it in a thread, one at a time.

    Memory is bounded: `MAX_FILES` tails, `MAX_TEMPLATES` templates, `MAX_RECENT` lines.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = list(paths)
        self._mine = TemplateMine(MAX_TEMPLATES)
        self._followers: dict[Path, Follower] = {}
        self._recent: deque[FollowedLine] = deque(maxlen=MAX_RECENT)
        self._rounds = 0
        self._error: str | None = None

    def look(self) -> list[FollowedLine]:
        """Read what was added since the last look; return what deserves attention."""
        self._rounds += 1
        remarkable = [line for line in self._read() if _is_remarkable(line)]
        self._recent.extend(remarkable)
        return remarkable

    def picture(self) -> WatchedPicture:
        """Return what was seen so far."""
        problems = [one for one in judge(self._mine) if one.template.level >= Level.WARNING]
        return WatchedPicture(
            paths=self._paths,
            rounds=self._rounds,
            lines=self._mine.total,
            templates=len(self._mine.templates),
            problems=[describe(one, self._mine.total) for one in problems[:MAX_PROBLEMS]],
            recent=list(self._recent),
            files=[str(path) for path in self._followers],
            error=self._error,
        )

    def close(self) -> None:
        """Close every file; idempotent."""
        for follower in self._followers.values():
            follower.close()
        self._followers.clear()

    def _read(self) -> list[FollowedLine]:
        self._find()
        return [line for follower in self._followers.values() for line in follower.step()]

    def _find(self) -> None:
        try:
            files, _ = find_logs(self._paths, MAX_FILES)
        except NoSuchLogError as exc:
            self._error = str(exc)
            return
        self._error = None
        for file in files:
            if file.path in self._followers or len(self._followers) >= MAX_FILES:
                continue
            follower = Follower(file.path, self._mine)
            try:
                follower.start(WARM_UP_BYTES)
            except OSError:
                continue
            self._followers[file.path] = follower


def _is_remarkable(line: FollowedLine) -> bool:
    return line.kind == "line" and (line.is_new or level_of_name(line.level) >= Level.WARNING)
