"""Tells what happens in a fleet: lines for people, JSON for programs, from a thread of its own.

A terminal may stand still (Ctrl-S) and a pipe may be full: the orchestrator's loop waits for neither.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from kagent_sdk.protocol.headers import format_time

if TYPE_CHECKING:
    from kagent_sdk.orchestrator.fleet.news import News

MAX_WAITING = 10_000
FLUSH_S = 2.0
SETTLED = frozenset({"ready", "failed", "waiting"})

Documents = Callable[[], list[dict[str, Any]]]


class FleetOutput:
    """Writes to stdout.

    Args:
        as_json: a line of JSON for everything; else lines and a table for people.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._write, name="fleet-output", daemon=True)
        self._documents: Documents = list
        self._is_settled = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._put(None)
        self._thread.join(FLUSH_S)

    def watch(self, documents: Documents) -> None:
        """Say where the state of all replicas is to be had, on the loop."""
        self._documents = documents

    def tell(self, news: News) -> None:
        """Take note of something that happened; on the loop, at once."""
        at_s = time.time()
        if self._as_json:
            self._put(lambda: _print_json(news, at_s))
            return
        self._put(lambda: _print_line(news, at_s))
        if not self._is_settled:
            documents = self._documents()
            self._is_settled = _all_settled(documents)
            if self._is_settled:
                self._put(lambda: _print_table(documents))

    def _put(self, action: Callable[[], None] | None) -> None:
        with suppress(queue.Full):  # nobody has read for long
            self._queue.put_nowait(action)

    def _write(self) -> None:
        while (action := self._queue.get()) is not None:
            try:
                action()
            except OSError:
                return  # nobody reads any more


def _all_settled(documents: list[dict[str, Any]]) -> bool:
    if any(
        agent["operation"] is None or agent["operation"]["state"] == "running"
        for agent in documents
    ):
        return False
    replicas = [one for agent in documents for one in agent["replicas"]]
    return bool(replicas) and all(one["state"] in SETTLED for one in replicas)


def _print_json(news: News, at_s: float) -> None:
    from kagent_sdk.cli.output import print_json  # noqa: PLC0415 - not for help

    print_json({"at": format_time(at_s), **news.document()})


def _print_line(news: News, at_s: float) -> None:
    from kagent_sdk.cli.output import make_console  # noqa: PLC0415 - rich
    from kagent_sdk.cli.screens.fleet import describe_news  # noqa: PLC0415

    line = describe_news(news, datetime.fromtimestamp(at_s).strftime("%H:%M:%S"))  # noqa: DTZ006 - a person's clock
    if line is not None:
        make_console().print(line, soft_wrap=True)


def _print_table(documents: list[dict[str, Any]]) -> None:
    from kagent_sdk.cli.output import print_screen  # noqa: PLC0415
    from kagent_sdk.cli.screens.fleet import fleet_table  # noqa: PLC0415

    print_screen("")
    print_screen(fleet_table(documents))
    print_screen("")
