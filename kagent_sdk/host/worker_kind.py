"""What the pool needs to know of the kind of worker that it runs: a port with two sides.

`kagent_sdk.host.entrypoint_worker` runs the agent's entrypoint and speaks frames with it;
`kagent_sdk.host.command_worker` runs any program and hears its notifications.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kagent_sdk.errors import ProtocolError
from kagent_sdk.host.place import Place
from kagent_sdk.host.worker_process import WorkerProcess

if TYPE_CHECKING:
    from kagent_sdk.sandbox.report import LaunchReport


@dataclass(frozen=True, slots=True)
class WorkerEvents:
    """What a kind tells the pool of one worker.

    Attributes:
        on_lost: its connection has ended, with the reason if it was ours.
        on_stacks: a dump of its threads came.
        on_launched: it said of its confinement what there is to say.
        kill: it must be ended, for this reason.
    """

    on_lost: Callable[[ProtocolError | None], None]
    on_stacks: Callable[[str], None]
    on_launched: Callable[[LaunchReport], None]
    kill: Callable[[str], None]


class WorkerKind(Protocol):
    """How workers are started, listened to and ended."""

    def prepare(self) -> AbstractContextManager[None]:
        """Hold what the workers need outside their processes, for as long as there are workers.

        Raises:
            StartupError: it cannot be had.
        """
        ...

    def share_secrets(self, places: Sequence[Place]) -> None:
        """Let the workers of these places know the secrets that they may, after a rotation."""
        ...

    def spawn(self) -> WorkerProcess:
        """Start a worker in a process group of its own.

        Raises:
            OSError: descriptors, processes or memory are used up; nothing stays open.
        """
        ...

    def attach(
        self, place: Place, process: WorkerProcess, events: WorkerEvents
    ) -> AbstractAsyncContextManager[None]:
        """Listen to the worker of a place, and keep its pulse, for the time of the block."""
        ...

    def ask_to_stop(self, place: Place, within_s: float) -> None:
        """Ask the worker of a place to end by itself; one that cannot be asked is killed."""
        ...

    def kill(self, process: WorkerProcess, reason: str) -> None:
        """End a worker and everything in its process group, at once or nearly so."""
        ...
