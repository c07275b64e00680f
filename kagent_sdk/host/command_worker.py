"""Workers that are any program: ``worker.command``, supervised by the protocol of sd_notify(3)."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kagent_sdk.config.models import AgentConfig
from kagent_sdk.errors import StartupError
from kagent_sdk.host.health import SILENT, AwakeClock, Verdict, judge_worker, plan_limits
from kagent_sdk.host.launch_reader import LaunchReader
from kagent_sdk.host.logs.pump import LogPump
from kagent_sdk.host.notices import apply_notification
from kagent_sdk.host.notify_socket import NotifySocket
from kagent_sdk.host.place import Place
from kagent_sdk.host.program_files import ProgramFiles
from kagent_sdk.host.secret_folder import name_files
from kagent_sdk.host.worker_kind import WorkerEvents
from kagent_sdk.host.worker_process import WorkerProcess, clean_environment, make_pipe
from kagent_sdk.host.worker_start import Call, WorkerStart
from kagent_sdk.protocol.notify import Notification, read_notification
from kagent_sdk.sandbox.start import PROGRAM

if TYPE_CHECKING:
    from kagent_sdk.sandbox.report import LaunchReport

ABORT_S = 2.0
"""A program that is stuck may use SIGABRT to say where, as under systemd; then it is killed."""

TRIGGERED = "watchdog_trigger"
ABORTED = frozenset({str(Verdict.STUCK), TRIGGERED})


@dataclass(frozen=True, slots=True)
class CommandProcess(WorkerProcess):
    """A process that runs a program.

    Attributes:
        notify: hears its notifications.
    """

    notify: NotifySocket

    def discard(self) -> None:
        """End a program that nobody has listened to yet, and close what leads to it."""
        self.kill()
        self.notify.close()
        for descriptor in (self.report_fd, self.stdout_fd, self.stderr_fd):
            os.close(descriptor)


class CommandWorkers:
    """The `kagent_sdk.host.worker_kind.WorkerKind` of ``worker.command``.

    Args:
        start: how they are started.
        files: where its sockets and secrets are.
        pump: told of what they say.
        clock: of all stamps.
        on_change: called when one became ready or is about to end.
    """

    def __init__(
        self,
        start: WorkerStart,
        *,
        files: ProgramFiles,
        pump: LogPump,
        clock: AwakeClock,
        on_change: Callable[[], None],
    ) -> None:
        config = start.config
        assert config.worker.command is not None
        self._start = start
        self._config = config
        self._command = config.worker.command
        self._waits_for_ready = config.worker.notify
        self._watchdog_s = config.worker.watchdog_s
        self._limits = plan_limits(config)
        self._files = files
        self._pump = pump
        self._clock = clock
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self.share_secrets([])

    # WorkerKind

    def prepare(self) -> AbstractContextManager[None]:
        """Hold the files of all generations; see `ProgramFiles.held`."""
        return self._files.held()

    def share_secrets(self, places: Sequence[Place]) -> None:
        """Write the secrets that the programs may know, where all of them look."""
        self._files.share(self._config.secrets.expose)

    def spawn(self) -> WorkerProcess:
        """Start the program.

        Raises:
            OSError: descriptors, processes or memory are used up; nothing stays open.
        """
        with ExitStack() as theirs, ExitStack() as ours:
            notify = self._files.make_socket()
            ours.callback(notify.close)
            stdout_read, stdout_write = make_pipe(ours, theirs)
            stderr_read, stderr_write = make_pipe(ours, theirs)
            call = Call(
                PROGRAM,
                self._command,
                self._environment(notify.path),
                stdout=stdout_write,
                stderr=stderr_write,
                shared=self._files.shared(),
            )
            started = self._start.start(call, ours, theirs)
            ours.pop_all()
        return CommandProcess(
            started.popen,
            stdout_read,
            stderr_read,
            started.report_fd,
            started.is_wrapped,
            notify,
        )

    @asynccontextmanager
    async def attach(
        self, place: Place, process: WorkerProcess, events: WorkerEvents
    ) -> AsyncIterator[None]:
        """Listen to the program of a place for the time of the block."""
        assert isinstance(process, CommandProcess)
        place.connection_lost.set()  # there is none to wait for
        launch = LaunchReader(
            process.report_fd, lambda report: self._on_report(place, process, report, events)
        )
        process.notify.listen(
            process.pid,
            lambda datagram: self._on_datagram(place, datagram, events),
            lambda: self._on_refused(place),
        )
        try:
            yield
        finally:
            process.kill()
            process.notify.close()
            launch.close()

    def ask_to_stop(self, place: Place, within_s: float) -> None:
        """Send SIGTERM to the program and its process group."""
        if place.process is not None:
            place.process.signal_group(signal.SIGTERM)

    def kill(self, process: WorkerProcess, reason: str) -> None:
        """End a program; a stuck one by SIGABRT first, so that it can show where."""
        if reason not in ABORTED:
            process.kill()
            return
        process.signal_group(signal.SIGABRT)
        self._loop.call_later(ABORT_S, process.kill)

    # What comes from a program

    def _on_report(
        self, place: Place, process: CommandProcess, report: LaunchReport, events: WorkerEvents
    ) -> None:
        events.on_launched(report)
        if report.program_error:
            self._pump.log(
                "error", "worker_not_started", worker=place.index, error=report.program_error
            )
        elif (
            report.error is None
            and not self._waits_for_ready
            and place.process is process
            and process.popen.returncode is None
        ):
            self._apply(place, Notification(is_ready=True))

    def _on_datagram(self, place: Place, datagram: bytes, events: WorkerEvents) -> None:
        said = read_notification(datagram)
        if said.status is not None:
            # Before it is cut and cleaned, for what is left of a secret would not be found.
            place.status_text = read_notification(self._pump.redactor.redact(datagram)).status or ""
        if said.errno is not None:
            self._pump.log("warning", "worker_errno", worker=place.index, errno=said.errno)
        if said.is_reloading:
            self._pump.log("info", "worker_reloading", worker=place.index)
        self._apply(place, said)
        if said.has_trigger and place.kill_reason is None:
            place.was_stuck = True
            events.kill(TRIGGERED)

    def _apply(self, place: Place, said: Notification) -> None:
        before = place.pulse
        if before is None:
            return
        now_s = self._clock.read(self._loop.time())
        place.pulse = apply_notification(before, said, now_s, self._limits)
        was_silent = judge_worker(now_s, before, self._limits) in SILENT
        if before.ready_at_s is None and place.is_ready:
            place.was_stuck = False
            self._tell(place, "worker_ready")
        elif before.leaving_at_s is None and place.pulse.leaving_at_s is not None:
            self._tell(place, "worker_stopping")
        elif was_silent and judge_worker(now_s, place.pulse, self._limits) is Verdict.ALIVE:
            self._tell(place, "worker_recovered")

    def _tell(self, place: Place, event: str) -> None:
        self._pump.log("info", event, worker=place.index)
        self._on_change()

    def _on_refused(self, place: Place) -> None:
        self._pump.log("warning", "notification_refused", worker=place.index)

    def _environment(self, socket: Path) -> dict[str, str]:
        environment = clean_environment(self._start.directory, os.environ) | self._start.environment
        environment["NOTIFY_SOCKET"] = str(socket)
        if self._watchdog_s is not None:
            # The launcher adds WATCHDOG_PID: it knows its own.
            environment["WATCHDOG_USEC"] = str(round(self._watchdog_s * 1_000_000))
        if self._files.credentials is not None:
            environment["CREDENTIALS_DIRECTORY"] = str(self._files.credentials)
        return environment


def check_command(directory: Path, config: AgentConfig) -> None:
    """See that the program of ``worker.command`` is there before anything is started.

    Raises:
        StartupError: it is not.
        VaultError: an exposed secret cannot be a file.
    """
    command = config.worker.command
    assert command is not None
    name_files(config.secrets.expose)
    # A name with a slash is looked for in the program's folder, which is the agent's.
    program = str(directory / command[0]) if "/" in command[0] else command[0]
    if shutil.which(program) is None:
        where = directory if "/" in command[0] else "PATH"
        raise StartupError(f"worker.command: there is no program {command[0]!r:.200} in {where}")
