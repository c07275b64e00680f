"""Whose code is running: set in a job or thread, inherited by its jobs."""

from __future__ import annotations

from contextvars import ContextVar

from kagent_sdk.context.loop import LoopContext
from kagent_sdk.context.task import TaskContext

CURRENT_TASK: ContextVar[TaskContext | None] = ContextVar("kagent_current_task", default=None)
"""The task that the running code belongs to, if any."""

CURRENT_LOOP: ContextVar[LoopContext | None] = ContextVar("kagent_current_loop", default=None)
"""The loop that the running code belongs to, if any."""


def current_owner() -> TaskContext | LoopContext | None:
    """Return the task or loop that the running code belongs to, if any."""
    return CURRENT_TASK.get() or CURRENT_LOOP.get()
