"""A real nats-server with JetStream: killed and started again on the same port and store."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

from tests.integration.waiting import wait_until


class NatsServer:
    """One server in a folder of its own.

    Attributes:
        url: where clients find it; the same after every start.
        pid: of the process that runs now.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._port = -1

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"nats://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        """The port for clients."""
        return self._port

    @property
    def pid(self) -> int:
        """The number of the process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it; it takes clients when this returns. A free port is chosen the first time."""
        ports = self._folder / "ports"
        ports.mkdir(exist_ok=True)
        with (self._folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("nats-server", "--jetstream", "--store_dir", str(self._folder / "store")),
                    *("--addr", "127.0.0.1", "--port", str(self._port)),
                    *("--ports_file_dir", str(ports), *self._options),
                ],
                stdout=log,
                stderr=log,
            )
        file = ports / f"nats-server_{self._process.pid}.ports"
        process = self._process

        def is_up() -> bool:
            assert process.poll() is None, (self._folder / "nats.log").read_text()
            return file.exists() and file.read_text().rstrip().endswith("}")

        wait_until(is_up, 20)
        self._port = int(json.loads(file.read_text())["nats"][0].rsplit(":", 1)[1])

    def kill(self) -> None:
        """Kill it as a machine that loses power does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        assert self._process.wait(10) == -signal.SIGKILL

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(20)
