"""Where the items of a called task go: to stdout as they come, or into its output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kagent_sdk.cli.boundary import CommandError, UnreachableError
from kagent_sdk.cli.output import say
from kagent_sdk.cli.text import safe_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kagent_sdk.cli.progress import ProgressBar
    from kagent_sdk.cli.task_stream import TaskUpdate

MAX_KEPT_BYTES = 16 * 1024 * 1024
"""Items that are kept to be printed as one value; more of them are for ``--stream``."""


class ItemSink:
    """Takes the updates of one task.

    Args:
        bar: shows the progress.
        prints: write each item to stdout at once, instead of keeping it.
    """

    def __init__(self, bar: ProgressBar, *, prints: bool) -> None:
        self._bar = bar
        self._prints = prints
        self._items: list[object] = []
        self._kept_bytes = 0
        self._is_whole = True
        self.has_printed = False

    def drain(self, updates: Iterable[TaskUpdate]) -> dict[str, Any]:
        """Take all updates and return the task, which is the last one.

        Raises:
            UnreachableError: the last update is no task.
        """
        task: object = None
        for update in updates:
            if update.kind == "event":
                self._take_item(update)
            elif update.kind == "progress":
                self._bar.show(update.data)
            elif update.kind == "gap":
                self._take_gap(update.data)
            elif update.kind == "task":
                task = update.data
        if not isinstance(task, dict):
            raise UnreachableError("the agent's answer is not a task; is the address right?")
        return task

    def output_of(self, task: dict[str, Any]) -> object:
        """Return the task's output; of a stream that was too long to be kept there, its items.

        Raises:
            CommandError: not even the items are all here.
        """
        output: object = task.get("output")
        if output is not None or (self._is_whole and not self._items):
            return output
        if not self._is_whole:
            raise CommandError(
                "the stream is too long to be printed as one value; add --stream",
                code="stream_too_long",
            )
        return self._items

    def _take_item(self, update: TaskUpdate) -> None:
        if self._prints:
            self._bar.write_line(safe_json(update.data))
            self.has_printed = True
            return
        self._kept_bytes += update.size_bytes
        if self._kept_bytes > MAX_KEPT_BYTES:
            self._is_whole = False
            self._items.clear()
        elif self._is_whole:
            self._items.append(update.data)

    def _take_gap(self, data: object) -> None:
        missed = data.get("missed") if isinstance(data, dict) else None
        self._is_whole = False
        if self._prints:
            say(f"{missed if isinstance(missed, int) else 'some'} items were missed")
