"""An agent that reads log files so that people need not: it mines templates and ranks surprises.

``LOG_TRIAGE_WATCH`` names what the loop `watch` keeps an eye on: files, globs and folders, with
colons between them.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

from kagent_sdk import Agent, LoopContext, TaskContext, TaskError, TaskInterrupted
from pydantic import Field
from triage.follow import Follower
from triage.levels import level_of_name
from triage.mining import TemplateMine
from triage.models import (
    FollowedLine,
    LevelName,
    LogPath,
    TriageReport,
    TriageRequest,
    WatchedPicture,
)
from triage.report import write_report
from triage.sources import NoSuchLogError, find_logs, nearest_paths
from triage.summary import summarise
from triage.survey import SurveyLimits, SurveyStoppedError, survey_logs
from triage.watch import Watcher

WATCH_EVERY_S = 2.0
POLL_S = 0.2
"""Between two looks at a followed file: the pace at which a person reads."""

FOLLOW_TEMPLATES = 2000

agent = Agent()
watcher = Watcher(os.environ.get("LOG_TRIAGE_WATCH", "/var/log").split(os.pathsep))
# The loop and the capability `watched` run in different threads.
watcher_lock = threading.Lock()


@agent.capability(idempotent=True, timeout_s=3600, max_concurrency=2, tags=("logs",))
def triage(request: TriageRequest, ctx: TaskContext) -> TriageReport:
    """Read log files and report what a person should look at first.

    Finds the templates of all messages and ranks them by surprise: errors, rare and new messages,
    bursts, streams that went quiet.
    """
    started_s = time.monotonic()
    try:
        files, skipped = find_logs(request.paths, request.max_files)
    except NoSuchLogError as exc:
        raise not_found(exc) from None
    if not files:
        reasons = {str(file.path): file.reason for file in skipped}
        raise TaskError(
            "nothing_to_read", "none of the files can be read", details=reasons, status=422
        )
    since_s = request.since.timestamp() if request.since else None
    limits = SurveyLimits(request.max_bytes, request.max_lines, request.max_templates, since_s)
    try:
        survey = survey_logs(
            files, limits, progress=ctx.progress, is_stopped=lambda: bool(ctx.cancelled)
        )
    except SurveyStoppedError:
        raise TaskInterrupted from None
    took_s = time.monotonic() - started_s
    report = summarise(survey, skipped, top=request.top, took_s=took_s)
    text = write_report(report, style=request.style, width=request.width)
    ctx.log.info("triage_done", files=len(files), lines=report.lines, verdict=report.verdict)
    return report.model_copy(update={"report": text})


@agent.capability(timeout_s=86_400, on_disconnect="cancel", tags=("logs",))
async def follow(
    ctx: TaskContext,
    *,
    path: Annotated[LogPath, Field(description="The file.")],
    backlog: Annotated[int, Field(ge=0, le=1000, description="Records to show first.")] = 10,
    level: Annotated[LevelName, Field(description="Leave out what is below.")] = "unknown",
    only_new: Annotated[bool, Field(description="Only the first of each template.")] = False,
    for_s: Annotated[float | None, Field(gt=0, le=86_400, description="End after so long.")] = None,
) -> AsyncIterator[FollowedLine]:
    """Follow a growing log file, through rotation too, and classify each record by its template."""
    follower = Follower(Path(path), TemplateMine(FOLLOW_TEMPLATES))
    floor = level_of_name(level)
    deadline_s = time.monotonic() + (for_s or float("inf"))
    try:
        known = await asyncio.to_thread(start, follower, path)
        await ctx.progress(None, f"{len(known):,} records known, waiting for more")
        for line in known[len(known) - backlog :] if backlog < len(known) else known:
            yield line.model_copy(update={"is_new": False})
        while time.monotonic() < deadline_s:
            for line in await asyncio.to_thread(follower.step):
                if line.kind != "line" or (
                    level_of_name(line.level) >= floor and (line.is_new or not only_new)
                ):
                    yield line
            await asyncio.sleep(POLL_S)
    finally:
        follower.close()


@agent.capability(tags=("logs",))
def watched() -> WatchedPicture:
    """Return what the loop `watch` has seen since the agent started."""
    with watcher_lock:
        return watcher.picture()


@agent.loop(every_s=WATCH_EVERY_S)
def watch(ctx: LoopContext) -> None:
    """Look at the watched logs and keep the picture up to date. Sync: it runs in a thread."""
    with watcher_lock:
        remarkable = watcher.look()
    for line in remarkable:
        ctx.log.info("remarkable_line", file=line.file, level=line.level, template=line.number)


@agent.on_shutdown
def close_files() -> None:
    """Close what the loop has open."""
    with watcher_lock:
        watcher.close()


def start(follower: Follower, path: str) -> list[FollowedLine]:
    """Open the file of a follower; return the records at its end."""
    try:
        return follower.start()
    except FileNotFoundError:
        raise not_found(NoSuchLogError(path, nearest_paths(path))) from None
    except OSError as exc:
        raise TaskError("not_readable", f"{path}: {exc.strerror}", status=422) from None


def not_found(exc: NoSuchLogError) -> TaskError:
    """Say that nothing is there, and what the caller may have meant."""
    hint = f"; the nearest is {exc.nearest[0]}" if exc.nearest else ""
    return TaskError(
        "no_such_log",
        f"{exc}{hint}",
        details={"path": exc.path, "nearest": exc.nearest},
        status=404,
    )


if __name__ == "__main__":
    agent.run()
