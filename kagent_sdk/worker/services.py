"""What all tasks and loops of a worker share."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import Protocol

from kagent_sdk.context import Secrets
from kagent_sdk.protocol.manifest import Welcome
from kagent_sdk.worker.calls import Calls
from kagent_sdk.worker.connection import Connection
from kagent_sdk.worker.mailbox import Mailbox
from kagent_sdk.worker.output import Output, installed_output
from kagent_sdk.worker.state import StateRequests
from kagent_sdk.worker.threads import Threads


class RunningTask(Protocol):
    """A task that has not been answered: what the host may still ask of it.

    Attributes:
        job: the asyncio job that it runs in, if any.
    """

    job: asyncio.Task[None] | None

    def cancel(self, reason: str) -> None:
        """Ask the author's code to stop: ``reason`` is the CANCEL frame's."""

    def interrupt(self) -> None:
        """Ask again, harder."""

    def acknowledge(self, count: int) -> None:
        """Take an ACK for that many events."""


@dataclass(slots=True)
class Services:
    """Made once, when the host has said WELCOME.

    Attributes:
        lock: held for an instant while a task makes what its threads share.
        running: the tasks that have not been answered, by call number.
        output: what the streams of this process share.
    """

    loop: asyncio.AbstractEventLoop
    connection: Connection
    mailbox: Mailbox
    threads: Threads
    calls: Calls
    state: StateRequests
    secrets: Secrets
    max_output_bytes: int
    event_window: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    running: dict[int, RunningTask] = field(default_factory=dict)
    output: Output = field(default_factory=installed_output)


def make_services(
    welcome: Welcome, loop: asyncio.AbstractEventLoop, connection: Connection
) -> Services:
    """Make what the host's WELCOME allows; in the loop's thread."""
    mailbox = Mailbox(loop)
    return Services(
        loop,
        connection,
        mailbox,
        Threads(welcome.threads, "task", mailbox),
        Calls(connection, mailbox, welcome.max_output_bytes),
        StateRequests(connection, mailbox),
        Secrets(welcome.secrets),
        welcome.max_output_bytes,
        welcome.event_window,
    )
